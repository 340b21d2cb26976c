"""`load_model` on the replay engine, whatever model is named."""

from __future__ import annotations

from collections.abc import Mapping

import slowthink.sampling.parallel.rollouts
import slowthink.stages.evaluate.arms
import slowthink.stages.filter.difficulty.step  # noqa: F401  # stages keep the real one
from slowthink.engines.replay import ReplaySession, Script


def replay_models(monkeypatch, scripts: Mapping[str, Script]) -> None:
    """Let `load_model` open a session on these scripts until the test ends."""
    monkeypatch.setattr("slowthink.engines.open_session", lambda *_, **__: ReplaySession(scripts))
