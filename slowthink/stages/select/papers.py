"""The papers' counts beside ours: what their funnels came to, and whether the sources are theirs.

{"title": "s1K", "share_same_sources": 0.93, "steps": [{"step": "chosen", "paper": 1000, …}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from slowthink.stages.select.choose import Candidate, matches


def beside(
    method: str, candidates: Sequence[Candidate], ours: Mapping[str, int]
) -> dict[str, Any] | None:
    """The paper's counts with ours by step; None for a method of no paper, or other sources."""
    text = resources.files("slowthink.stages.select").joinpath("papers.yaml").read_text("utf-8")
    paper: dict[str, Any] | None = yaml.safe_load(text).get(method)
    if paper is None:
        return None
    same = sum(matches(one.source, paper["sources"]) for one in candidates)
    if not same:
        return None
    steps = [step | {"ours": ours.get(step["step"])} for step in paper["steps"]]
    return paper | {"steps": steps, "share_same_sources": round(same / len(candidates), 4)}
