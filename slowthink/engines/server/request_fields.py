"""Fields that every request has besides those of its job, as the servers accept them.

The settings add fields, and ask for a stream. Servers differ in a few fields that slowthink sets;
the first rejection tells what they accept:

    {"max_tokens": 512, …}   400: use 'max_completion_tokens' instead   →  that, from then on
    {"stream_options": …}    422: extra inputs are not permitted        →  none
    {"top_p": 1.0, …}        400: 'top_p' is not supported              →  none, since it is neutral
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slowthink.recipe import EndpointConfig

_REJECTIONS = (400, 422)
_NEUTRAL = {"temperature": 1.0, "top_p": 1.0}
"""Values that a model without such a setting has anyway (OpenAI's reasoning models)."""


class RequestFields:
    """Completes the body of a request; learns from rejections."""

    def __init__(self, config: EndpointConfig) -> None:
        self._extra = config.request_fields
        self._stream = config.stream
        self._asks_for_usage = True
        self._limit_name = "max_tokens"
        self._left_out: set[str] = set()
        """Names in `_NEUTRAL` that are not sent at their neutral value."""

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body to send."""
        fields = {**self._extra, **body}
        if self._stream:
            fields["stream"] = True
            if self._asks_for_usage:
                fields["stream_options"] = {"include_usage": True}
        if "max_tokens" in fields:
            fields[self._limit_name] = fields.pop("max_tokens")
        for name in self._left_out:
            if fields.get(name) == _NEUTRAL[name]:
                del fields[name]
        return fields

    def learn(self, sent: Mapping[str, Any], status: int, text: str) -> bool:
        """Whether the rejected body, completed again, differs from what was sent."""
        if status not in _REJECTIONS:
            return False
        if "max_tokens" in sent and "max_completion_tokens" in text:
            self._limit_name = "max_completion_tokens"
            return True
        if "stream_options" in sent and "stream_options" in text:
            self._asks_for_usage = False
            return True
        named = {n for n, value in _NEUTRAL.items() if sent.get(n) == value and n in text}
        self._left_out |= named
        return bool(named)
