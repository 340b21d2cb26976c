"""Replies that lie, bodies without end, and echoed keys: each is one request's error, never the run's."""

from __future__ import annotations

import copy
import gzip
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from aiohttp import web

from slowthink.engines import open_session
from slowthink.engines.server.bodies import size_limit
from slowthink.engines.server.endpoints import _TemporaryFailure
from slowthink.engines.server.statuses import retry_after_seconds
from slowthink.engines.session import Point, generate
from slowthink.errors import ConfigError, SlowthinkError
from slowthink.recipe import ChatConfig, EngineConfig
from slowthink.recipe.base import EndpointConfig
from slowthink.records import AnswerEnd, Sampling
from tests.engines.test_openai import LONG, make_job, open_toy
from tests.engines.test_openai_start import chat_job
from tests.servers.completions import Behaviour, serve

KEY = "sk-0123456789abcdef"
Reply = dict[str, Any]


def choice_with(**values: Any) -> Callable[[Reply], Reply]:
    """Replaces fields of the choice."""

    def change(reply: Reply) -> Reply:
        changed = copy.deepcopy(reply)
        changed["choices"][0] |= values
        return changed

    return change


def ids_with(value: Any) -> Callable[[Reply], Reply]:
    return lambda reply: choice_with(token_ids=[value, *reply["choices"][0]["token_ids"][1:]])(
        reply
    )


