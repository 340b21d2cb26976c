"""Formats of the page: `percent(0.45)` is `45.0%`; a missing value is `–`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "–"


def plain(value: Any) -> str:
    """The value as text."""
    return MISSING if value is None else str(value)


def json_safe(value: Any) -> Any:
    """The value with NaN and infinity replaced by None, since JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    return value


def percent(share: float | None) -> str:
    """A share in [0, 1] in per cent, with one decimal."""
    return MISSING if share is None else f"{100 * share:.1f}%"


def percentage_points(difference: float | None) -> str:
    """A difference of shares in percentage points, always with a sign."""
    if difference is None:
        return MISSING
    sign = "−" if difference < 0 else "+"
    return f"{sign}{abs(100 * difference):.1f}"


def points_per_thousand(slope: float | None) -> str:
    """A slope of shares per token in percentage points per 1,000 tokens."""
    return percentage_points(None if slope is None else 1000 * slope)


def interval(bounds: Sequence[float] | None) -> str:
    """An interval of shares as `34.0 to 47.5`, in per cent; empty if there is none."""
    if not bounds:
        return ""
    low, high = (f"{100 * bound:.1f}".replace("-", "−") for bound in bounds)
    return f"{low} to {high}"


def difference_interval(bounds: Sequence[float]) -> str:
    """An interval of a difference of shares, in points; says so if it includes 0."""
    return interval(bounds) + (", includes 0" if includes_zero(bounds) else "")


def count(value: float | None) -> str:
    """A count with thousands separators."""
    return MISSING if value is None else f"{value:,.0f}"


def decimal(value: float | None) -> str:
    """A mean with one decimal; without decimals from 1,000."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}"


def correlation(value: float | None) -> str:
    """Two decimals with a sign.

    >>> correlation(0.8051), correlation(None)
    ('+0.81', '–')
    """
    return MISSING if value is None else f"{value:+.2f}"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units.

    >>> duration(432.1), duration(7384), duration(4.21)
    ('7 min 12 s', '2 h 3 min', '4.2 s')
    """
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole_seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {whole_seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def mebibytes(value: float | None) -> str:
    """A size in MiB, without decimals."""
    return f"{count(value)} MiB"


def shorten(text: str, *, limit: int) -> str:
    """The text; if too long, its beginning and end with the number of characters left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} […{len(text) - 2 * half:,} characters left out…] {text[-half:]}"


def join_cjk(tokens: str) -> str:
    """Space-separated tokens without the spaces between Chinese characters.

    >>> join_cjk("甲 乙 相 距 480 千 米 of road")
    '甲乙相距 480 千米 of road'
    """
    return re.sub(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])", "", tokens)


def solve_mark(share: float) -> str:
    """How often a question was solved: ✗ never, ✓ always, otherwise in per cent."""
    return {0.0: "✗", 1.0: "✓"}.get(share, f"{100 * share:.0f}%")


def p_value(p: float | None) -> str:
    """A p value with three decimals, or `< 0.001`."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def quantiles(values: Mapping[str, float] | None) -> str:
    """Quantiles as `10th 12.0 · 50th 40.0 · 90th 96.0`; empty if there are none."""
    return " · ".join(f"{name}th {decimal(value)}" for name, value in (values or {}).items())


def budget_label(point: Mapping[str, Any]) -> str:
    """The thinking budget of a point of a curve, e.g. `≤ 96 tokens + 2 waits`."""
    free = point.get("forced") is False
    if free and not point.get("max_thinking_tokens"):
        return "stored samples"  # generated elsewhere, under an unknown budget
    cap = f"≤ {count(point.get('max_thinking_tokens'))} tokens"
    if free:
        return f"free, {cap}"
    waits = point.get("waits") or 0
    return f"{cap} + {waits} wait{'s' if waits > 1 else ''}" if waits else cap


def detectable_points(difference: float | None) -> str:
    """The smallest true difference that can be detected, in percentage points."""
    return f"{100 * difference:.1f} points" if difference else MISSING


def detectable_difference(pair: Mapping[str, Any]) -> str:
    """A sentence on the smallest true difference that this many questions can detect."""
    detectable, n = pair.get("minimal_detectable_difference"), pair.get("n")
    if detectable is None:
        return f"n = {count(n)} is too small to compute a detectable difference."
    if not detectable:
        equally = "differ by the same amount" if pair.get("difference") else "gave the same result"
        return f"Both {equally} on every question; no detectable difference can be computed."
    return (
        f"This set of {count(n)} questions could detect a true difference of "
        f"{detectable_points(detectable)} or more."
    )


def includes_zero(bounds: Sequence[float] | None) -> bool:
    """Whether an interval of a difference includes 0, so that no difference is established."""
    return bool(bounds) and bounds[0] <= 0 <= bounds[1]  # type: ignore[index]
