"""Inline SVG: scales, ticks, a line chart with intervals, and bars.

A chart is a string of SVG without colours: `chart.css` defines them, on the page and in a file.
Every text from data is escaped here.

    line_chart([Line(name="tuned", marks=[ChartPoint(x=32, y=0.4, low=0.33, high=0.47)])], ...)
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape

NUM_COLOURS = 6
LEFT = 62
"""Width of the y axis with its labels."""


@dataclass(frozen=True, kw_only=True)
class ChartPoint:
    """A measured point, with the bounds of its interval if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    hint: str = ""
    """Tooltip of the mark, also read by screen readers."""
    label: str = ""
    """Printed above the mark."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Marks of one series: joined by a line, or separate."""

    name: str
    marks: Sequence[ChartPoint]
    colour: int = 0
    """Index of a colour: class `hue1` of chart.css is colour 1."""
    shape: str = "dot"
    """dot | ring | diamond | none."""
    joined: bool = True
    band: bool = True
    """Whether joined marks have an interval band behind them, in addition to whiskers."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Label, range and scale of an axis."""

    label: str
    format: Callable[[float], str] = "{:g}".format
    low: float = 0.0
    """The axis starts at this value, or at the next tick below the data."""
    high: float | None = None
    """The axis ends at this value. None: at the next tick above the data."""
    log: str = "never"
    """never | always: log2, without 0 | wide: log2(1 + x), which has a position for 0, if the data
    span more than four doublings."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a chart in user units."""

    width: int
    height: int