DEEP: Any = json.loads("[" * 300 + "]" * 300)
LIES: dict[str, Callable[[Reply], Any]] = {
    "neither text nor ids": choice_with(text=None, token_ids=None),
    "negative id": ids_with(-1),
    "id of 10^9": ids_with(10**9),
    "id of 2^40": ids_with(2**40),
    "id above the vocabulary": ids_with(258),
    "float id": ids_with(3.5),
    "integral float id": ids_with(3.0),
    "text id": ids_with("3"),
    "null id": ids_with(None),
    "bool id": ids_with(True),
    "nested ids": ids_with([3]),
    "ids as text": choice_with(token_ids="abc"),
    "ids as object": choice_with(token_ids={"a": 1}),
    "text as number": choice_with(text=5),
    "text as list": choice_with(text=["a"]),
    "lone surrogate": choice_with(text="\ud800"),
    "deep choice": choice_with(text=DEEP),
    "other prompt": lambda r: choice_with(
        prompt_token_ids=[9] * len(r["choices"][0]["prompt_token_ids"])
    )(r),
    "other model": lambda reply: reply | {"model": "gpt-2"},
    "model as list": lambda reply: reply | {"model": ["toy"]},
    "usage as list": lambda reply: reply | {"usage": [1]},
    "negative usage": lambda reply: reply | {"usage": {"completion_tokens": -5}},
    "usage as text": lambda reply: reply | {"usage": {"prompt_tokens": "lots"}},
    "no choices": lambda reply: reply | {"choices": []},
    "choices as object": lambda reply: reply | {"choices": {"0": 1}},
    "stop reason as list": choice_with(finish_reason="stop", stop_reason=[1]),
    "stop id of 2^40": choice_with(finish_reason="stop", stop_reason=2**40),
    "logprobs as text": choice_with(logprobs="x"),
    "a list": lambda reply: json.dumps([reply]).encode(),
    "a number": lambda reply: b"3",
    "no JSON": lambda reply: b"<html>",
    "not UTF-8": lambda reply: b"\xff\xfe{}",
    "deep JSON": lambda reply: b'{"choices": ' + b"[" * 200_000,
    "error": lambda reply: {"error": {"message": "Provider returned error", "code": 502}},
    "error as text": lambda reply: {"error": "overloaded"},
    "finish error": choice_with(finish_reason="error"),
    "finish abort": choice_with(finish_reason="abort"),
    "choice error": choice_with(error={"code": 502}),
    "brotli": lambda reply: web.Response(body=b"x", headers={"Content-Encoding": "br"}),
    "broken gzip": lambda reply: web.Response(body=b"x", headers={"Content-Encoding": "gzip"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def toy():
    with serve() as server, open_toy(server, max_retries=0) as session:
        yield server, session


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_reply_that_lies_is_one_requests_error(toy, lie) -> None:
    server, session = toy
    job = make_job(session, "q", points=(Point(6),))
    server.tamper = lie
    result = next(generate(session, [job]))
    server.tamper = None
    assert result.error is not None and "Traceback" not in result.error
    assert result.chain.ids == () and result.answers == ()
    assert len(result.error) < 1500
    assert next(generate(session, [job])).error is None


@pytest.mark.parametrize(
    "logprob", [math.nan, 5.0, 1e9, "x", None], ids=["nan", "positive", "huge", "text", "null"]
)
def test_logprobs_that_are_none_are_an_error(toy, logprob) -> None:
    server, session = toy
    job = make_job(
        session, "q", points=(Point(6),), end_rule="argmax", sampling=Sampling(temperature=1.0)
    )
    server.tamper = lambda reply: choice_with(
        logprobs={"tokens": ["token_id:1"], "top_logprobs": [{"token_id:1": logprob}] * 6}
    )(reply)
    result = next(generate(session, [job]))
    server.tamper = None
    assert result.error is not None


def test_a_bad_reply_is_asked_for_again() -> None:
    with serve() as server, open_toy(server, max_retries=4) as session:
        session._pool.first_pause_seconds = 0.01
        job = make_job(session, "q", points=(Point(6),))
        bad = iter([LIES["error"], LIES["id of 10^9"], LIES["finish error"]])
        server.tamper = lambda reply: next(bad, lambda same: same)(reply)
        assert next(generate(session, [job])).error is None
        assert session.anomalies["an unusable reply"] == 2
        assert session.anomalies["an error in place of a reply"] == 1


def test_an_error_of_the_request_in_a_body_is_not_asked_for_again() -> None:
    with serve() as server, open_toy(server, max_retries=4) as session:
        server.tamper = lambda reply: {"error": {"message": "bad key", "code": 401}}
        before = len(server.bodies)
        result = next(generate(session, [make_job(session, "q", points=(Point(6),))]))
        assert "status 401" in str(result.error) and len(server.bodies) == before + 1


# --- at the start ---------------------------------------------------------------------------------

MODELS: dict[str, Any] = {
    "lots": {"data": [{"id": "toy", "max_model_len": "lots"}]},
    "negative": {"data": [{"id": "toy", "max_model_len": -3}]},
    "huge": {"data": [{"id": "toy", "max_model_len": 1e30}]},
    "list": {"data": [{"id": "toy", "max_model_len": [4096]}]},
    "meta": {"data": [{"id": "toy", "meta": [1]}]},
    "data": {"data": 5},
    "ids": {"data": [{"id": 5}, {"id": None}, 7]},
    "nothing": {},
}  # fmt: skip


@pytest.mark.parametrize("reply", MODELS.values(), ids=MODELS.keys())
def test_a_list_of_models_that_lies_is_an_error_with_a_remedy(reply) -> None:
    with serve() as server, pytest.raises(ConfigError, match=r"--set engine\.|expected one"):
        server.models_reply = reply
        open_toy(server)


def test_lies_at_the_start_are_errors() -> None:
    for name in ("negative id", "deep choice", "no choices", "logprobs as text"):
        with serve() as server, pytest.raises(SlowthinkError):
            server.tamper = LIES[name]
            open_toy(server, max_retries=0)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece", [b"x" * 65536, b'{"choices": [' + b"1," * 30_000], ids=["text", "JSON"]
)
def test_a_body_without_end_is_read_up_to_a_limit(toy, piece) -> None:
    server, session = toy
    server.endless = piece
    result = next(generate(session, [make_job(session, "q", points=(Point(6),))]))
    server.endless = None
    assert "a body above the limit" in str(result.error)
    assert server.counts["bytes"] < 20_000_000
    server.counts["bytes"] = 0


def test_a_gzip_bomb_is_unpacked_up_to_a_limit(toy) -> None:
    server, session = toy
    bomb = gzip.compress(b" " * 50_000_000)
    server.tamper = lambda reply: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    result = next(generate(session, [make_job(session, "q", points=(Point(6),))]))
    server.tamper = None
    assert "a body above the limit" in str(result.error)


def test_gzip_is_unpacked(toy) -> None:
    server, session = toy
    server.tamper = lambda reply: web.Response(
        body=gzip.compress(json.dumps(reply).encode()), headers={"Content-Encoding": "gzip"}
    )
    result = next(generate(session, [make_job(session, "q", points=(Point(6),))]))
    server.tamper = None
    assert result.error is None


def test_the_limit_of_a_body_grows_with_what_is_requested() -> None:
    small = size_limit({"prompt": "a", "max_tokens": 8})
    assert 1_000_000 < small < 1_100_000
    assert size_limit({"prompt": "a", "max_tokens": 8, "logprobs": 5}) > small
    assert size_limit({"max_tokens": 8, "logprobs": True, "top_logprobs": 5}) > small
    assert size_limit({"prompt": "a", "max_tokens": 8, "logprobs": "all"}) == small
    assert size_limit({"max_completion_tokens": 8, "stream": True}) > small
    assert size_limit({"prompt": [10_000] * 5000, "max_tokens": 8}) > small + 10 * 5000
    assert size_limit({"prompt": "a", "max_tokens": 32_768}) > 32_768 * 256


# --- secrets, pauses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "echo",
    [
        lambda reply: {"error": {"message": f"bad key {KEY}"}},
        lambda reply: {"error": {"message": f"bad key {KEY}", "code": 403}},
        lambda reply: {"choices": [{"text": 3, "key": KEY}]},
        lambda reply: web.json_response({"error": f"bad {KEY}"}, status=400),
        lambda reply: web.json_response({"error": f"bad {KEY}"}, status=500),
        lambda reply: (
            json.dumps({"error": {"message": KEY, "code": 400}}).replace("s", "\\u0073").encode()
        ),
        lambda reply: reply | {"model": KEY},
    ],
    ids=["200", "200 with 403", "bad reply", "400", "500", "escaped", "as model"],
)
def test_an_echoed_key_is_in_no_message(monkeypatch, echo) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with (
        serve(behaviour=Behaviour(key=KEY)) as server,
        open_toy(server, api_key_env="TOY_KEY", max_retries=0) as session,
    ):
        server.tamper = echo
        result = next(generate(session, [make_job(session, "q", points=(Point(6),))]))
        assert result.error is not None
        assert KEY not in f"{result} {session.anomalies}"


def test_an_echoed_key_is_in_no_text_of_a_reply(monkeypatch, make_problem) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with serve(behaviour=Behaviour(key=KEY, models=("toy",))) as server:
        endpoints = EndpointConfig(
            urls=(server.url,), api="chat", model="toy", api_key_env="TOY_KEY"
        )
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:
            server.chat_message = {"content": f"It is {KEY}.", "reasoning": f"Key {KEY}"}
            job = chat_job(session, make_problem, points=(Point(1000, forced=False),))
            result = next(generate(session, [job]))
            texts = [session.tokenizer.decode(result.answers[0].ids),
                     session.tokenizer.decode(result.chain.ids)]  # fmt: skip
            assert texts == ["It is [secret].", "Key [secret]"]


@pytest.mark.parametrize("value", ["1e308", "inf", "nan", "Fri, 31 Dec 9999 23:59:59 GMT",
                                   "Wed, 21 Oct 2015 07:28:00 +9999", "\x00", "9" * 400])  # fmt: skip
def test_any_retry_after_is_capped(value) -> None:
    with serve() as server, open_toy(server, max_retries=0) as session:
        endpoint = session._pool.endpoints[0]
        seconds = retry_after_seconds(value)
        failure = _TemporaryFailure("status 429", pause_seconds=seconds)
        session._pool._back_off(endpoint, failure, started=0.0, num_retries=0)
        assert endpoint.paused_until < 1e9
        assert seconds is None or endpoint.paused_until - session._runner._loop.time() <= 121


# --- ends by other names --------------------------------------------------------------------------


def test_a_short_reply_without_a_reason_is_an_end() -> None:
    """Text only, and null at every end; `usage` counts the tokens."""
    with serve(behaviour=Behaviour(returns_ids=False, returns_stop_reason=False)) as server:
        with open_toy(server) as session:
            job = make_job(session, "q1", points=(Point(20),), format=LONG)
            expected = next(generate(session, [job]))
        server.tamper = choice_with(finish_reason=None)
        with open_toy(server) as session:
            result = next(
                generate(session, [make_job(session, "q1", points=(Point(20),), format=LONG)])
            )
            assert result.error is None
            assert result.chain.ids == expected.chain.ids
            assert [a.ids for a in result.answers] == [a.ids for a in expected.answers]


def test_a_server_whose_ends_cannot_be_told_is_refused() -> None:
    def bare(reply: Reply) -> Reply:
        return {"choices": [{"text": reply["choices"][0]["text"], "finish_reason": None}]}

    with serve(behaviour=Behaviour(returns_ids=False, takes_ids=False, logprobs=False)) as server:
        server.tamper = bare
        with pytest.raises(ConfigError, match="neither a known `finish_reason` nor"):
            open_toy(server)


T, R = "Six nines are 54.", "It is 54."
CHAT: dict[str, tuple[dict[str, Any], str, str]] = {
    "fields": ({"content": R, "reasoning": T}, T, R),
    "parts": (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": T}]},
                     {"type": "text", "text": R}]}, T, R,
    ),
    "tags": ({"content": f"<think>\n{T}\n</think>\n\n{R}"}, T, R),
    "template-opened": ({"content": f"{T}\n</think>\n\n{R}"}, T, R),
    "brackets": ({"content": f"[THINK]{T}[/THINK]{R}"}, T, R),
    "no thinking": ({"content": R}, "", R),
}  # fmt: skip


