"""Statuses of hosted APIs: what is asked again and when, what is not, and what the message says to do."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("aiohttp")

from aiohttp import web

from slowthink.engines import open_session
from slowthink.engines.server.endpoints import EndpointPool
from slowthink.engines.server.request_fields import NOT_GREEDY
from slowthink.engines.server.statuses import pause_seconds
from slowthink.engines.session import Point, generate
from slowthink.errors import ConfigError, EngineError
from slowthink.recipe import EngineConfig
from slowthink.recipe.base import EndpointConfig
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Sampling
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task
from tests.engines.test_openai import make_job, open_toy
from tests.engines.test_openai_start import chat_job
from tests.servers.completions import Behaviour, serve

KEY = "sk-0123456789abcdef"


def open_chat(server: Any, **endpoints: Any) -> Any:
    endpoints = {"urls": (server.url,), "api": "chat", "model": "toy"} | endpoints
    return open_session("toy", EngineConfig(kind="openai", endpoints=endpoints))


def refuse(status: int, text: str = "no", **headers: str) -> Any:
    return lambda _: web.Response(status=status, text=text, headers=headers)


def refuse_in_body(status: int | str, text: str = "no") -> Any:
    return lambda _: {"error": {"message": text, "code": status}}


def refuse_in_stream(status: int | str, text: str = "no") -> Any:
    error = json.dumps(refuse_in_body(status, text)(None))
    return lambda _: f"data: {error}\n\n".encode()


# --- what is not asked again ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "text", "remedy"),
    [
        (400, "no such thing", "change the request"),
        (308, "", "redirects to another address.*Name that address, perhaps with https"),
        (400, "max_tokens: at most 8192", "Lower the budget"),
        (400, "'temperature' does not support 0.6", "temperature: 1, top_p: 1"),
        (400, "unknown provider", "extra_body or reasoning_effort: it names `provider`"),
        (401, "bad key", "Check the key in the environment variable `TOY_KEY`"),
        (402, "Insufficient Balance", "no credit left.*finished requests are kept"),
        (403, "flagged", "the key in `TOY_KEY` may use this model.*filter"),
        (404, "no such model", r"engine\.endpoints\.urls.*engine\.endpoints\.model"),
        (429, '{"code": "insufficient_quota"}', "status 429.*no credit left"),
    ],
)
def test_a_rejection_says_where_what_and_what_to_do(
    monkeypatch, make_problem, status, text, remedy
) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with serve(behaviour=Behaviour(key=KEY)) as server:
        extra = {"provider": {"order": ["a"]}}
        with open_chat(server, api_key_env="TOY_KEY", extra_body=extra) as session:
            server.tamper = refuse(status, text)
            job = chat_job(session, make_problem, points=(Point(99, forced=False),))
            job = replace(job, request=replace(job.request, sampling=Sampling(temperature=0.6)))
            error = str(next(generate(session, [job])).error)
            assert len(server.bodies) == 1 and KEY not in error
            with pytest.raises(AssertionError, match=remedy):  # the message is one line
                raise AssertionError(error.replace("\n", " "))
            assert f"{server.url}/chat/completions, model `toy`: status" in error
            assert "expected 200" in error


@pytest.mark.parametrize(("status", "num_asked"), [(401, 1), (402, 1), (403, 5), (404, 5)])
@pytest.mark.parametrize("refuse", [refuse, refuse_in_body, refuse_in_stream])
def test_a_refused_account_is_not_asked_for_every_job(
    refuse, status, num_asked, make_problem
) -> None:
    with serve() as server, open_chat(server, max_concurrency=1) as session:
        server.tamper = refuse(status)
        jobs = [
            chat_job(session, make_problem, points=(Point(99, forced=False),), question=f"{n}?")
            for n in range(5)
        ]
        assert all(f"status {status}" in str(r.error) for r in generate(session, jobs))
        assert len(server.bodies) == num_asked


@pytest.mark.parametrize("refuse", [refuse_in_body, refuse_in_stream])
def test_a_used_up_account_without_a_status_is_not_asked_again(refuse, make_problem) -> None:
    with serve() as server, open_chat(server, max_concurrency=1) as session:
        server.tamper = refuse("insufficient_quota", "You exceeded your quota. " * 20)
        jobs = [
            chat_job(session, make_problem, points=(Point(99, forced=False),), question=f"{n}?")
            for n in range(3)
        ]
        assert all("no credit left" in str(r.error) for r in generate(session, jobs))
        assert len(server.bodies) == 1


def test_credit_that_ends_in_the_middle_loses_nothing(make_problem, tmp_path) -> None:
    points = (Point(99, forced=False),)
    with serve() as server, Ledger(tmp_path / "l") as ledger:

        def complete() -> None:
            with open_chat(server, max_concurrency=1) as session:
                jobs = [
                    chat_job(session, make_problem, points=points, question=f"{n}?")
                    for n in range(6)
                ]
                tasks = [
                    Task(problem=make_problem(), request=j.request, points=points) for j in jobs
                ]
                assert len(Sampler(session, ledger, tag="t").complete(tasks)) == 6

        server.tamper = lambda reply: refuse(402)(reply) if len(server.bodies) > 3 else reply
        with pytest.raises(EngineError, match=r"(?s)3 of 6 requests failed.*no credit left"):
            complete()
        assert len(server.bodies) == 4
        server.tamper = None
        complete()
        assert len(server.bodies) == 7


def test_an_unset_key_is_an_error_before_any_request(monkeypatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serve() as server, pytest.raises(ConfigError, match="`NO_SUCH_KEY` is not set.*export"):
        server.models_reply = web.Response  # would fail
        open_chat(server, api_key_env="NO_SUCH_KEY")


def test_a_model_that_is_not_listed_is_an_error_before_any_request() -> None:
    with serve() as server:
        with pytest.raises(ConfigError, match=r"does not have `to` \(did you mean `toy`"):
            open_chat(server, model="to")
        assert server.bodies == []


def test_a_chat_api_without_a_list_of_models_takes_the_named_one(make_problem) -> None:
    with serve() as server:
        root = server.url.removesuffix("/v1")  # there is no /models here
        with pytest.raises(ConfigError, match="status 404"):
            open_chat(server, urls=(root,), model=None)
        with open_chat(server, urls=(root,)) as session:
            job = chat_job(session, make_problem, points=(Point(99, forced=False),))
            assert "status 404" in str(next(generate(session, [job])).error)


# --- what is asked again, and when ----------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_failure_that_passes_is_asked_for_again(status, make_problem) -> None:
    with serve() as server, open_chat(server) as session:
        session._pool.first_pause_seconds = 0.01
        failures = iter([refuse(status), refuse(status)])
        server.tamper = lambda reply: next(failures, lambda same: same)(reply)
        job = chat_job(session, make_problem, points=(Point(99, forced=False),))
        assert next(generate(session, [job])).error is None
        assert session.anomalies[f"status {status}"] == 2
        assert (session._pool.endpoints[0].limit < 64) == (status in (429, 503, 529))


@pytest.mark.parametrize(
    ("status", "remedy"), [(429, "Wait, or lower.*max_concurrency"), (500, "See the server's log")]
)
def test_a_failure_that_stays_says_what_to_do(status, remedy, make_problem) -> None:
    with serve() as server, open_chat(server, max_retries=0) as session:
        session._pool.first_pause_seconds = 0.01
        server.tamper = refuse(status)
        job = chat_job(session, make_problem, points=(Point(99, forced=False),))
        error = str(next(generate(session, [job])).error)
        assert (
            f"status {status}, 1 times in a row" in error and "finished requests are kept" in error
        )
        with pytest.raises(AssertionError, match=remedy):
            raise AssertionError(error)


HEADERS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"Retry-After": "3", "x-ratelimit-reset-requests": "9s"}, 3),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"x-ratelimit-reset-requests": "1m30s"}, 90),
    ({"x-ratelimit-reset-tokens": "20ms"}, 0.02),
    ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0",
      "x-ratelimit-reset-tokens": "9s", "x-ratelimit-remaining-tokens": "512"}, 360),
    ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "4",
      "x-ratelimit-reset-tokens": "9.5s", "x-ratelimit-remaining-tokens": "0"}, 9.5),
    ({"X-RateLimit-Reset": "{milliseconds}"}, 40),
    ({"X-RateLimit-Reset": "{seconds}"}, 40),
    ({"anthropic-ratelimit-reset": "{date}"}, 40),
    ({"ratelimit-reset": "7"}, 7),
    ({"x-ratelimit-reset": "soon"}, None),
    ({"x-ratelimit-reset": ""}, None),
    ({"x-ratelimit-reset": "..s"}, None),
    ({"retry-after": "soon", "x-ratelimit-reset": "2"}, 2),
    ({"x-ratelimit-reset": "-4"}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "seconds"), HEADERS)
def test_headers_say_when_to_ask_again(headers, seconds) -> None:
    when = time.time() + 40
    times = {"milliseconds": int(when * 1000), "seconds": int(when),
             "date": datetime.fromtimestamp(when, UTC).isoformat()}  # fmt: skip
    found = pause_seconds({name: value.format(**times) for name, value in headers.items()})
    if seconds is None:
        assert found is None
    else:
        assert found is not None and seconds - 2 < found <= seconds


def test_a_server_at_its_rate_limit_rests_while_another_works() -> None:
    with serve() as limited, serve() as free:

        async def ask() -> None:
            config = EndpointConfig(urls=(limited.url, free.url), max_retries=0)
            async with EndpointPool(config) as pool:
                body = {"model": "toy", "prompt": "a", "max_tokens": 1, "temperature": 0}
                replies = await asyncio.gather(
                    *(pool.post("/completions", body) for _ in range(20))
                )
                assert all(reply["choices"] for reply in replies)
                replies = [await pool.post("/completions", body) for _ in range(5)]

        limited.tamper = refuse(
            429, **{"x-ratelimit-reset-requests": "1m", "x-ratelimit-remaining-requests": "0"}
        )
        started = time.monotonic()
        asyncio.run(ask())
        assert time.monotonic() - started < 5
        assert len(limited.bodies) == 10 and len(free.bodies) == 25


def test_too_many_requests_for_the_credit_that_is_left_wait(make_problem) -> None:
    with serve() as server, open_chat(server, max_retries=0) as session:
        failures = iter([refuse(402, **{"Retry-After": "0.05"})])
        server.tamper = lambda reply: next(failures, lambda same: same)(reply)
        job = chat_job(session, make_problem, points=(Point(99, forced=False),))
        assert next(generate(session, [job])).error is None


# --- fields of a request --------------------------------------------------------------------------


def test_further_fields_are_sent_and_are_part_of_the_identity(make_problem) -> None:
    settings = [{}, {"reasoning_effort": "high"}, {"reasoning_effort": "low"},
                {"extra_body": {"provider": {"order": ["a"]}}, "stream": True}, {"stream": True}]  # fmt: skip
    numerics = []
    for more in settings:
        with serve() as server:
            with open_chat(server, **more) as session:
                job = chat_job(session, make_problem, points=(Point(99, forced=False),))
                assert next(generate(session, [job])).error is None
                numerics.append(session.numerics)
            with open_toy(server, **more) as session:
                assert next(generate(session, [make_job(session, "q")])).error is None
            expected = {k: v for k, v in more.items() if k != "extra_body"} | more.get(
                "extra_body", {}
            )
            assert len(server.bodies) > 5
            assert all(body.items() >= expected.items() for body in server.bodies)
    assert numerics[0] == numerics[4] == "openai-chat/toy/vllm-toy-1"
    assert len(set(numerics)) == 4


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"temperature": 1}, "`temperature` is sent anyway.*sampling.temperature"),
        ({"max_completion_tokens": 9}, "the budget"),
        ({"chat_template_kwargs": {}}, "chat.template_variables"),
        ({"top_k": 20}, "sampling.top_k"),
        ({"repetition_penalty": 1.1}, "one value only"),
        ({"api_key": KEY}, "`api_key` may hold a secret.*api_key_env"),
        ({"provider": {"apiKey": KEY}}, "`apiKey` may hold a secret"),
        ({"headers": [{"Authorization": KEY}]}, "`Authorization` may hold a secret"),
        ({"note": f"Bearer {KEY}"}, "`note` may hold a secret"),
        ({"when": object()}, "JSON"),
    ],
)  # fmt: skip
def test_fields_that_are_ours_and_secrets_are_refused(extra, message) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        EndpointConfig(urls=("http://h/v1",), extra_body=extra)
    assert KEY not in str(error.value)
    endpoints = {"urls": ["http://h/v1"], "extra_body": extra}
    with pytest.raises(ConfigError) as shown:
        parse_recipe({"name": "r", "engine": {"endpoints": endpoints}}, where="r.yaml")
    assert KEY not in str(shown.value) and "engine.endpoints.extra_body" in str(shown.value)


def test_a_chat_api_takes_what_only_completions_set() -> None:
    extra = {
        "top_k": 20,
        "usage": {"include": True},
        "prompt_cache_key": "x",
        "max_tokens_per_step": 4,
    }
    config = EndpointConfig(urls=("http://h/v1",), api="chat", extra_body=extra)
    assert config.request_fields == extra


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("refuse", [refuse, refuse_in_body])
def test_fields_that_a_server_rejects_are_replaced(refuse, stream, make_problem) -> None:
    """As OpenAI's reasoning models want max_completion_tokens, and Mistral no stream_options."""
    with (
        serve(behaviour=Behaviour(context=None)) as server,
        open_chat(server, max_retries=0, stream=stream) as session,
    ):

        def strict(reply: Any) -> Any:
            for name, text in (("max_tokens", "Use 'max_completion_tokens' instead."),
                               ("top_p", "Unsupported parameter: 'top_p'"),
                               ("stream_options", "stream_options: extra inputs")):  # fmt: skip
                if name in server.bodies[-1]:
                    return refuse(400, text)(reply)
            return reply

        server.tamper = strict
        for number in range(2):
            points = (Point(99, forced=False),)
            job = chat_job(session, make_problem, points=points, question=f"{number}?")
            job = replace(job, request=replace(job.request, sampling=Sampling(temperature=1.0)))
            assert next(generate(session, [job])).error is None
            assert server.bodies[-1]["max_completion_tokens"] == 99 + 64
            assert server.bodies[-1]["temperature"] == 1.0
        assert len(server.bodies) == 4 + stream


def test_greedy_decoding_is_requested_and_counted_where_a_model_takes_none(make_problem) -> None:
    with (
        serve(behaviour=Behaviour(context=None)) as server,
        open_chat(server, max_retries=0) as session,
    ):

        def without_temperature(reply: Any) -> Any:
            if "temperature" in server.bodies[-1]:
                return web.Response(status=400, text="'temperature' does not support 0 here")
            return reply

        server.tamper = without_temperature
        job = chat_job(session, make_problem, points=(Point(99, forced=False),))
        job = replace(job, request=replace(job.request, sampling=Sampling()))
        assert next(generate(session, [job])).error is None
        assert server.bodies[0]["temperature"] == 0.0 and "temperature" not in server.bodies[-1]
        assert session.anomalies[NOT_GREEDY] == 1
