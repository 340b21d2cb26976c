"""Budget forcing by and over `slowthink serve`, compared with the embedded engine: fp32, greedy."""

from __future__ import annotations

from dataclasses import replace

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


def test_streams_of_a_real_server_are_the_same_replies(tmp_path, make_problem) -> None:
    """Completions in rounds, with ids and logprobs, and chat replies; one request at a time."""
    from slowthink.engines import open_session
    from slowthink.engines.session import Point, generate
    from slowthink.recipe import EngineConfig
    from slowthink.records import Sampling
    from tests.engines.served import MODEL, SETTINGS, run_jobs, served
    from tests.engines.test_openai_start import chat_job

    settings = {name: SETTINGS[name] for name in ("caps", "waits", "tau 0.02", "plain")}
    replies = []
    with served(tmp_path / "server.log") as url:
        for stream in (False, True):
            endpoints = {"urls": (url,), "max_concurrency": 1, "stream": stream}
            with open_session(MODEL, EngineConfig(kind="openai", endpoints=endpoints)) as session:
                results = run_jobs(session, 2, settings)
                replies.append({name: (r.chain, r.answers, r.cost) for name, r in results.items()})
                assert all(result.error is None for result in results.values())
                assert not session.anomalies
            endpoints |= {"api": "chat", "reasoning_effort": "low"}
            with open_session(MODEL, EngineConfig(kind="openai", endpoints=endpoints)) as session:
                job = chat_job(session, make_problem, points=(Point(40, forced=False),))
                greedy = Sampling(
                    temperature=0.0, top_p=0.9
                )  # at its defaults it would not be sent
                job = replace(job, request=replace(job.request, sampling=greedy))
                result = next(generate(session, [job]))
                replies[-1]["chat", ""] = (result.chain, result.answers, result.cost)
                assert result.error is None and result.cost.decoded > 4
                assert result.chain.reported.num_completion_tokens == result.cost.decoded
    assert replies[0] == replies[1]
