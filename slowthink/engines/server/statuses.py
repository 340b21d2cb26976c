"""HTTP statuses other than 200: which may pass, when to ask again, and what to do about the others.

rejection(url, 402, "Insufficient Balance", …)               "… The account has no credit left: …"
pause_seconds({"x-ratelimit-reset-requests": "1m30s"})  90.0
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from slowthink.errors import EngineError
from slowthink.recipe import EndpointConfig

RETRYABLE_STATUSES = frozenset(
    {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
)
"""Statuses of failures that may pass; a server may also write them into a body."""
OVERLOAD_STATUSES = frozenset({429, 503, 529})
_FINAL_STATUSES = frozenset({401, 402, 429})
"""Of a key or an account: any other request would be rejected as well. A 429 that is no rejection
may pass; see `may_pass`."""
_NO_CREDIT = re.compile(r"insufficient.?(quota|balance|credit|fund)|exceeded_current_quota", re.I)
_FIELD_REMEDIES = {
    "max_tokens": "Lower the budget: max_thinking_tokens, answer_tokens.",
    "max_completion_tokens": "Lower the budget: max_thinking_tokens, answer_tokens.",
    "temperature": "Set the sampling that the model takes, such as {temperature: 1, top_p: 1}.",
    "top_p": "Set the sampling that the model takes, such as {temperature: 1, top_p: 1}.",
}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")
_DURATION_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
_MIN_EPOCH_SECONDS, _MIN_EPOCH_MILLISECONDS = 1e9, 1e12


class RequestRejected(EngineError):
    """A server rejected a request, and would reject it again."""

    def __init__(self, message: str, status: int = 0, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body

    @property
    def is_final(self) -> bool:
        """Whether every other request to these servers would be rejected, too."""
        return self.status in _FINAL_STATUSES


def may_pass(status: int, headers: Mapping[str, str], text: str) -> bool:
    """Whether the same request may succeed later. A used-up account does not fill itself, though
    some servers report it as a rate limit."""
    if status == 402:  # OpenRouter: too many requests at once for what is left
        return headers.get("Retry-After") is not None
    return status in RETRYABLE_STATUSES and not (status == 429 and names_no_credit(text))


def names_no_credit(text: str) -> bool:
    """Whether an error says that an account is used up."""
    return _NO_CREDIT.search(text) is not None


def rejection(
    url: str, status: int, text: str, *, model: object, config: EndpointConfig
) -> RequestRejected:
    """The error of a request that would be rejected again. `text`: the reply, without secrets."""
    of_model = f", model `{model}`" if model else ""
    return RequestRejected(
        f"{url}{of_model}: status {status}, {text[:300]!r}; expected 200. "
        f"{_remedy(status, text, config)}",
        status,
        text,
    )


def _remedy(status: int, text: str, config: EndpointConfig) -> str:
    variable = config.api_key_env
    if 300 <= status < 400:
        return (
            "The server redirects to another address, which the key is not sent to. Name that "
            "address, perhaps with https: engine.endpoints.urls."
        )
    if status in (401, 403) and variable is None:
        return "Name the environment variable with the key: engine.endpoints.api_key_env."
    if status == 401:
        return f"Check the key in the environment variable `{variable}`."
    if status in (402, 429):
        return (
            "The account has no credit left: add some, or lower what is asked for, then repeat the "
            "command: finished requests are kept."
        )
    if status == 403:
        return (
            f"See whether the key in `{variable}` may use this model, and whether a filter of the "
            "API refuses the prompt."
        )
    if status == 404:
        return "Check engine.endpoints.urls (they end in /v1) and engine.endpoints.model."
    for name in config.request_fields:
        if name in text:
            return f"Change engine.endpoints.extra_body or reasoning_effort: it names `{name}`."
    named = next((name for name in _FIELD_REMEDIES if name in text), "")
    return _FIELD_REMEDIES.get(named, "Read the server's message and change the request.")


def remedy_after_retries(reason: str) -> str:
    """What to do about a failure that did not pass."""
    if reason == "status 429":
        return "Wait, or lower engine.endpoints.max_concurrency, then"
    if reason.startswith("no answer in"):
        return "Raise engine.endpoints.timeout_seconds or set stream: true, then"
    return "See the server's log, then"


# --- when to ask again ----------------------------------------------------------------------------


def pause_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds until a server accepts requests again, by its headers; None if they do not say.

    `Retry-After`, `retry-after-ms`, and `x-ratelimit-reset-*` of the limits that are used up.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    after = retry_after_seconds(lower.get("retry-after"))
    if after is not None:
        return after
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(lower["retry-after-ms"]) / 1000)
    return max(_reset_seconds(lower), default=None)


def _reset_seconds(headers: Mapping[str, str]) -> Iterator[float]:
    """Seconds until each limit that is used up is reset."""
    for name, value in headers.items():
        if "ratelimit-reset" not in name:
            continue
        if headers.get(name.replace("-reset", "-remaining"), "0").strip() not in ("0", "0.0"):
            continue
        seconds = _until(value.strip())
        if seconds is not None:
            yield seconds


def _until(value: str) -> float | None:
    """Seconds until a time: a duration (`1m30s`, `20ms`), seconds, an epoch or a date."""
    with contextlib.suppress(ValueError):
        number = float(value)
        if number >= _MIN_EPOCH_MILLISECONDS:
            number /= 1000
        return max(0.0, number - time.time() if number >= _MIN_EPOCH_SECONDS else number)
    match = _DURATION.fullmatch(value) if value else None
    if match is not None:
        parts = zip(match.groups(), _DURATION_SECONDS, strict=True)
        with contextlib.suppress(ValueError):
            return sum(float(part) * seconds for part, seconds in parts if part)
    with contextlib.suppress(ValueError):
        return _seconds_until(datetime.fromisoformat(value))
    return retry_after_seconds(value)


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds until the time in a Retry-After header, which is in seconds or a date (RFC 9110,
    section 10.2.3). None if the header is missing or unreadable."""
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    try:
        return _seconds_until(parsedate_to_datetime(value))
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds_until(date: datetime) -> float:
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
