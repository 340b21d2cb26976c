"""A server's own tokenizer over HTTP: replies that lie, redirects, and the key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from slowthink.engines.server.tokenizer import ServedTokenizer
from slowthink.errors import ConfigError, EngineError

KEY = "sk-0123456789abcdef"


class Handler(BaseHTTPRequestHandler):
    replies: ClassVar[list[Any]] = []
    """Statuses and bodies for the next requests; then each text is one token."""
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers.get("Authorization"))
        status, body = self.replies.pop(0) if self.replies else (200, {"tokens": [7]})
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status, f"because of {KEY}")
        self.send_header("Content-Length", str(len(data)))
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/x")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


LIES: dict[str, tuple[int, Any]] = {
    "text": (200, {"tokens": ["a"]}),
    "negative": (200, {"tokens": [-1]}),
    "id of 10^9": (200, {"tokens": [10**9]}),
    "float": (200, {"tokens": [1.5]}),
    "none": (200, {"tokens": None}),
    "object": (200, {"tokens": {"a": 1}}),
    "list": (200, [1]),
    "deep": (200, b'{"tokens": ' + b"[" * 200_000),
    "no JSON": (200, b"<html>"),
    "redirect": (302, {}),
    "echo": (500, {"error": KEY}),
    "echo in 200": (200, {"tokens": KEY}),
}  # fmt: skip


@pytest.mark.parametrize("reply", LIES.values(), ids=LIES.keys())
def test_a_reply_that_lies_is_an_error_without_the_key(url: str, reply: tuple[int, Any]) -> None:
    tokenizer = ServedTokenizer(url, KEY, "toy")
    num_requests = len(Handler.keys)
    Handler.replies.append(reply)
    with pytest.raises(EngineError) as caught:
        tokenizer.encode("a new text")
    assert KEY not in str(caught.value)
    assert len(Handler.keys) == num_requests + 1, "a redirect was followed"
    Handler.replies.append((200, {"tokens": [1, 2]}))
    assert tokenizer.encode("another text") == [1, 2]


def test_a_server_without_tokenizer_is_refused(url: str) -> None:
    Handler.replies += [(404, {})]
    with pytest.raises(ConfigError, match="the server has no /tokenize"):
        ServedTokenizer(url, None, "toy")
