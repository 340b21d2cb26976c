"""Budget forcing by and over `slowthink serve`, against the embedded engine: fp32, greedy, same ids."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    # Importing it here would cost every collection four seconds; the server does.
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

pytest.importorskip("aiohttp")
pytest.importorskip("torch")

from tests.engines.served import NEAR, compare


def test_slowthink_serve_gives_the_embedded_engines_ids_both_ways(tmp_path) -> None:
    found = compare(8, log=tmp_path / "server.log")
    dialect = found["rounds"]["dialect"]
    assert dialect.takes_ids and dialect.returns_ids and dialect.stops_at_ids and dialect.biases
    assert dialect.logprobs and dialect.logprobs_of_ids and dialect.max_context == 1024
    for way, one in found.items():
        assert {"wait", "minimum", "end"} <= set(one["events"]), way
        assert one["server"] == {}, way
        for tie in one["near_ties"]:
            print("near tie,", way, tie)
            assert tie["gap"] < NEAR, tie
        assert one["equal"] >= 0.98 * one["requests"], way
