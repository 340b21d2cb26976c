"""The charts of the page: accuracy against tokens, of one chain or several; the training loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from slowthink.stages.report import svg
from slowthink.stages.report.text import budget_label, count, decimal, interval, percent, shorten

CURVE_TITLE = "Accuracy against thinking tokens, with 95 % intervals"
PARALLEL_TITLE = "Accuracy against all tokens spent on a problem, sequential and parallel"
METHODS = ("sequential", "majority", "weighted", "best-of-n", "rejection", "rebase")
VOTES = ("majority", "weighted", "best-of-n")
MAX_CURVES = 8
SHAPES = ("dot", "diamond", "ring")


def chart_css() -> str:
    """Colours of every chart, light and dark."""
    return (resources.files("slowthink.stages.report") / "chart.css").read_text("utf-8")


def curve_svg(arms: Sequence[dict[str, Any]], *, size: svg.Size = svg.WIDE, css: str = "") -> str:
    """Accuracy against mean thinking tokens: a line an arm, waits and free points apart.

    Empty where no point was measured. With `css` the picture stands alone.
    """
    lines = [
        line for hue, arm in enumerate(arms) for line in _arm_lines(arm, hue + (len(arms) < 2))
    ]
    if not lines:
        return ""
    x = svg.Axis(label="Mean thinking tokens", format=count, log="wide")
    y = svg.Axis(label="Accuracy", format="{:.0%}".format, high=1.0)
    return svg.line_chart(lines, x=x, y=y, size=size, title=CURVE_TITLE, css=css)


def loss_svg(rows: Sequence[dict[str, Any]], *, size: svg.Size = svg.WIDE) -> str:
    """Training loss against optimiser steps; empty where fewer than two were recorded."""
    marks = [
        svg.ChartPoint(
            x=row["step"], y=row["loss"], hint=f"step {row['step']}: loss {row['loss']:.3f}"
        )
        for row in rows
        if row.get("loss") is not None
    ]
    if len(marks) < 2:
        return ""
    shape = "dot" if len(marks) <= 60 else "none"
    line = svg.Line(name="training loss per token", marks=marks, hue=1, shape=shape)
    x = svg.Axis(label="Optimiser step", format=count)
    y = svg.Axis(label="Loss (nats per token)")
    return svg.line_chart([line], x=x, y=y, size=size, title="Training loss")


def parallel_svg(curves: Sequence[Mapping[str, Any]], *, size: svg.Size = svg.WIDE) -> str:
    """Accuracy against tokens per problem, all counted: a line a curve, a colour a method.

    Empty where no point was measured.
    """
    lines: list[svg.Line] = []
    for curve in curves:
        hue = METHODS.index(curve["method"]) if curve["method"] in METHODS else 0
        marks = [
            _spent_mark(point) for point in curve["points"] if point.get("accuracy") is not None
        ]
        if marks:
            shape = SHAPES[sum(line.hue == hue for line in lines) % len(SHAPES)]
            name = shorten(str(curve["name"]), limit=48)
            lines.append(
                svg.Line(
                    name=name, marks=sorted(marks, key=lambda mark: mark.x), hue=hue, shape=shape,
                    band=False,
                )
            )  # fmt: skip
    if not lines:
        return ""
    x = svg.Axis(label="Tokens per problem, all counted (log)", format=count, log="always")
    y = svg.Axis(label="Accuracy", format="{:.0%}".format, high=1.0)
    return svg.line_chart(lines, x=x, y=y, size=size, title=PARALLEL_TITLE)


def drawn_curves(curves: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The curves that one plot has room for, in their order: all but those of votes, and of votes
    the ones over the longest chains, of each method in turn."""
    places = [i for i, curve in enumerate(curves) if curve["method"] in VOTES]
    rank: dict[int, int] = {}
    for method in VOTES:
        own = [i for i in places if curves[i]["method"] == method]
        own.sort(key=lambda i: _length(curves[i]), reverse=True)
        rank |= {i: number for number, i in enumerate(own)}
    room = max(len(VOTES), MAX_CURVES - (len(curves) - len(places)))
    kept = set(sorted(places, key=lambda i: (rank[i], i))[:room])
    return [curve for i, curve in enumerate(curves) if i in kept or i not in places]


def _length(curve: Mapping[str, Any]) -> tuple[bool, int, bool]:
    point = curve.get("sequential_point") or {}
    forced = bool(point.get("forced", True))
    return not point.get("waits"), point.get("max_thinking_tokens", 0), forced


def tokens_spent(point: Mapping[str, Any]) -> float:
    """All tokens that one problem cost: the model's and the scorer's."""
    return float(point["tokens_per_problem"]) + float(point.get("scorer_tokens_per_problem") or 0)


def _spent_mark(point: Mapping[str, Any]) -> svg.ChartPoint:
    low, high = point.get("ci95") or (None, None)
    hint = (
        f"k = {point.get('k')}: {percent(point['accuracy'])} [{interval(point.get('ci95'))}], "
        f"{decimal(tokens_spent(point))} tokens per problem"
    )
    return svg.ChartPoint(x=tokens_spent(point), y=point["accuracy"], low=low, high=high, hint=hint)


def _arm_lines(arm: dict[str, Any], hue: int) -> Iterator[svg.Line]:
    points = sorted(
        (point for point in arm["points"] if point.get("accuracy") is not None), key=_tokens
    )
    name = shorten(arm["name"], limit=48)
    capped = [point for point in points if point.get("forced") and not point.get("waits")]
    waiting = [point for point in points if point.get("forced") and point.get("waits")]
    free = [point for point in points if not point.get("forced")]
    for label, chosen, shape in (
        (name, capped, "dot"),
        (f"{name}, end refused (+ waits)", waiting, "diamond"),
        (f"{name}, not forced", free, "ring"),
    ):
        if chosen:
            marks = [_mark(point) for point in chosen]
            yield svg.Line(name=label, marks=marks, hue=hue, shape=shape, joined=shape == "dot")


def _mark(point: dict[str, Any]) -> svg.ChartPoint:
    low, high = point.get("ci95") or (None, None)
    hint = (
        f"{budget_label(point)}: {percent(point['accuracy'])} [{interval(point.get('ci95'))}], "
        f"n = {point.get('n')}, mean {decimal(_tokens(point))} thinking tokens"
    )
    label = f"+{point['waits']}" if point.get("waits") else ""
    return svg.ChartPoint(
        x=_tokens(point), y=point["accuracy"], low=low, high=high, hint=hint, label=label
    )


def _tokens(point: dict[str, Any]) -> float:
    mean = point.get("mean_thinking_tokens")
    return float(point.get("max_thinking_tokens") or 0) if mean is None else float(mean)
