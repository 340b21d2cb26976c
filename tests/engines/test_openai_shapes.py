"""Replies in the shapes of many servers, whole and streamed: thinking, answer, end and usage.

The shapes are written after public documentation: vLLM, DeepSeek, OpenRouter, Ollama, Mistral and
OpenAI, each with the fields that it alone has.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("aiohttp")

from aiohttp import web

from slowthink.engines import open_session
from slowthink.engines.server.bodies import Body, UnusableBody
from slowthink.engines.server.replies import ServerReply, read_reply
from slowthink.engines.session import Point, generate
from slowthink.recipe import EngineConfig
from slowthink.records import AnswerEnd, ChainState, Reported
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task
from tests.engines.test_openai import POINTS, make_job, open_toy
from tests.engines.test_openai_start import chat_job
from tests.servers.completions import Behaviour, serve
from tests.servers.streams import chunk, cut_reply, events

T, R = "17 + 25 is 42. Check: 42 - 25 = 17, 等等。", "The answer is \\boxed{42}."
STOP, LENGTH = AnswerEnd.STOP, AnswerEnd.LENGTH
Json = dict[str, Any]


def usage(thinking: int | None = None, **more: Any) -> Json:
    details = (
        {} if thinking is None else {"completion_tokens_details": {"reasoning_tokens": thinking}}
    )
    return {"prompt_tokens": 9, "completion_tokens": 30, "total_tokens": 39} | details | more


def whole(message: Json, finish: Any = "stop", counts: Json | None = None, **choice: Any) -> Json:
    choice = {
        "index": 0,
        "message": {"role": "assistant"} | message,
        "finish_reason": finish,
    } | choice
    reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "toy"}
    return reply | {"choices": [choice], "usage": counts or usage()}


def counted(thinking: int | None = None, hidden: str | None = None) -> Reported:
    return Reported(
        num_prompt_tokens=9, num_completion_tokens=30, num_thinking_tokens=thinking, hidden=hidden
    )


def mistral(*texts: str) -> list[Json]:
    return [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in texts]


VLLM = {"refusal": None, "tool_calls": [], "annotations": None, "audio": None}
DETAILS = [{"type": "reasoning.text", "text": T, "format": "unknown", "index": 0}]
SUMMARY = [
    {"type": "reasoning.summary", "summary": "Adds.", "format": "openai-responses-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "gAAAA", "id": "rs_1", "index": 1},
]
LIST = {"completion_tokens": 5, "total_tokens": 39}

CHAT: dict[str, tuple[Any, str, str | None, AnswerEnd, Reported]] = {
    # -- in one piece --
    "vllm": (whole({"content": R, "reasoning": T, **VLLM}, stop_reason=None, token_ids=None,
                   counts=usage(20, prompt_tokens_details=None)), T, R, STOP, counted(20)),
    "vllm before 0.11": (whole({"content": R, "reasoning_content": T, **VLLM}), T, R, STOP, counted()),
    "vllm, no parser": (whole({"content": f"<think>\n{T}\n</think>\n\n{R}"}), T, R, STOP, counted()),
    "vllm, truncated": (whole({"content": None, "reasoning": T}, "length"), T, None, LENGTH, counted()),
    "deepseek": (whole({"content": R, "reasoning_content": T}, counts=usage(
        20, prompt_cache_hit_tokens=0, prompt_cache_miss_tokens=9)), T, R, STOP, counted(20)),
    "deepseek, waiting": (b"\n\n\n" + json.dumps(whole({"content": R, "reasoning_content": T})).encode(),
                          T, R, STOP, counted()),
    "openrouter": (whole({"content": R, "reasoning": T, "reasoning_details": DETAILS, "refusal": None},
                         native_finish_reason="stop", counts=usage(20, cost=0.0001)),
                   T, R, STOP, counted(20)),
    "openrouter, details only": (whole({"content": R, "reasoning_details": DETAILS}), T, R, STOP,
                                 counted()),
    "openrouter, summary": (whole({"content": R, "reasoning": "Adds.", "reasoning_details": SUMMARY},
                                  counts=usage(20)), "Adds.", R, STOP, counted(20, "summary")),
    "openrouter, encrypted": (whole({"content": R, "reasoning": None, "reasoning_details": SUMMARY[1:]},
                                    counts=usage(20)), "", R, STOP, counted(20, "encrypted")),
    "openrouter, excluded": (whole({"content": R, "reasoning": None}, counts=usage(20)), "", R, STOP,
                             counted(20, "counted only")),
    "ollama": (whole({"content": R, "reasoning": T}), T, R, STOP, counted()),
    "mistral": (whole({"content": [*mistral(T), {"type": "text", "text": R}], "tool_calls": None}), T,
                R, STOP, counted()),
    "mistral, not thinking": (whole({"content": R, "prefix": False}), "", R, STOP, counted()),
    "openai": (whole({"content": R, "refusal": None, "annotations": []}, logprobs=None,
                     counts=usage(64)), "", R, STOP, counted(64, "counted only")),
    "openai, no effort": (whole({"content": R, "refusal": None}, counts=usage(0)), "", R, STOP,
                          counted(0)),
    "openai, refusal": (whole({"content": None, "refusal": "I can't help with that."},
                              counts=usage(0)), "", "I can't help with that.", STOP, counted(0)),
    "a refusal beside an empty part": (
        whole({"content": [{"type": "text", "text": ""}], "refusal": "I can't help with that."}),
        "", "I can't help with that.", STOP, counted()),
    "openai, all spent": (whole({"content": ""}, "length", counts=usage(30)), "", None, LENGTH,
                          counted(30, "counted only")),
    "redacted": (whole({"content": [{"type": "thinking", "thinking": T},
                                    {"type": "redacted_thinking", "data": "Em"},
                                    {"type": "text", "text": R}]}), T, R, STOP,
                 counted(None, "encrypted")),
    "a summary as text": (whole({"content": R, "reasoning_content": "Adds."}, counts=usage(900)),
                          "Adds.", R, STOP, counted(900, "summary")),
    "thinking beside the count": (whole({"content": R}, counts=usage(25, **LIST)), "", R, STOP,
                                  counted(25, "counted only")),
    "tokens by another name": (whole({"content": R, "reasoning": T}, counts=usage(reasoning_tokens=20)),
                               T, R, STOP, counted(20)),
    # -- streamed --
    "vllm, streamed": (events([
        chunk({"role": "assistant", "content": ""}), chunk({"reasoning": T[:9]}),
        chunk({"reasoning": T[9:]}), chunk({"content": R[:5]}), chunk({"content": R[5:]}, "stop"),
        chunk(choices=[], usage=usage()),
    ]), T, R, STOP, counted()),
    "deepseek, streamed": (events([
        chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
        *(chunk({"content": None, "reasoning_content": letter}) for letter in T),
        *(chunk({"content": letter, "reasoning_content": None}) for letter in R),
        chunk({"content": "", "reasoning_content": None}, "stop", usage=usage(20)),
    ]), T, R, STOP, counted(20)),
    "openrouter, streamed": (b": OPENROUTER PROCESSING\n\n" * 3 + events([
        *(chunk({"role": "assistant", "content": "", "reasoning": text,
                 "reasoning_details": [DETAILS[0] | {"text": text}]}) for text in (T[:7], T[7:])),
        chunk({"role": "assistant", "content": R, "reasoning": None}),
        chunk({"role": "assistant", "content": ""}, "stop"),
        chunk({"role": "assistant", "content": ""}, usage=usage(20)),
    ]), T, R, STOP, counted(20)),
    "openrouter, summary streamed": (events([
        *(chunk({"reasoning": text, "reasoning_details": [SUMMARY[0] | {"summary": text}]})
          for text in ("Ad", "ds.")),
        chunk({"reasoning_details": SUMMARY[1:]}), chunk({"content": R}, "stop", usage=usage(20)),
    ]), "Adds.", R, STOP, counted(20, "summary")),
    "ollama, streamed": (events([
        chunk({"role": "assistant", "content": "", "reasoning": T[:4]}),
        chunk({"role": "assistant", "content": "", "reasoning": T[4:]}),
        chunk({"role": "assistant", "content": R}), chunk({"role": "assistant", "content": ""}, "stop"),
        chunk(choices=[], usage=usage()),
    ]), T, R, STOP, counted()),
    "mistral, streamed": (events([
        chunk({"role": "assistant", "content": ""}), chunk({"content": mistral(T[:4])}),
        chunk({"content": mistral(T[4:9])}), chunk({"content": mistral(T[9:])}),
        chunk({"content": R[:6]}), chunk({"content": R[6:]}, "stop", usage=usage()),
    ]), T, R, STOP, counted()),
    "openai, streamed": (events([
        chunk({"role": "assistant", "content": "", "refusal": None}), chunk({"content": R}),
        chunk({}, "stop"), chunk(choices=[], usage=usage(64)),
    ]), "", R, STOP, counted(64, "counted only")),
    "openai, refusal streamed": (events([
        chunk({"role": "assistant", "content": None, "refusal": "I can't"}),
        chunk({"refusal": " help."}), chunk({}, "stop"), chunk(choices=[], usage=usage(0)),
    ]), "", "I can't help.", STOP, counted(0)),
    "truncated stream": (events([chunk({"reasoning": T}), chunk({}, "length", usage=usage())]), T, None,
                         LENGTH, counted()),
    "no usage, no mark of the end": (
        events([chunk({"reasoning": T, "content": R}, "stop")], done=False), T, R, STOP, Reported()),
    "the whole message at the end": (events([
        chunk({"content": "The"}), whole({"content": R, "reasoning": T}),
    ]), T, R, STOP, counted()),
    "line ends of Windows": (events([chunk({"reasoning": T, "content": R}, "stop", usage=usage())],
                                    end="\r\n\r\n"), T, R, STOP, counted()),
    "no blank lines": (events([chunk({"reasoning": T}), chunk({"content": R}, "stop", usage=usage())],
                              end="\n"), T, R, STOP, counted()),
}  # fmt: skip


@pytest.fixture(scope="module")
def chat():
    with serve() as server:
        endpoints = {"urls": (server.url,), "api": "chat", "model": "toy", "max_retries": 0}
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:
            session._pool.first_pause_seconds = 0.01
            yield server, session


@pytest.mark.parametrize("name", CHAT)
def test_a_chat_reply_is_read(name, chat, make_problem) -> None:
    (server, session), (sent, thinking, answer, end, reported) = chat, CHAT[name]
    server.tamper = lambda _: sent if isinstance(sent, dict) else web.Response(body=sent)
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),))
    result = next(generate(session, [job]))
    assert result.error is None
    assert session.tokenizer.decode(result.chain.ids) == thinking
    assert [session.tokenizer.decode(a.ids) for a in result.answers] == [answer] * (
        answer is not None
    )
    assert [a.end_reason for a in result.answers] == [end] * (answer is not None)
    assert (result.chain.state is ChainState.ENDED) == (answer is not None)
    assert result.chain.reported == reported
    if reported.num_completion_tokens is not None:
        assert (result.cost.prefilled, result.cost.decoded) == (9, 30)


def test_hidden_thinking_is_in_the_ledger_and_in_the_completion(
    chat, make_problem, tmp_path
) -> None:
    server, session = chat
    server.tamper = lambda _: CHAT["openai"][0]
    job = chat_job(session, make_problem, points=(Point(1000, forced=False),), question="hidden?")
    task = Task(problem=make_problem(), request=job.request, points=job.points)
    for num_asked in (1, 0):
        before = len(server.bodies)
        with Ledger(tmp_path / "l") as ledger:
            [[completion]] = Sampler(session, ledger, tag="t").complete([task])
        assert completion.thinking == "" and completion.reported == counted(64, "counted only")
        assert len(server.bodies) == before + num_asked


def test_a_server_that_does_not_stream_although_asked_is_read(make_problem) -> None:
    with serve() as server:
        server.tamper = lambda _: web.json_response(CHAT["vllm"][0])
        endpoints = {"urls": (server.url,), "api": "chat", "model": "toy", "stream": True}
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:
            job = chat_job(session, make_problem, points=(Point(99, forced=False),))
            result = next(generate(session, [job]))
            assert server.bodies[-1]["stream"] and result.error is None
            assert session.tokenizer.decode(result.chain.ids) == T


# --- completions ----------------------------------------------------------------------------------


def text_reply(finish: Any = "stop", **choice: Any) -> Json:
    choice = {"index": 0, "text": T, "finish_reason": finish} | choice
    return {"id": "x", "object": "text_completion", "model": "toy", "choices": [choice],
            "usage": usage()}  # fmt: skip


COMPLETIONS: dict[str, Json] = {
    "vllm": text_reply(stop_reason=7, token_ids=[5, 6, 7], prompt_token_ids=[1, 2], logprobs={
        "tokens": ["token_id:5", "token_id:6", "token_id:7"], "token_logprobs": [-1, -1, -1],
        "top_logprobs": [{"token_id:5": -1.0}, {"token_id:6": -1.0}, {"token_id:7": -1.0}]}),
    "llama.cpp": text_reply(logprobs={"content": [
        {"id": 5, "token": "1", "logprob": -1.0, "top_logprobs": [{"id": 5, "token": "1", "logprob": -1.0}]},
        {"id": 6, "token": "7", "logprob": -1.0, "top_logprobs": []}]}),
    "deepseek": text_reply(logprobs=None),
    "openrouter": text_reply("length", native_finish_reason="MAX_TOKENS", reasoning=None),
    "ollama": text_reply(),
    "openai": text_reply(logprobs=None) | {"usage": usage(0)},
}  # fmt: skip


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_streamed_completion_is_the_same_reply(name) -> None:
    expected = read_reply(COMPLETIONS[name])
    assert (expected.text, expected.num_prompt_tokens, expected.num_completion_tokens) == (T, 9, 30)
    for size in (1, 7, 10_000):
        assert read_bytes(events(cut_reply(COMPLETIONS[name])), size=size) == expected


def read_bytes(data: bytes, *, size: int = 10_000, secret: str | None = None) -> ServerReply:
    """The reply in these bytes, which come in pieces of `size`."""
    body = Body("", limit=10**8, joined=True)
    for start in range(0, len(data), size):
        body.add(data[start : start + size])
    content = body.json(secret=secret)
    return read_reply(content, chat="message" in content["choices"][0])


@pytest.mark.parametrize("returns_ids", [True, False])
def test_budgets_are_forced_over_streams(returns_ids) -> None:
    behaviour = Behaviour(returns_ids=returns_ids)
    chains = []
    for stream in (False, True):
        with serve(behaviour=behaviour) as server, open_toy(server, stream=stream) as session:
            result = next(generate(session, [make_job(session, "q1", points=POINTS)]))
            assert result.error is None and bool(server.bodies[-1].get("stream")) == stream
            chains.append((result.chain, result.answers, session.numerics))
    assert chains[0] == chains[1]


# --- streams that fail ----------------------------------------------------------------------------

TORN: dict[str, bytes] = {
    "no end": events([chunk({"content": R})], done=False),
    "half an event": events([chunk({"content": R})])[:-30],
    "no JSON": b"data: {]\n\n",
    "no object": b"data: [1]\n\n",
    "a choice that is none": b'data: {"choices": [3]}\n\n',
    "deep": b"data: " + b"[" * 100_000 + b"\n\n",
    "deep delta": b'data: {"choices": [{"delta": '
    + b'{"a":' * 900
    + b"1"
    + b"}" * 900
    + b"}]}\n\n",
    "deep list": b'data: {"choices": [{"delta": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}]}\n\n",
    "no JSON ever": b"data: x\n" * 10_000,
}


@pytest.mark.parametrize("name", TORN)
def test_a_stream_that_is_torn_or_no_stream_is_unusable(name) -> None:
    with pytest.raises(UnusableBody):
        read_bytes(TORN[name])


def test_an_error_in_a_stream_is_an_error_and_is_asked_for_again(chat, make_problem) -> None:
    server, session = chat
    start = chunk({"content": "The"})
    errors = [
        events([start, {"error": {"code": 502, "message": "overloaded"}}]),
        events([start, {"object": "error", "message": "overloaded", "code": 400}], done=False),
        events([start], done=False) + b'event: error\ndata: {"message": "overloaded"}\n\n',
    ]
    for number, error in enumerate(errors):
        server.tamper = lambda _, error=error: error
        job = chat_job(
            session, make_problem, points=(Point(99, forced=False),), question=str(number)
        )
        result = next(generate(session, [job]))
        assert "overloaded" in str(result.error) and result.chain.ids == ()


def test_a_stream_may_last_longer_than_the_timeout_but_not_rest(make_problem) -> None:
    pieces = [events([chunk({"reasoning": "6"})], done=False)] * 6
    whole_stream = [*pieces, events([chunk({"content": R}, "stop")])]
    results = []
    with serve() as server:
        endpoints = {"urls": (server.url,), "api": "chat", "model": "toy", "max_retries": 0,
                     "timeout_seconds": 0.3, "stream": True}  # fmt: skip
        with open_session("toy", EngineConfig(kind="openai", endpoints=endpoints)) as session:
            session._pool.first_pause_seconds = 0.01
            for seconds in (0.08, 0.45):
                server.slow = (whole_stream, seconds)
                job = chat_job(session, make_problem, points=(Point(99, forced=False),),
                               question=f"{seconds}?")  # fmt: skip
                results.append(next(generate(session, [job])))
            assert results[0].error is None
            assert session.tokenizer.decode(results[0].chain.ids) == "666666"
            assert "no answer in 0.3 s" in str(results[1].error)


def test_a_key_that_comes_in_pieces_is_scrubbed() -> None:
    key = "sk-0123456789abcdef"
    deltas = [chunk({"content": letter}) for letter in f"Key {key}."]
    reply = read_bytes(events([*deltas, chunk({}, "stop")]), secret=key)
    assert reply.text == "Key [secret]."


def test_a_line_without_end_is_read_in_linear_time() -> None:
    body = Body("", limit=10**8, joined=True)
    body.add(b"data: ")
    for _ in range(2000):
        body.add(b"x" * 10_000)
    assert body.size == 20_000_006
