"""Bodies of HTTP replies: bounded by what was requested, unpacked, decoded, and without secrets.

size_limit({"prompt": "2 + 2 =", "max_tokens": 8}) is 1,004,480 bytes
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

MAX_BYTES = 64_000_000
"""Of a reply whose request has no `max_tokens`, and of a list of models."""
MAX_ERROR_BYTES = 100_000
"""Of a rejection; the rest is not read."""
_OVERHEAD_BYTES = 1_000_000
_TOKEN_BYTES = 512
"""Of a token's text, escaped, and its id; and of each of its logprobs."""
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
    if body is None or "max_tokens" not in body:
        return MAX_BYTES
    num_logprobs = int(body.get("logprobs") or 0) + len(body.get("logprob_token_ids") or ())
    tokens = int(body["max_tokens"]) * _TOKEN_BYTES * (1 + num_logprobs)
    return _OVERHEAD_BYTES + tokens + _PROMPT_BYTES * len(body.get("prompt", ""))


async def read_body(reply: aiohttp.ClientResponse, *, limit: int) -> bytes:
    """The unpacked body, of which no more than `limit` + 1 bytes are read.

    Raises UnusableBody for an encoding that was not accepted. Also aiohttp's errors.
    """
    unpack = _Unpacker(reply.headers.get("Content-Encoding", ""), limit=limit)
    async for chunk in reply.content.iter_chunked(1 << 16):
        unpack.add(chunk)
        if len(unpack.data) > limit:
            break
    return bytes(unpack.data)


class _Unpacker:
    """Unpacks gzip and deflate piece by piece, up to a limit: a small body may be of any size."""

    def __init__(self, encoding: str, *, limit: int) -> None:
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise UnusableBody(f"a body in the encoding `{encoding[:20]}`")
        self.data = bytearray()
        self._limit = limit
        is_packed = encoding not in ("", "identity")
        self._decompress = zlib.decompressobj(wbits=47).decompress if is_packed else None

    def add(self, chunk: bytes) -> None:
        """Unpack a piece of the body."""
        if self._decompress is not None:
            try:
                chunk = self._decompress(chunk, self._limit + 1 - len(self.data))
            except zlib.error:
                raise UnusableBody("a broken gzip body") from None
        self.data += chunk


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
