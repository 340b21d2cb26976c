"""Inline SVG drawn by hand: scales, ticks, a line chart with intervals, and bars.

A chart is a string of SVG without colours of its own: `chart.css` gives them, on the page and in a
file alike. Every text that comes from data is escaped here.

    line_chart([Line(name="tuned", hue=1, marks=[Mark(x=32, y=0.4, low=0.33, high=0.47)])], ...)
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape

NUM_HUES = 6
LEFT = 62
"""Room for the y axis."""


@dataclass(frozen=True, kw_only=True)
class ChartPoint:
    """One measured point, with the ends of its interval where it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hint: str = ""
    """Shown when the pointer rests on the mark, and read out."""
    label: str = ""
    """Written beside the mark."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Marks of one kind: joined with a band of confidence, or single with whiskers."""

    name: str
    marks: Sequence[ChartPoint]
    hue: int = 0
    shape: str = "dot"
    """dot | ring | diamond | none."""
    joined: bool = True
    band: bool = True
    """Joined marks have a band of confidence behind them, beside their whiskers."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What one axis shows."""

    label: str
    format: Callable[[float], str] = "{:g}".format
    low: float = 0.0
    """The axis reaches at least down to this."""
    high: float | None = None
    """The axis ends here. None: at the next tick above the data."""
    log: str = "never"
    """never | wide: doublings get equal room where the data span more than four of them, with a
    place for 0 | always: a log axis, without one."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A chart's size in its own units; `narrow` ones are for phones."""

    width: int
    height: int