@pytest.mark.parametrize(("message", "thinking", "answer"), CHAT.values(), ids=CHAT.keys())
def test_a_chat_message_is_split(chat, make_problem, message, thinking, answer) -> None:
    server, session = chat
    server.chat_message, server.chat_finish = message, "stop"
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),))
    result = next(generate(session, [job]))
    assert session.tokenizer.decode(result.chain.ids) == thinking
    assert session.tokenizer.decode(result.answers[0].ids) == answer


@pytest.mark.parametrize(
    ("finish", "end"),
    [
        ("stop", AnswerEnd.STOP), ("eos", AnswerEnd.STOP), ("end_turn", AnswerEnd.STOP),
        (None, AnswerEnd.STOP), ("max_tokens", AnswerEnd.LENGTH), ("MAX_TOKENS", AnswerEnd.LENGTH),
        ("content_filter", AnswerEnd.LENGTH),
    ],
)  # fmt: skip
def test_the_end_of_a_chat_reply_has_many_names(chat, make_problem, finish, end) -> None:
    server, session = chat
    server.chat_message, server.chat_finish = {"content": R, "reasoning": T}, finish
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),))
    assert next(generate(session, [job])).answers[0].end_reason is end


@pytest.mark.parametrize(
    "message",
    [{"content": "\ud800"}, {"content": "a", "reasoning": "\ud800"}, {"content": 5}, {"content": [7]},
     {"content": [{"type": "image_url", "image_url": "x"}]}, {"content": {"type": {}}}],
)  # fmt: skip
def test_a_chat_message_that_is_no_text_is_an_error(chat, make_problem, message) -> None:
    server, session = chat
    server.chat_message, server.chat_finish = message, "stop"
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),))
    assert "an unusable reply" in str(next(generate(session, [job])).error)


