"""The tables of one set: cells, samples, comparisons, s1's measures.

Each takes a set of `sets.sets_of` and gives a `Table`; None where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slowthink.stages.report.tables import Cell, Column, Table, figure, filled
from slowthink.stages.report.text import (
    MISSING,
    budget_label,
    count,
    decimal,
    includes_zero,
    interval,
    p_value,
    percent,
    percentage_points,
    quantiles,
)

Compared = Mapping[str, Mapping[str, Any]]
"""Arm name to the point that stands for it."""

POINT_COLUMNS = (
    Column(label="Thinking tokens, mean", key="mean_thinking_tokens", format=decimal),
    Column(label="Budget violations", key="budget_violations", format=count, alarming=True),
    Column(label="No answer", key="no_answer_rate", format=percent),
    Column(label="Truncated", key="truncated_rate", format=percent),
    Column(label="Looped", key="loop_rate", format=percent, rare=True),
    Column(label="Ungradable", key="num_ungradable", format=count, rare=True),
    Column(label="Grader errors", key="num_grader_errors", format=count, alarming=True, rare=True),
)
ENDING_COLUMNS = (
    Column(label="Thinking tokens, quantiles", key="thinking_tokens_quantiles", format=quantiles),
    Column(label="Answer tokens, mean", key="mean_answer_tokens", format=decimal),
    Column(label="Answer tokens, quantiles", key="answer_tokens_quantiles", format=quantiles),
    Column(label="Thinking ended itself", key="thinking_natural_rate", format=percent),
    Column(label="Answer stopped itself", key="answer_eos_rate", format=percent),
    Column(label="Waits used, mean", key="mean_waits_used", format=decimal, rare=True),
    Column(label="Looped", key="loop_rate", format=percent),
    Column(label="Tokens spent", key="tokens_spent", format=count),
)
# --- cells ----------------------------------------------------------------------------------------


def point_table(one: Mapping[str, Any], compared: Compared) -> Table | None:
    """Every point of every arm with its accuracy; `compared` are lifted out."""
    caption = (
        f"{one['protocol_text']}. Every point measured, with its 95 % interval. "
        "Shaded: the points compared."
    )
    head = ("Arm", "Budget", "n", "Accuracy")
    return _cells(one, compared, POINT_COLUMNS, head=head, caption=caption)


def ending_table(one: Mapping[str, Any], compared: Compared) -> Table | None:
    """How long thinking and answers were, how they ended, and what they cost."""
    caption = "Lengths are in tokens, with the 10th, 50th and 90th percentile."
    return _cells(one, compared, ENDING_COLUMNS, head=("Arm", "Budget"), caption=caption)


def _cells(
    one: Mapping[str, Any],
    compared: Compared,
    columns: Sequence[Column],
    *,
    head: tuple[str, ...],
    caption: str,
) -> Table | None:
    pairs = [(arm, point) for arm in one["arms"] for point in arm["points"]]
    shown = [column for column in columns if any(filled(point, column) for _, point in pairs)]
    strong = {
        place for place, (arm, point) in enumerate(pairs) if compared.get(arm["name"]) is point
    }
    if not shown:
        return None
    return Table(
        caption=caption,
        head=(*head, *(column.label for column in shown)),
        rows=tuple(
            (*_place(arm, point)[: len(head)], *(figure(point, column) for column in shown))
            for arm, point in pairs
        ),
        strong=frozenset(strong),
    )


def _place(arm: Mapping[str, Any], point: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(text=arm["name"]),
        Cell(text=budget_label(point)),
        Cell(text=count(point.get("n"))),
        accuracy_cell(point),
    )


def accuracy_cell(point: Mapping[str, Any]) -> Cell:
    """An accuracy with its interval."""
    return Cell(text=percent(point.get("accuracy")), note=interval(point.get("ci95")))


def sample_table(one: Mapping[str, Any], compared: Compared) -> Table | None:
    """pass@k and maj@k of points that were sampled several times; None where none was."""
    pairs = [
        (arm, point)
        for arm in one["arms"]
        for point in arm["points"]
        if len(point.get("pass_at_k") or {}) > 1
    ]
    if not pairs:
        return None
    ks = sorted({int(k) for _, point in pairs for k in point["pass_at_k"]})
    strong = {i for i, (arm, point) in enumerate(pairs) if compared.get(arm["name"]) is point}
    return Table(
        caption="Several samples a question: pass@k, the chance that at least one of k is right, "
        "and maj@k, that their most frequent answer is; over all draws of k. Coverage: questions "
        "that any sample solved.",
        head=("Arm", "Budget", "Samples", "Coverage", *(f"k = {k}" for k in ks)),
        rows=tuple(
            (
                Cell(text=arm["name"]),
                Cell(text=budget_label(point)),
                Cell(text=count(point.get("num_samples"))),
                Cell(text=percent(point.get("coverage"))),
                *(_several(point, str(k)) for k in ks),
            )
            for arm, point in pairs
        ),
        strong=frozenset(strong),
    )


def _several(point: Mapping[str, Any], k: str) -> Cell:
    share, majority = point["pass_at_k"].get(k), (point.get("maj_at_k") or {}).get(k)
    return Cell(text=percent(share), note="" if majority is None else f"maj {percent(majority)}")


# --- comparisons and measures ---------------------------------------------------------------------


def comparison_table(one: Mapping[str, Any]) -> Table | None:
    """Paired differences of arms on the same questions."""
    return difference_table(
        [
            (f"{pair['a']} ({budget_label(pair['a_point'])}) to "
             f"{pair['b']} ({budget_label(pair['b_point'])})", pair)
            for pair in one["comparisons"]
        ]
    )  # fmt: skip


def difference_table(
    pairs: Sequence[tuple[str, Mapping[str, Any]]], *, what: str = "Arms"
) -> Table | None:
    """Differences, each under its name, with interval, both p values and what could be detected.

    `what` stands above the names.
    """
    if not pairs:
        return None
    return Table(
        caption="Paired on the same questions, in percentage points. p: by the paired bootstrap, "
        "and by the exact sign test, which is the one to read for small sets. Detectable: the "
        "smallest true difference that such a set shows four times in five.",
        head=(what, "n", "Difference", "p, bootstrap", "p, exact", "Detectable"),
        rows=tuple(
            (
                Cell(text=name, wrap=True),
                Cell(text=count(pair["n"])),
                _difference(pair),
                Cell(text=p_value(pair.get("p_bootstrap"))),
                Cell(text=p_value(pair.get("p_exact"))),
                _detectable(pair.get("minimal_detectable_difference")),
            )
            for name, pair in pairs
        ),
    )


def _difference(pair: Mapping[str, Any]) -> Cell:
    note = interval(pair.get("ci95"))
    if includes_zero(pair.get("ci95")):
        note += ", holds 0"
    return Cell(text=percentage_points(pair["difference"]), note=note)


def _detectable(size: float | None) -> Cell:
    return Cell(text=MISSING if not size else f"{100 * size:.1f} points")


def measure_table(one: Mapping[str, Any]) -> Table | None:
    """s1's three measures of each arm's curve, in per cent and points."""
    rows = [row for row in one["measures"] if row.get("performance") is not None]
    if not rows:
        return None
    return Table(
        caption="s1's measures over the forced points of each arm (arXiv 2501.19393, section 3.2). "
        "Control: points, and single answers, that kept to their cap. Scaling: mean slope over all "
        "pairs of points, in percentage points; s1's Table 3 gives it per doubling of thinking "
        "tokens. Performance: the best point, so it flatters.",
        head=(
            "Arm",
            "Points",
            "Control",
            "Scaling per doubling",
            "per 1,000 tokens",
            "Performance",
        ),
        rows=tuple(
            (
                Cell(text=row["arm"]),
                Cell(text=count(row.get("num_points"))),
                _control(row),
                Cell(
                    text=percentage_points(row.get("scaling_per_doubling")),
                    note=interval(row.get("scaling_per_doubling_ci95")),
                ),
                Cell(text=percentage_points(_times(row.get("scaling_per_token"), 1000))),
                Cell(text=percent(row["performance"]), note=interval(row.get("performance_ci95"))),
            )
            for row in rows
        ),
    )


def _control(row: Mapping[str, Any]) -> Cell:
    single = row.get("control_per_sample")
    note = "" if single is None else f"answers {percent(single)}"
    return Cell(text=percent(row.get("control")), note=note)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