WIDE = Size(width=760, height=400)
NARROW = Size(width=360, height=330)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Data values laid on pixels, after `bend`."""

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """Pixel of a value."""
        low, high, here = (self.bend(one) for one in (self.low, self.high, value))
        share = (here - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def doublings(value: float, *, unit: float) -> float:
    """log2(1 + value / unit): doublings above the unit, with a place for 0."""
    return math.log2(1 + max(value, 0.0) / unit)


def logarithm(value: float, *, low: float) -> float:
    """log2 of the value; what is below `low` is put there."""
    return math.log2(max(value, low))


def ticks(low: float, high: float, *, num: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from below `low` to above `high`.

    >>> ticks(0, 0.47)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    span = (high - low) or abs(high) or 1.0
    high = max(high, low + span)
    raw = span / num
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def log_ticks(high: float, *, unit: float) -> list[float]:
    """0 and doublings of the unit, up to the first above `high`; at most eight of them.

    >>> log_ticks(500, unit=32)
    [0, 32, 64, 128, 256, 512]
    """
    values: list[float] = [unit]
    while values[-1] < high:
        values.append(values[-1] * 2)
    return [0, *values[:: math.ceil(len(values) / 8)]]


def line_chart(
    lines: Sequence[Line], *, x: Axis, y: Axis, size: Size, title: str, css: str = ""
) -> str:
    """One SVG element; with `css` it stands alone, on a ground of its own.

    Raises ValueError where no line has a mark.
    """
    marks = [mark for line in lines for mark in line.marks]
    if not marks:
        raise ValueError(f"chart `{title}`: no marks to draw; expected at least one. Leave it out.")
    rows = list(_legend_rows(lines, size.width - LEFT - 8))
    top = 14 + 22 * len(rows)
    x_scale, x_ticks = _x_scale(marks, x, size)
    y_scale, y_ticks = _y_scale(marks, y, top, size)
    parts = [
        *_legend(rows),
        *_grid(x_scale, x_ticks, x, y_scale, y_ticks, y, size),
        *(part for line in lines for part in _line(line, x_scale, y_scale)),
        *_labels(marks, x_scale, y_scale),
    ]
    return _wrap("".join(parts), size=size, title=title, css=css)


def bar(share: float, *, hue: int = 1, bounds: Sequence[float] | None = None) -> str:
    """A bar as wide as its container times the share in [0, 1], with a whisker for the interval.

    Decoration: the number stands beside it, so it is hidden from screen readers.
    """
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}%"
    parts = ['<rect class="track" width="100%" height="10" rx="3"/>']
    parts.append(f'<rect class="fill" width="{width}" height="10" rx="3"/>')
    if bounds:
        low, high = (100 * min(max(bound, 0.0), 1.0) for bound in bounds)
        parts.append(f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="5" y2="5"/>')
    kind = f"bar hue{hue % NUM_HUES}"
    return f'<svg class="{kind}" height="10" aria-hidden="true">{"".join(parts)}</svg>'


# --- frame ----------------------------------------------------------------------------------------


def _wrap(body: str, *, size: Size, title: str, css: str) -> str:
    ground = ""
    if css:
        ground = f'<style>{css}</style><rect class="ground" width="100%" height="100%" rx="10"/>'
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {size.width} {size.height}" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{ground}{body}</svg>"
    )


def _x_scale(marks: Sequence[ChartPoint], axis: Axis, size: Size) -> tuple[Scale, list[float]]:
    start, end = LEFT, size.width - 26
    high = max(mark.x for mark in marks)
    positive = [mark.x for mark in marks if mark.x > 0]
    if axis.log == "never" or not positive or (axis.log == "wide" and high <= 16 * min(positive)):
        places = ticks(axis.low, high, num=5 if size.width < 500 else 8)
        return Scale(low=places[0], high=places[-1], start=start, end=end), places
    unit = 2.0 ** math.floor(math.log2(min(positive)))
    places = log_ticks(high, unit=unit)
    bend: Callable[[float], float] = partial(doublings, unit=unit)
    if axis.log == "always":
        places = places[1:] if len(places) > 2 else [unit, 2 * unit]
        bend = partial(logarithm, low=unit)
    scale = Scale(low=places[0], high=max(high, places[-1]), start=start, end=end, bend=bend)
    return scale, _apart(places, scale)


def _apart(places: Sequence[float], scale: Scale, *, gap: float = 50) -> list[float]:
    """The ticks whose labels have room, from the right; the first always stays."""
    kept = [places[-1]]
    for place in reversed(places[1:-1]):
        if scale.at(kept[-1]) - scale.at(place) >= gap <= scale.at(place) - scale.at(places[0]):
            kept.append(place)
    return [places[0], *reversed(kept)]


def _y_scale(
    marks: Sequence[ChartPoint], axis: Axis, top: int, size: Size
) -> tuple[Scale, list[float]]:
    high = max(mark.y if mark.high is None else mark.high for mark in marks)
    low = min(axis.low, *(mark.y if mark.low is None else mark.low for mark in marks))
    places = ticks(low, high)
    if axis.high is not None:
        places = [place for place in places if place <= axis.high]
    bottom = size.height - 48
    return Scale(low=places[0], high=places[-1], start=bottom, end=top + 8), places


def _grid(
    x_scale: Scale, x_ticks: Sequence[float], x: Axis,
    y_scale: Scale, y_ticks: Sequence[float], y: Axis, size: Size,
) -> Iterator[str]:  # fmt: skip
    for tick in y_ticks:
        at = y_scale.at(tick)
        yield f'<line class="grid" x1="{x_scale.start}" x2="{x_scale.end}" y1="{at}" y2="{at}"/>'
        yield _text(x_scale.start - 8, at + 4, y.format(tick), anchor="end")
    for tick in x_ticks:
        at = x_scale.at(tick)
        yield _upright("tick", at, y_scale.start, y_scale.start + 5)
        yield _text(at, y_scale.start + 20, x.format(tick), anchor="middle")
    middle = (x_scale.start + x_scale.end) / 2
    yield _text(middle, size.height - 8, x.label, anchor="middle")
    height = (y_scale.start + y_scale.end) / 2
    turn = f' transform="rotate(-90 13 {height})"'
    yield _text(13, height, y.label, anchor="middle", more=turn)


def _upright(kind: str, x: float, start: float, end: float) -> str:
    return f'<line class="{kind}" x1="{x}" x2="{x}" y1="{start}" y2="{end}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


# --- legend ---------------------------------------------------------------------------------------


def _legend_rows(lines: Iterable[Line], width: float) -> Iterator[list[tuple[float, Line]]]:
    """Lines by row, each with its x, so that no row is wider than the chart."""
    row: list[tuple[float, Line]] = []
    used = 0.0
    for line in lines:
        needed = 34 + text_width(line.name)
        if row and used + needed > width:
            yield row
            row, used = [], 0.0
        row.append((LEFT + used, line))
        used += needed
    yield row


def _legend(rows: Sequence[Sequence[tuple[float, Line]]]) -> Iterator[str]:
    for number, row in enumerate(rows):
        y = 18 + 22 * number
        for at, line in row:
            stroke = f'<line class="line" x1="{at}" x2="{at + 16}" y1="{y}" y2="{y}"/>'
            shape = _shape(line.shape, at + 8, y)
            yield f'<g class="hue{line.hue % NUM_HUES}">{stroke if line.joined else ""}{shape}</g>'
            yield _text(at + 22, y + 4, line.name)


def text_width(text: str) -> float:
    """About how wide a text is at 13 px: a wide (Chinese) character counts double."""
    return sum(13.0 if unicodedata.east_asian_width(char) in "WF" else 6.8 for char in text)


# --- marks ----------------------------------------------------------------------------------------


def _line(line: Line, x: Scale, y: Scale) -> Iterator[str]:
    yield f'<g class="hue{line.hue % NUM_HUES}">'
    if line.joined and len(line.marks) > 1:
        yield _band(line.marks, x, y) if line.band else ""
        path = " ".join(f"{x.at(mark.x)},{y.at(mark.y)}" for mark in line.marks)
        yield f'<polyline class="line" points="{path}"/>'
    for mark in line.marks:
        yield _mark(mark, line, x, y)
    yield "</g>"


def _band(marks: Sequence[ChartPoint], x: Scale, y: Scale) -> str:
    ends = [(x.at(m.x), m.low, m.high) for m in marks if m.low is not None and m.high is not None]
    if len(ends) < 2:
        return ""
    upper = [f"{at},{y.at(high)}" for at, _, high in ends]
    lower = [f"{at},{y.at(low)}" for at, low, _ in reversed(ends)]
    return f'<polygon class="band" points="{" ".join(upper + lower)}"/>'


def _mark(mark: ChartPoint, line: Line, x: Scale, y: Scale) -> str:
    at, up = x.at(mark.x), y.at(mark.y)
    parts = [f"<title>{escape(mark.hint)}</title>"] if mark.hint else []
    if mark.low is not None and mark.high is not None:
        parts.append(_upright("whisker", at, y.at(mark.low), y.at(mark.high)))
    parts.append(_shape(line.shape, at, up))
    return f"<g>{''.join(parts)}</g>"


def _labels(marks: Sequence[ChartPoint], x: Scale, y: Scale) -> Iterator[str]:
    """Labels above their marks, from the right; one that would cover another is left out."""
    taken: list[tuple[float, float]] = []
    for mark in sorted((mark for mark in marks if mark.label), key=lambda mark: -mark.x):
        at, up = x.at(mark.x), y.at(mark.y if mark.high is None else mark.high) - 6
        if all(abs(at - left) > 22 or abs(up - top) > 13 for left, top in taken):
            taken.append((at, up))
            yield _text(at, up, mark.label, anchor="middle")


def _shape(shape: str, x: float, y: float) -> str:
    if shape == "none":
        return ""
    if shape == "diamond":
        corners = f"{x},{y - 6} {x + 6},{y} {x},{y + 6} {x - 6},{y}"
        return f'<polygon class="dot" points="{corners}"/>'
    kind, radius = ("ring", 4.5) if shape == "ring" else ("dot", 4)
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"/>'