@pytest.mark.parametrize("finish", ["error", "abort"])
def test_a_chat_reply_that_failed_is_asked_for_again(chat, make_problem, finish) -> None:
    server, session = chat
    server.chat_message, server.chat_finish = {"content": "There"}, finish
    before = len(server.bodies)
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),))
    assert "an unusable reply" in str(next(generate(session, [job])).error)
    assert len(server.bodies) == before + 2


def test_template_variables_are_sent_to_a_chat_api(chat, make_problem) -> None:
    server, session = chat
    server.chat_message, server.chat_finish = {"content": R, "reasoning": T}, "stop"
    chat_config = ChatConfig(format="think-tags", template_variables={"enable_thinking": True})
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),), chat=chat_config)
    assert next(generate(session, [job])).error is None
    assert server.bodies[-1]["chat_template_kwargs"] == {"enable_thinking": True}
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "2 + 2?"}]


def test_a_chat_reply_of_another_model_is_an_error(make_problem) -> None:
    """The first reply may name the model otherwise than we do, as hosted APIs do; later ones not."""
    with serve() as server:
        endpoints = EndpointConfig(urls=(server.url,), api="chat", model="toy", max_retries=0)
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:

            def error_of(question: str, model: str | None) -> str | None:
                server.tamper = lambda reply: reply | {"model": model}
                points = (Point(1000, forced=False),)
                job = chat_job(session, make_problem, points=points, question=question)
                return next(generate(session, [job])).error

            assert error_of("a", "toy-2026-01-01") is None
            assert error_of("b", "toy-2026-01-01") is None
            assert error_of("c", None) is None
            assert "names the model 'gpt-2'" in str(error_of("d", "gpt-2"))
            assert session.anomalies["the reply names the model otherwise"] == 1
