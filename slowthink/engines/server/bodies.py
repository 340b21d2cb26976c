"""Bodies of HTTP replies: bounded by what was requested, unpacked, joined, and without secrets.

size_limit({"prompt": "2 + 2 =", "max_tokens": 8}) is 1,004,480 bytes
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slowthink.engines.server.events import EventJoiner, UnusableEvent, is_event_stream

if TYPE_CHECKING:
    import aiohttp

MAX_BYTES = 64_000_000
"""Of a reply whose request has no `max_tokens`, and of a list of models."""
MAX_ERROR_BYTES = 100_000
"""Of a rejection; the rest is not read."""
_OVERHEAD_BYTES = 1_000_000
_TOKEN_BYTES = 512
"""Of a token's text, escaped, and its id; and of each of its logprobs."""
_EVENT_BYTES = 4096
"""Of the event of a token in a stream. Its bytes are not kept."""
_PROMPT_BYTES = 48
"""Of each id or character of a prompt, which a reply may repeat as ids and as escaped text."""
_MIN_SECRET_CHARS = 8
"""A shorter key is a placeholder, such as `EMPTY`, and may be a word of a reply."""
REDACTED = "[secret]"
_ESCAPED_ASCII = re.compile(rb"\\(?:u00[2-7]|/)", re.IGNORECASE)


class UnusableBody(Exception):
    """The body of a reply cannot be read; the message is the reason."""


def size_limit(body: Mapping[str, Any] | None) -> int:
    """Most bytes that an honest reply to this request may have."""
    streamed = body is not None and bool(body.get("stream"))
    limits = ("max_tokens", "max_completion_tokens")
    max_tokens = next((body[name] for name in limits if name in body), None) if body else None
    if body is None or max_tokens is None:
        return MAX_BYTES * (8 if streamed else 1)
    counts = [body.get(name) for name in ("logprobs", "top_logprobs")]
    num_logprobs = sum(count for count in counts if isinstance(count, int))
    num_logprobs += len(body.get("logprob_token_ids") or ())
    tokens = int(max_tokens) * (_TOKEN_BYTES * (1 + num_logprobs) + _EVENT_BYTES * streamed)
    return _OVERHEAD_BYTES + tokens + _PROMPT_BYTES * len(body.get("prompt", ""))


async def read_body(reply: aiohttp.ClientResponse, *, limit: int, joined: bool = True) -> Body:
    """The unpacked body, of which no more than `limit` + 1 bytes are read. `joined`: events are
    joined as they come.

    Raises UnusableBody for an encoding that was not accepted. Also aiohttp's errors.
    """
    body = Body(reply.headers.get("Content-Encoding", ""), limit=limit, joined=joined)
    async for chunk in reply.content.iter_chunked(1 << 16):
        body.add(chunk)
        if body.size > limit:
            break
    return body


class Body:
    """A body that is read piece by piece, up to a limit: a small packed one may be of any size."""

    def __init__(self, encoding: str, *, limit: int, joined: bool) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise UnusableBody(f"a body in the encoding `{encoding[:20]}`")
        self.size = 0
        """Number of unpacked bytes."""
        self.data = bytearray()
        """The bytes; of a stream of events, those before the first whole line."""
        self._limit = limit
        is_packed = encoding not in ("", "identity")
        self._decompress = zlib.decompressobj(wbits=47).decompress if is_packed else None
        self._is_stream = None if joined else False
        self._joiner = EventJoiner()

    def add(self, chunk: bytes) -> None:
        """Unpack a piece of the body. Raises UnusableBody if that is not possible."""
        if self._decompress is not None:
            try:
                chunk = self._decompress(chunk, self._limit + 1 - self.size)
            except zlib.error:
                raise UnusableBody("a broken gzip body") from None
        self.size += len(chunk)
        self.data += chunk
        if self._is_stream is None:
            self._is_stream = is_event_stream(bytes(self.data))
        if self._is_stream:
            try:
                self._joiner.feed(bytes(self.data))
            except UnusableEvent as error:
                raise UnusableBody(str(error)) from None
            self.data.clear()

    @property
    def text(self) -> str:
        """The body as text, for messages."""
        return self.data.decode(errors="replace")

    def json(self, *, secret: str | None) -> dict[str, Any]:
        """The JSON object in it, without the secret. Raises UnusableBody for anything else."""
        if not self._is_stream:
            return json_object(bytes(self.data), secret=secret)
        try:
            content = self._joiner.body()
            if secret is not None and len(secret) >= _MIN_SECRET_CHARS:
                content = _scrub_strings(content, secret)
        except UnusableEvent as error:
            raise UnusableBody(str(error)) from None
        except RecursionError:
            raise UnusableBody("a body nested too deep") from None
        return content


def json_object(data: bytes, *, secret: str | None) -> dict[str, Any]:
    """The JSON object in a body, without the secret. Raises UnusableBody for anything else."""
    try:
        content = json.loads(scrub_bytes(data, secret))
    except RecursionError:
        raise UnusableBody("a body nested too deep") from None
    except ValueError:
        raise UnusableBody("a torn body") from None
    if not isinstance(content, dict):
        raise UnusableBody("a body that is no object")
    if secret and len(secret) >= _MIN_SECRET_CHARS and _ESCAPED_ASCII.search(data):
        return {scrub(key, secret): _scrub_strings(item, secret) for key, item in content.items()}
    return content


def scrub_bytes(data: bytes, secret: str | None) -> bytes:
    """The body without the secret, which a server may echo."""
    if not secret or len(secret) < _MIN_SECRET_CHARS:
        return data
    return data.replace(secret.encode(), REDACTED.encode())


def scrub(text: str, secret: str | None) -> str:
    """A message without the secret."""
    return text.replace(secret, REDACTED) if secret else text


def _scrub_strings(value: Any, secret: str) -> Any:
    """JSON without the secret, which a server may have written with escapes."""
    if isinstance(value, str):
        return scrub(value, secret)
    if isinstance(value, list):
        return [_scrub_strings(item, secret) for item in value]
    if isinstance(value, dict):
        return {scrub(key, secret): _scrub_strings(item, secret) for key, item in value.items()}
    return value
