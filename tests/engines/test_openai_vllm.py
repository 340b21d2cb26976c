"""Budget forcing over a real `vllm serve`, against the embedded engine: fp32, greedy, same ids."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

pytest.importorskip("vllm")
pytest.importorskip("aiohttp")
pytest.importorskip("torch")

from tests.engines.served import NEAR, compare


def test_rounds_over_a_real_server_give_the_embedded_engines_ids(tmp_path) -> None:
    found = compare(8, log=tmp_path / "server.log")
    dialect = found["dialect"]
    assert dialect.takes_ids and dialect.returns_ids and dialect.stops_at_ids and dialect.biases
    assert dialect.logprobs and dialect.logprobs_of_ids and dialect.max_context == 1024
    assert {"wait", "minimum", "end"} <= set(found["events"])
    assert found["server"] == {}
    for one in found["near_ties"]:
        print("near tie:", one)
        assert one["gap"] < NEAR, one
    assert found["equal"] >= 0.98 * found["requests"]
