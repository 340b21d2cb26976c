"""The charts of the page: accuracy against tokens, for one chain or several, and training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any

from markupsafe import Markup

from slowthink.analysis import votes
from slowthink.stages.report import svg
from slowthink.stages.report.tables import Json
from slowthink.stages.report.text import budget_label, count, decimal, interval, percent, shorten

CURVE_TITLE = "Accuracy against thinking tokens, with 95 % intervals"
PARALLEL_TITLE = "Accuracy against all tokens per problem, sequential and parallel scaling"
ACCURACY_AXIS = svg.Axis(label="Accuracy", format="{:.0%}".format, high=1.0)
METHODS = ("sequential", *votes.METHODS, "rejection", "rebase")
"""In the order of their colours."""
MAX_CURVES = 8
SHAPES = ("dot", "diamond", "ring")


def chart_css() -> str:
    """Colours of every chart, light and dark."""
    return (resources.files("slowthink.stages.report") / "chart.css").read_text("utf-8")


def responsive_chart(draw: Callable[..., str], rows: Sequence[Any]) -> dict[str, Markup] | None:
    """The same chart for wide screens and for phones; CSS shows one. None if it is empty."""
    wide, narrow = (draw(rows, size=size) for size in (svg.WIDE, svg.NARROW))
    return {"wide": Markup(wide), "narrow": Markup(narrow)} if wide else None


def curve_svg(arms: Sequence[Json], *, size: svg.Size = svg.WIDE, css: str = "") -> str:
    """Accuracy against mean thinking tokens: one line per arm, other marks for waits and unforced.

    Empty if no point was measured. With `css` the picture is self-contained.
    """
    lines = [
        line for index, arm in enumerate(arms) for line in _arm_lines(arm, index + (len(arms) < 2))
    ]
    if not lines:
        return ""
    x = svg.Axis(label="Mean thinking tokens", format=count, log="wide")
    return svg.line_chart(lines, x=x, y=ACCURACY_AXIS, size=size, title=CURVE_TITLE, css=css)


def _arm_lines(arm: Json, colour: int) -> Iterator[svg.Line]:
    points = sorted(
        (point for point in arm["points"] if point.get("accuracy") is not None),
        key=_thinking_tokens,
    )
    name = shorten(arm["name"], limit=48)
    capped = [point for point in points if point.get("forced") and not point.get("waits")]
    with_waits = [point for point in points if point.get("forced") and point.get("waits")]
    unforced = [point for point in points if not point.get("forced")]
    for label, group, shape in (
        (name, capped, "dot"),
        (f"{name}, with waits", with_waits, "diamond"),
        (f"{name}, not forced", unforced, "ring"),
    ):
        if group:
            marks, joined = list(map(_budget_mark, group)), shape == "dot"
            yield svg.Line(name=label, marks=marks, colour=colour, shape=shape, joined=joined)


def _budget_mark(point: Json) -> svg.ChartPoint:
    tokens = _thinking_tokens(point)
    details = f"n = {point.get('n')}, mean {decimal(tokens)} thinking tokens"
    label = f"+{point['waits']}" if point.get("waits") else ""
    return _accuracy_mark(point, tokens, budget_label(point), details, label=label)


def _accuracy_mark(
    point: Json, x: float, name: str, details: str, *, label: str = ""
) -> svg.ChartPoint:
    low, high = point.get("ci95") or (None, None)
    hint = f"{name}: {percent(point['accuracy'])} [{interval(point.get('ci95'))}], {details}"
    return svg.ChartPoint(x=x, y=point["accuracy"], low=low, high=high, hint=hint, label=label)


def _thinking_tokens(point: Json) -> float:
    mean = point.get("mean_thinking_tokens")
    return float(point.get("max_thinking_tokens") or 0) if mean is None else float(mean)


STEP_CHARTS: dict[str, tuple[str, svg.Axis]] = {
    "loss": ("Training loss", svg.Axis(label="Loss (nats per token)")),
    "token_accuracy": ("Token accuracy", svg.Axis(label="Share of loss tokens", format=percent)),
    "learning_rate": ("Learning rate", svg.Axis(label="Learning rate")),
    "tokens_per_second": ("Speed", svg.Axis(label="Tokens a second", format=count)),
    "memory_mb": ("Peak memory", svg.Axis(label="MiB", format=count)),
}
"""Title and vertical axis of the charts of training, by column; the page shows the first open."""


def step_svg(rows: Sequence[Json], *, column: str = "loss", size: svg.Size = svg.WIDE) -> str:
    """A figure of the steps against their number; empty if fewer than two were recorded."""
    title, y = STEP_CHARTS[column]
    marks = [
        svg.ChartPoint(
            x=row["step"],
            y=row[column],
            hint=f"step {row['step']}: {title.lower()} {y.format(row[column])}",
        )
        for row in rows
        if row.get(column) is not None
    ]
    if len(marks) < 2:
        return ""
    shape = "dot" if len(marks) <= 60 else "none"
    line = svg.Line(name=title.lower(), marks=marks, colour=1, shape=shape)
    x = svg.Axis(label="Optimiser step", format=count)
    return svg.line_chart([line], x=x, y=y, size=size, title=title)


def parallel_svg(curves: Sequence[Json], *, size: svg.Size = svg.WIDE) -> str:
    """Accuracy against all tokens per problem: one line per curve, one colour per method.

    Empty if no point was measured.
    """
    lines: list[svg.Line] = []
    for curve in curves:
        colour = METHODS.index(curve["method"]) if curve["method"] in METHODS else 0
        marks = [
            _parallel_mark(point) for point in curve["points"] if point.get("accuracy") is not None
        ]
        if marks:
            shape = SHAPES[sum(line.colour == colour for line in lines) % len(SHAPES)]
            name = shorten(str(curve["name"]), limit=48)
            lines.append(
                svg.Line(
                    name=name, marks=sorted(marks, key=lambda mark: mark.x), colour=colour,
                    shape=shape, band=False,
                )
            )  # fmt: skip
    if not lines:
        return ""
    x = svg.Axis(label="Tokens per problem, all counted (log)", format=count, log="always")
    return svg.line_chart(lines, x=x, y=ACCURACY_AXIS, size=size, title=PARALLEL_TITLE)


def _parallel_mark(point: Json) -> svg.ChartPoint:
    tokens = float(point["tokens_per_problem"]) + float(point.get("scorer_tokens_per_problem") or 0)
    return _accuracy_mark(
        point, tokens, f"k = {point.get('k')}", f"{decimal(tokens)} tokens per problem"
    )


def select_curves(curves: Sequence[Json]) -> list[Json]:
    """The curves to draw in one plot, in their order: all but votes, and as many votes as fit.

    Votes over the longest chains are preferred, equally many per method.
    """
    voted = [i for i, curve in enumerate(curves) if curve["method"] in votes.METHODS]
    ranks: dict[int, int] = {}
    for method in votes.METHODS:
        same_method = [i for i in voted if curves[i]["method"] == method]
        same_method.sort(key=lambda i: _chain_length(curves[i]), reverse=True)
        ranks |= {i: rank for rank, i in enumerate(same_method)}
    num_votes = max(len(votes.METHODS), MAX_CURVES - (len(curves) - len(voted)))
    kept_votes = set(sorted(voted, key=lambda i: (ranks[i], i))[:num_votes])
    return [curve for i, curve in enumerate(curves) if i in kept_votes or i not in voted]


def _chain_length(curve: Json) -> tuple[bool, int, bool]:
    point = curve.get("sequential_point") or {}
    forced = bool(point.get("forced", True))
    return not point.get("waits"), point.get("max_thinking_tokens", 0), forced
