"""Budget forcing by and over `slowthink serve`, against the embedded engine: fp32, greedy, same ids."""

from __future__ import annotations

import pytest

from tests.needs import needs

pytestmark = [
    pytest.mark.slow, pytest.mark.filterwarnings("ignore"), needs("vllm", "aiohttp", "torch"),
]  # fmt: skip


def test_slowthink_serve_gives_the_embedded_engines_ids_both_ways(tmp_path) -> None:
    from tests.engines.served import NEAR, compare

    found = compare(8, log=tmp_path / "server.log")
    features = found["rounds"]["features"]
    assert features.takes_ids and features.returns_ids and features.stops_at_ids and features.biases
    assert features.logprobs and features.logprobs_of_ids and features.max_context == 1024
    for way, one in found.items():
        assert {"wait", "minimum", "end"} <= set(one["events"]), way
        assert one["server"] == {}, way
        for tie in one["near_ties"]:
            print("near tie,", way, tie)
            assert tie["gap"] < NEAR, tie
        assert one["equal"] >= 0.98 * one["requests"], way
