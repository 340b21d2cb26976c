"""Fields that every request has besides those of its job, as the servers accept them.

The settings add fields, and ask for a stream. Servers differ in a few fields that slowthink sets;
the first rejection tells what they accept:

    {"max_tokens": 512, …}   400: use 'max_completion_tokens' instead   →  that, from then on
    {"stream_options": …}    422: extra inputs are not permitted        →  none
    {"top_p": 1.0, …}        400: 'top_p' is not supported              →  none, since it is neutral
    {"temperature": 0, …}    400: 'temperature' is not supported        →  none (counted)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from slowthink.recipe import EndpointConfig

_REJECTIONS = (400, 422)
_OPTIONAL = {"temperature": (0.0, 1.0), "top_p": (1.0,)}
"""Values that are left out for a model without such a setting (OpenAI's reasoning models): those
that it has anyway, and the request for greedy decoding."""
NOT_GREEDY = "the model takes no temperature: it samples where greedy decoding was requested"
"""Counted where greedy decoding was requested in vain."""


class RequestFields:
    """Completes the body of a request; learns from rejections."""

    def __init__(self, config: EndpointConfig, counts: Counter[str]) -> None:
        self._counts = counts
        self._extra = config.request_fields
        self._stream = config.stream
        self._asks_for_usage = True
        self._limit_name = "max_tokens"
        self._left_out: set[str] = set()
        """Names in `_OPTIONAL` that are not sent at these values."""

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
            if fields.get(name) in _OPTIONAL[name]:
                self._counts[NOT_GREEDY] += fields.pop(name) == 0
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
        named = {n for n, values in _OPTIONAL.items() if sent.get(n) in values and n in text}
        self._left_out |= named
        return bool(named)
