"""A real `slowthink serve`: requests whose budget cannot be forced are 400, others are forced, by it
and over it, and compared with the embedded engine: fp32, greedy."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.engines.served import MODEL, NEAR_TIE, SETTINGS, compare, run_jobs, served
from tests.needs import needs

pytestmark = [
    pytest.mark.slow, pytest.mark.filterwarnings("ignore"), needs("vllm", "aiohttp", "torch"),
]  # fmt: skip
BASE = {"slowthink_format": "s1", "slowthink_cap": 8, "slowthink_answer_tokens": 4}


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """The address of one server, for all tests."""
    with served(tmp_path_factory.mktemp("serve") / "log") as url:
        yield url


def post(url: str, body: bytes | dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the reply."""
    if isinstance(body, dict):
        body = json.dumps({"model": MODEL, "prompt": "2 + 2", "max_tokens": 64} | body).encode()
    request = urllib.request.Request(
        f"{url}/completions", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_budget_is_forced(url: str) -> None:
    status, reply = post(url, {"vllm_xargs": BASE, "temperature": 0})
    assert status == 200
    assert reply["usage"]["completion_tokens"] <= 8 + 4 + 12


def raw(arguments: str, more: str = "") -> bytes:
    return f'{{"model": "{MODEL}", "prompt": "2 + 2", {more} "vllm_xargs": {arguments}}}'.encode()


REFUSED: dict[str, bytes | dict[str, Any]] = {
    "beam search": {"vllm_xargs": BASE, "use_beam_search": True, "n": 2},
    "events": {"vllm_xargs": BASE | {"slowthink_events": [5, 0, 0, 2**40]}},
    "known": {"vllm_xargs": BASE | {"slowthink_known": 1e9}},
    "known and closed": {"vllm_xargs": BASE | {"slowthink_known": 2, "slowthink_closed": 500}},
    "log": {"vllm_xargs": BASE | {"slowthink_log": "a"}},
    "beside": {"slowthink_cap": 8},
    "infinity": raw('{"slowthink_cap": Infinity}'),
    "nan": raw('{"slowthink_cap": NaN}'),
    "surrogate": raw('{"slowthink_cap": 8, "slowthink_cue": "\\ud800"}'),
    "surrogate in the name": raw('{"slowthink_\\ud800": 8}'),
    "surrogate in the prompt": raw('{"slowthink_cap": 8}', '"user": "\\ud800",'),
    "n": {"vllm_xargs": BASE, "n": 2, "temperature": 1},
    "penalty": {"vllm_xargs": BASE, "presence_penalty": 1},
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_forced_is_status_400(url: str, body: Any) -> None:
    status, reply = post(url, body)
    assert status == 400, reply
    assert reply["error"]["message"]
    assert post(url, {"max_tokens": 1})[0] == 200  # the engine lives


def test_slowthink_serve_gives_the_embedded_engines_ids_in_both_modes(url: str) -> None:
    figures = compare(3, url)
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
        assert run["equal"] >= run["requests"] - 1, mode


def test_streams_of_a_real_server_are_the_same_replies(url: str, make_problem) -> None:
    """Completions in rounds, with ids and logprobs, and chat replies; one request at a time."""
    from slowthink.engines import open_session
    from slowthink.engines.session import Point, generate
    from slowthink.recipe import EngineConfig
    from slowthink.records import Sampling
    from tests.engines.test_openai_start import chat_job

    settings = {name: SETTINGS[name] for name in ("caps", "waits", "tau 0.02", "plain")}
    replies = []
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
            greedy = Sampling(temperature=0.0, top_p=0.9)  # at its defaults it would not be sent
            job = replace(job, request=replace(job.request, sampling=greedy))
            result = next(generate(session, [job]))
            replies[-1]["chat", ""] = (result.chain, result.answers, result.cost)
            assert result.error is None and result.cost.decoded > 4
            assert result.chain.reported.num_completion_tokens == result.cost.decoded
    assert replies[0] == replies[1]
