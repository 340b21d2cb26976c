"""A real `slowthink serve`: requests whose budget cannot be forced are 400, others are forced."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines.served import MODEL, served
from tests.needs import needs

pytestmark = [pytest.mark.slow, needs("vllm")]
BASE = {"slowthink_format": "s1", "slowthink_cap": 8, "slowthink_answer_tokens": 4}


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
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
