"""Budget forcing by and over `slowthink serve`, compared with the embedded engine: fp32, greedy."""

from __future__ import annotations

import pytest

from tests.needs import needs

pytestmark = [
    pytest.mark.slow, pytest.mark.filterwarnings("ignore"), needs("vllm", "aiohttp", "torch"),
]  # fmt: skip


def test_slowthink_serve_gives_the_embedded_engines_ids_in_both_modes(tmp_path) -> None:
    from tests.engines.served import NEAR_TIE, compare

    figures = compare(8, log=tmp_path / "server.log")
    features = figures["rounds"]["features"]
    assert (
        features.takes_ids
        and features.returns_ids
        and features.stops_at_ids
        and features.logit_bias
    )
    assert features.logprobs and features.logprobs_of_ids and features.max_context == 1024
    for mode, run in figures.items():
        assert {"wait", "minimum", "end"} <= set(run["events"]), mode
        assert run["server"] == {}, mode
        for tie in run["near_ties"]:
            print("near tie,", mode, tie)
            assert tie["gap"] < NEAR_TIE, tie
        assert run["equal"] >= 0.98 * run["requests"], mode
