"""Requests to `slowthink serve` whose budget cannot be forced: each is a 400."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from slowthink.engines.vllm.middleware import RefuseUnforced, refusal
from slowthink.engines.vllm.request_args import read_args
from slowthink.errors import ConfigError

BASE = {"slowthink_format": "s1", "slowthink_cap": 32}


def answer(body: bytes, *, pieces: int = 1) -> tuple[int, bytes]:
    """Status and body of the reply; the server behind the middleware answers 200 with its input."""
    size = -(-len(body) // pieces) or 1
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    messages = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received = b""
        while True:
            message = await receive()
            received += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": received})

    asyncio.run(RefuseUnforced(app)({"type": "http", "method": "POST"}, receive, send))
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "2 + 2", "vllm_xargs": BASE},
        {"prompt": "2 + 2", "use_beam_search": True},
        {"prompt": "what is slowthink_cap?", "vllm_xargs": {"session_id": "a"}},
        {
            "prompt": "2 + 2",
            "vllm_xargs": BASE | {"slowthink_waits": 2.0},
            "use_beam_search": False,
        },
    ],
    ids=["budget", "beam search alone", "in the prompt", "integral float"],
)
def test_other_requests_reach_the_server_unchanged(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    assert answer(data, pieces=3) == (200, data)


REFUSED: dict[str, tuple[bytes | dict[str, Any], str]] = {
    "beam search": ({"vllm_xargs": BASE, "use_beam_search": True}, "use_beam_search"),
    "utf-16": (json.dumps({"vllm_xargs": BASE}).encode("utf-16"), "valid UTF-8"),
    "utf-16 without its mark": (
        json.dumps({"vllm_xargs": BASE, "use_beam_search": True}).encode("utf-16-le"),
        "use_beam_search",
    ),
    "infinity": (b'{"vllm_xargs": {"slowthink_cap": Infinity}}', "expected finite numbers"),
    "nan": (b'{"temperature": NaN, "vllm_xargs": {"slowthink_cap": 3}}', "finite numbers"),
    "surrogate": (b'{"prompt": "\\ud800", "vllm_xargs": {"slowthink_cap": 3}}', "valid UTF-8"),
    "surrogate as cue": (b'{"vllm_xargs": {"slowthink_cue": "\\udfff"}}', "valid UTF-8"),
    "escaped name": (b'{"vllm_xargs": {"\\u0073lowthink_cap": -1}}', "slowthink_cap: -1"),
    "beside": ({"slowthink_cap": 32}, "outside vllm_xargs"),
    "in extra_body": ({"extra_body": {"slowthink_cap": 32}}, "outside vllm_xargs"),
    "log": ({"vllm_xargs": BASE | {"slowthink_log": "a"}}, "slowthink_log"),
    "unknown": ({"vllm_xargs": {"slowthink_capp": 3}}, "did you mean"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_budget_that_cannot_be_forced_is_refused(body: Any, reason: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, reply = answer(data)
    assert status == 400
    assert reason in json.loads(reply)["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"slowthink_", b"[" * 100_000 + b"slowthink_", b"3slowthink_"]
)
def test_what_is_no_json_is_left_to_the_server(body: bytes) -> None:
    assert refusal(body) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"slowthink_known": 1e9, "slowthink_events": [0, 0, 0, 2**70]}, "slowthink_events|events"),
        ({"slowthink_known": 2**40}, "slowthink_known"),
        ({"slowthink_known": True}, "slowthink_known"),
        ({"slowthink_cap": 10**30}, "slowthink_cap"),
        ({"slowthink_cap": float("inf")}, "slowthink_cap"),
        ({"slowthink_sample": 10**30}, "slowthink_sample"),
        ({"slowthink_answer_tokens": 10**15}, "slowthink_answer_tokens"),
        ({"slowthink_loop_period": 10**18}, "slowthink_loop_period"),
        ({"slowthink_events": [0, 0, 0, 1]}, None),
        ({"slowthink_events": [1, 0, 0, 1]}, "slowthink_known"),
        ({"slowthink_known": 5, "slowthink_events": [4, 0, 1, 7, 2, 0, 1, 7]}, "in order"),
        ({"slowthink_known": 5, "slowthink_events": [2, 2, 0, 7, 4, 0, 1, 7]}, "only as the last"),
        ({"slowthink_known": 5, "slowthink_events": [-1, 0, 0, 7]}, "in order"),
        ({"slowthink_known": 5, "slowthink_events": [2, 0, 0, 2**40]}, "slowthink_events"),
        ({"slowthink_events": [0, [], 0, 0]}, "expected integers"),
        ({"slowthink_events": [0.5, 0, 0, 0]}, "expected integers"),
        ({"slowthink_wait_strings": ["a"] * 10_000}, "slowthink_wait_strings"),
        ({"slowthink_wait_strings": ["a" * 10**6]}, "slowthink_wait_strings"),
        ({"slowthink_cue": "\ud800"}, "unable to parse raw data as a unicode"),
        ({"slowthink_\ud800": 1}, "not ASCII"),
        ({"slowthink_step_delimiter": "", "slowthink_steps": 2}, "slowthink_step_delimiter"),
        ({"slowthink_start": "<a>"}, "no effect without slowthink_end"),
        ({"slowthink_triggers": ["b"]}, "no effect without slowthink_end"),
        ({"slowthink_end": "</a>"}, "expected either"),
        ({"slowthink_top_p": 0.9}, "need slowthink_temperature"),
        ({"slowthink_temperature": 1e-30}, "at least 1e-05"),
        ({"slowthink_temperature": 1, "slowthink_top_p": 0}, "slowthink_top_p"),
    ],
)  # fmt: skip
def test_arguments_are_validated_alone_and_together(arguments: Any, reason: str | None) -> None:
    if reason is None:
        assert read_args(BASE | arguments) is not None
        return
    with pytest.raises(ConfigError, match=reason):
        read_args(BASE | arguments)