WIDE = Size(width=760, height=400)
NARROW = Size(width=360, height=330)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps data values to pixels, linearly after `transform`."""

    low: float
    high: float
    start: float
    end: float
    transform: Callable[[float], float] = float
    ticks: Sequence[float] = ()

    def to_pixel(self, value: float) -> float:
        """The pixel of a value."""
        low, high, position = (self.transform(v) for v in (self.low, self.high, value))
        share = (position - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def doublings(value: float, *, unit: float) -> float:
    """log2(1 + value / unit): doublings above the unit; 0 for 0."""
    return math.log2(1 + max(value, 0.0) / unit)


def clipped_log2(value: float, *, low: float) -> float:
    """log2 of the value, clipped below at `low`."""
    return math.log2(max(value, low))


def ticks(low: float, high: float, *, num: int = 5) -> list[float]:
    """Round values from below `low` to above `high`, in steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 0.47)
    [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    """
    span = (high - low) or abs(high) or 1.0
    high = max(high, low + span)
    min_step = span / num
    power = 10.0 ** math.floor(math.log10(min_step))
    step = next(
        power * factor for factor in (1, 2, 5, 10) if power * factor >= min_step * (1 - 1e-9)
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def log_ticks(high: float, *, unit: float) -> list[float]:
    """0 and at most eight doublings of the unit, up to the first above `high`.

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
    """An SVG element; with `css` it is self-contained and has a background.

    Raises ValueError if no line has a mark.
    """
    marks = [mark for line in lines for mark in line.marks]
    if not marks:
        raise ValueError(
            f"chart `{title}`: no marks to draw; expected at least one. Omit the chart."
        )
    rows = list(_legend_rows(lines, size.width - LEFT - 8))
    top = 14 + 22 * len(rows)
    x_scale, y_scale = _x_scale(marks, x, size), _y_scale(marks, y, top, size)
    parts = [
        *_legend(rows),
        *_grid(x_scale, x, y_scale, y, size),
        *(part for line in lines for part in _draw_line(line, x_scale, y_scale)),
        *_point_labels(marks, x_scale, y_scale),
    ]
    return _svg_element("".join(parts), size=size, title=title, css=css)


def bar(share: float, *, colour: int = 1, bounds: Sequence[float] | None = None) -> str:
    """A bar of the width `share` (in [0, 1]) of its container, with a whisker for the interval.

    Hidden from screen readers, since the number is printed beside it.
    """
    width = f"{100 * min(max(share, 0.0), 1.0):.2f}%"
    parts = ['<rect class="track" width="100%" height="10" rx="3"/>']
    parts.append(f'<rect class="fill" width="{width}" height="10" rx="3"/>')
    if bounds:
        low, high = (100 * min(max(bound, 0.0), 1.0) for bound in bounds)
        parts.append(f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="5" y2="5"/>')
    css_class = f"bar hue{colour % NUM_COLOURS}"
    return f'<svg class="{css_class}" height="10" aria-hidden="true">{"".join(parts)}</svg>'


# --- frame ----------------------------------------------------------------------------------------


def _svg_element(body: str, *, size: Size, title: str, css: str) -> str:
    background = '<rect class="background" width="100%" height="100%" rx="10"/>'
    background = f"<style>{css}</style>{background}" if css else ""
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {size.width} {size.height}" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{background}{body}</svg>"
    )


def _x_scale(marks: Sequence[ChartPoint], axis: Axis, size: Size) -> Scale:
    start, end = LEFT, size.width - 26
    high = max(mark.x for mark in marks)
    positive = [mark.x for mark in marks if mark.x > 0]
    if axis.log == "never" or not positive or (axis.log == "wide" and high <= 16 * min(positive)):
        values = _labelled_ticks(axis.low, high, axis, num=5 if size.width < 500 else 8)
        return Scale(low=values[0], high=values[-1], start=start, end=end, ticks=values)
    unit = 2.0 ** math.floor(math.log2(min(positive)))
    values = log_ticks(high, unit=unit)
    transform: Callable[[float], float] = partial(doublings, unit=unit)
    if axis.log == "always":
        values = values[1:] if len(values) > 2 else [unit, 2 * unit]
        transform = partial(clipped_log2, low=unit)
    scale = Scale(
        low=values[0], high=max(high, values[-1]), start=start, end=end, transform=transform
    )
    return replace(scale, ticks=_spaced(values, scale))


def _labelled_ticks(low: float, high: float, axis: Axis, *, num: int = 5) -> list[float]:
    """As `ticks`, but so few that the axis's format prints no two alike: steps of training are 0, 1
    and 2, not 0, 0.5, 1."""
    choices = [ticks(low, high, num=fewer) for fewer in range(num, 0, -1)]
    for values in choices:
        if len({axis.format(value) for value in values}) == len(values):
            return values
    return choices[0]


def _spaced(values: Sequence[float], scale: Scale) -> list[float]:
    """The ticks at least 50 pixels apart, chosen from the right; the first is always kept."""
    first, kept = scale.to_pixel(values[0]), [values[-1]]
    for value in reversed(values[1:-1]):
        pixel = scale.to_pixel(value)
        if min(scale.to_pixel(kept[-1]) - pixel, pixel - first) >= 50:
            kept.append(value)
    return [values[0], *reversed(kept)]


def _y_scale(marks: Sequence[ChartPoint], axis: Axis, top: int, size: Size) -> Scale:
    high = max(mark.y if mark.high is None else mark.high for mark in marks)
    low = min(axis.low, *(mark.y if mark.low is None else mark.low for mark in marks))
    values = _labelled_ticks(low, high, axis)
    if axis.high is not None:
        values = [value for value in values if value <= axis.high]
    bottom = size.height - 48
    return Scale(low=values[0], high=values[-1], start=bottom, end=top + 8, ticks=values)


def _grid(x_scale: Scale, x: Axis, y_scale: Scale, y: Axis, size: Size) -> Iterator[str]:
    for tick in y_scale.ticks:
        y_px = y_scale.to_pixel(tick)
        left, right = x_scale.start, x_scale.end
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{y_px}" y2="{y_px}"/>'
        yield _text(x_scale.start - 8, y_px + 4, y.format(tick), anchor="end")
    for tick in x_scale.ticks:
        x_px = x_scale.to_pixel(tick)
        yield _vertical("tick", x_px, y_scale.start, y_scale.start + 5)
        yield _text(x_px, y_scale.start + 20, x.format(tick), anchor="middle")
    middle = (x_scale.start + x_scale.end) / 2
    yield _text(middle, size.height - 8, x.label, anchor="middle")
    height = (y_scale.start + y_scale.end) / 2
    rotation = f' transform="rotate(-90 13 {height})"'
    yield _text(13, height, y.label, anchor="middle", attributes=rotation)


def _vertical(css_class: str, x: float, start: float, end: float) -> str:
    return f'<line class="{css_class}" x1="{x}" x2="{x}" y1="{start}" y2="{end}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{attributes}>{escape(text)}</text>'


# --- legend ---------------------------------------------------------------------------------------


def _legend_rows(lines: Iterable[Line], width: float) -> Iterator[list[tuple[float, Line]]]:
    """Rows of (x, line) no wider than the chart."""
    row: list[tuple[float, Line]] = []
    used = 0.0
    for line in lines:
        entry_width = 34 + text_width(line.name)
        if row and used + entry_width > width:
            yield row
            row, used = [], 0.0
        row.append((LEFT + used, line))
        used += entry_width
    yield row


def _legend(rows: Sequence[Sequence[tuple[float, Line]]]) -> Iterator[str]:
    for row_index, row in enumerate(rows):
        y = 18 + 22 * row_index
        for x, line in row:
            stroke = f'<line class="line" x1="{x}" x2="{x + 16}" y1="{y}" y2="{y}"/>'
            shape = _draw_shape(line.shape, x + 8, y)
            marks = f"{stroke}{shape}" if line.joined else shape
            yield f'<g class="hue{line.colour % NUM_COLOURS}">{marks}</g>'
            yield _text(x + 22, y + 4, line.name)


def text_width(text: str) -> float:
    """Approximate width of a text at 13 px; wide (Chinese) characters count double."""
    return sum(13.0 if unicodedata.east_asian_width(char) in "WF" else 6.8 for char in text)


# --- marks ----------------------------------------------------------------------------------------


def _draw_line(line: Line, x: Scale, y: Scale) -> Iterator[str]:
    yield f'<g class="hue{line.colour % NUM_COLOURS}">'
    if line.joined and len(line.marks) > 1:
        yield _interval_band(line.marks, x, y) if line.band else ""
        path = " ".join(f"{x.to_pixel(mark.x)},{y.to_pixel(mark.y)}" for mark in line.marks)
        yield f'<polyline class="line" points="{path}"/>'
    for mark in line.marks:
        yield _draw_mark(mark, line, x, y)
    yield "</g>"


def _interval_band(marks: Sequence[ChartPoint], x: Scale, y: Scale) -> str:
    intervals = [
        (x.to_pixel(m.x), m.low, m.high) for m in marks if m.low is not None and m.high is not None
    ]
    if len(intervals) < 2:
        return ""
    upper = [f"{x_px},{y.to_pixel(high)}" for x_px, _, high in intervals]
    lower = [f"{x_px},{y.to_pixel(low)}" for x_px, low, _ in reversed(intervals)]
    return f'<polygon class="band" points="{" ".join(upper + lower)}"/>'


def _draw_mark(mark: ChartPoint, line: Line, x: Scale, y: Scale) -> str:
    x_px, y_px = x.to_pixel(mark.x), y.to_pixel(mark.y)
    parts = [f"<title>{escape(mark.hint)}</title>"] if mark.hint else []
    if mark.low is not None and mark.high is not None:
        parts.append(_vertical("whisker", x_px, y.to_pixel(mark.low), y.to_pixel(mark.high)))
    parts.append(_draw_shape(line.shape, x_px, y_px))
    return f"<g>{''.join(parts)}</g>"


def _point_labels(marks: Sequence[ChartPoint], x: Scale, y: Scale) -> Iterator[str]:
    """Labels above their marks, from the right; a label that would overlap another is omitted."""
    placed: list[tuple[float, float]] = []
    for mark in sorted((mark for mark in marks if mark.label), key=lambda mark: -mark.x):
        x_px, y_px = x.to_pixel(mark.x), y.to_pixel(mark.y if mark.high is None else mark.high) - 6
        if all(abs(x_px - left) > 22 or abs(y_px - top) > 13 for left, top in placed):
            placed.append((x_px, y_px))
            yield _text(x_px, y_px, mark.label, anchor="middle")


def _draw_shape(shape: str, x: float, y: float) -> str:
    if shape == "none":
        return ""
    if shape == "diamond":
        corners = f"{x},{y - 6} {x + 6},{y} {x},{y + 6} {x - 6},{y}"
        return f'<polygon class="dot" points="{corners}"/>'
    css_class, radius = ("ring", 4.5) if shape == "ring" else ("dot", 4)
    return f'<circle class="{css_class}" cx="{x}" cy="{y}" r="{radius}"/>'
