r"""Streamed replies: server-sent events joined into the body that a reply in one piece would have.

    data: {"choices": [{"delta": {"reasoning": "17 + 25"}}]}
    : keep-alive
    data: {"choices": [{"delta": {"reasoning": " = 42"}, "finish_reason": "stop"}]}
    data: [DONE]

becomes {"choices": [{"message": {"reasoning": "17 + 25 = 42"}, "finish_reason": "stop"}]}. Texts
and lists grow; of any other value the last counts. Content parts of one type in a row are one part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a stream of events begins, after white space."""
_LABELS = frozenset({
    "role", "type", "id", "index", "object", "name", "format", "signature", "encoding", "status",
    "finish_reason", "stop_reason", "matched_stop", "native_finish_reason", "encrypted_content",
})  # fmt: skip
"""Texts that are not continued by the next piece."""


_MAX_DATA_LINES = 100
"""Of one event."""


class UnusableEvent(Exception):
    """An event that cannot be read; the message is the reason."""


def is_event_stream(data: bytes) -> bool | None:
    """Whether a body that begins so is a stream of events; None if it is too short to tell.

    The content type does not decide: some servers stream unasked, or not although asked.
    """
    start = data.lstrip()[:6]
    if not start or any(line.startswith(start) and line != start for line in _STARTS):
        return None
    return start.startswith(_STARTS)


class _Pieces(list[str]):
    """A text in pieces; joined at the end, since adding to a long text copies it."""


class EventJoiner:
    """Joins the events of one stream, fed in chunks of any size."""

    def __init__(self) -> None:
        self._line = bytearray()
        """The beginning of a line whose end is still to come."""
        self._data: list[bytes] = []
        """Lines of data that are no whole JSON yet."""
        self._event = ""
        self._fields: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._error: Any = None
        self._is_done = False

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes. Raises UnusableEvent for an event that is no JSON object."""
        self._line += chunk
        if b"\n" not in chunk:
            return
        *lines, self._line = self._line.split(b"\n")
        for line in lines:
            self._read_line(bytes(line).rstrip(b"\r"))

    def body(self) -> dict[str, Any]:
        """The joined reply, or the error that came in its place. Raises UnusableEvent if the stream
        ended too early."""
        self.feed(b"\n\n")
        if self._error is not None:
            return {"error": self._error}
        choice = _joined(self._choice)
        if not (self._is_done or choice.get("finish_reason") is not None):
            raise UnusableEvent("a torn stream")
        if "delta" in choice:
            choice["message"] = choice.pop("delta")
        return {**self._fields, "choices": [choice] if choice else []}

    def _read_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._read_data()
        elif name == b"event":
            self._event = value.strip().decode(errors="replace")
        elif not line:
            self._event = ""
            if self._data:
                raise UnusableEvent("an event that is no JSON")

    def _read_data(self) -> None:
        """Read the data as soon as it is whole JSON: some servers leave out the blank line."""
        data = b"\n".join(self._data)
        if data.strip() == b"[DONE]":
            self._is_done, self._data = True, []
            return
        try:
            event = json.loads(data)
            if not isinstance(event, dict):
                raise UnusableEvent("an event that is no object")
            self._add(event)
        except RecursionError:
            raise UnusableEvent("an event nested too deep") from None
        except ValueError:
            if len(self._data) > _MAX_DATA_LINES:
                raise UnusableEvent("an event that is no JSON") from None
            return
        self._data = []

    def _add(self, event: dict[str, Any]) -> None:
        if event.get("error"):
            self._error = event["error"]
        elif self._event == "error" or event.get("object") == "error":
            self._error = event
        for name in ("model", "usage"):
            if event.get(name) is not None:
                self._fields[name] = event[name]
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                raise UnusableEvent("a choice that is no object")
            if choice.get("index") in (None, 0):
                if isinstance(choice.get("message"), dict):  # the whole message at the end
                    self._choice.pop("delta", None)
                _merge(self._choice, choice)


def _merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add what has come: texts and lists are continued, other values replaced."""
    for name, value in delta.items():
        known = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, str) and name not in _LABELS:
            if isinstance(known, list) and not isinstance(known, _Pieces):
                _append(known, {"type": "text", "text": value})
            else:
                into[name] = known if isinstance(known, _Pieces) else _Pieces()
                into[name].append(value)
        elif isinstance(value, list):
            if isinstance(known, _Pieces):
                known = [{"type": "text", "text": known}] if any(known) else []
            into[name] = known if isinstance(known, list) else []
            for item in value:
                _append(into[name], item)
        elif isinstance(value, Mapping):
            into[name] = known if isinstance(known, dict) else {}
            _merge(into[name], value)
        else:
            into[name] = value


def _append(items: list[Any], item: Any) -> None:
    """Add an item to a list; a part of the same type and index as the last one continues it."""
    if not isinstance(item, Mapping):
        items.append(item)
        return
    last = items[-1] if items and isinstance(items[-1], dict) else {}
    same = [item.get(name) == last.get(name) for name in ("type", "index")]
    if item.get("type") is None or not all(same):
        items.append({})
    _merge(items[-1], item)


def _joined(value: Any) -> Any:
    """The value with its texts in one piece."""
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return {name: _joined(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_joined(item) for item in value]
    return value
