"""Server-sent events as servers write them, and whole replies cut into them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def events(chunks: Iterable[Json], *, done: bool = True, end: str = "\n\n") -> bytes:
    """The bytes of a stream, with a comment such as hosted APIs send while they wait."""
    lines = [": keep-alive", *(f"data: {json.dumps(c, ensure_ascii=False)}" for c in chunks)]
    return (end.join([*lines, *(["data: [DONE]"] if done else [])]) + end).encode()


def chunk(delta: Json | None = None, finish: str | None = None, **fields: Any) -> Json:
    """An event of a chat reply."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "model": "toy", "choices": [choice]} | fields


def cut_reply(reply: Json) -> list[Json]:
    """A whole reply in events of a few characters, ids or logprobs, with its usage at the end."""
    if "choices" not in reply:
        return [reply]
    choice = dict(reply["choices"][0])
    last = {name: choice.pop(name, None) for name in ("finish_reason", "stop_reason")}
    head = {name: value for name, value in reply.items() if name not in ("choices", "usage")}
    if "message" in choice:
        choice["delta"] = choice.pop("message")
    pieces = [{"index": 0, **piece, "finish_reason": None} for piece in _cut(choice)]
    pieces.append({"index": 0, **last})
    return [*({**head, "choices": [p], "usage": None} for p in pieces),
            {**head, "choices": [], "usage": reply.get("usage")}]  # fmt: skip


def _cut(values: Json, size: int = 3) -> list[Json]:
    """The same object again and again, with a piece of each text and list."""
    pieces: list[Json] = []
    for name, value in values.items():
        if isinstance(value, dict):
            parts: list[Any] = _cut(value, size)
        elif isinstance(value, (str, list)) and name not in ("role", "type"):
            parts = [value[i : i + size] for i in range(0, len(value), size)]
        else:
            parts = [value]
        pieces += [{} for _ in range(len(parts) - len(pieces))]
        for piece, part in zip(pieces, parts, strict=False):
            piece[name] = part
    return pieces
