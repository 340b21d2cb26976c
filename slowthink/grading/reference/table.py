r"""Comparison of graders on one file: our rules, the papers' rules, math-verify.

Example line: `strict  303  97.4% (94.9% to 98.7%)  3  5  1  110  0 of 21`.
"""

from __future__ import annotations

from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.grading.files import PairFile, grade_rows, summarize_grades
from slowthink.grading.grader import MODES, Grader
from slowthink.grading.reference.traps import TRAPS, failed_traps

_COLUMN_TITLES = (
    "grader", "labelled", "agreement", "false pos.", "false neg.", "undecided", "per second",
    "traps",
)  # fmt: skip


def compare_graders(file: PairFile, *, num_workers: int = 1) -> dict[str, Any]:
    """Return `summarize_grades` by our rules, and in `graders` the result of each grader.

    All have the same time limit; an answer for which math-verify takes longer is undecided. `traps`
    names the pairs of `TRAPS` that a grader calls equal.
    """
    summaries, graders = [], []
    for mode in MODES:
        with Grader(mode, num_workers=num_workers) as grader:
            summaries.append(summarize_grades(file, grade_rows(file, grader), mode=mode))
            graders.append(_with_interval(summaries[-1]) | {"traps": failed_traps(grader)})
    return summaries[0] | {"graders": graders}


def _with_interval(summary: dict[str, Any]) -> dict[str, Any]:
    num_errors = {f"num_{key}": len(summary[key]) for key in ("false_positives", "false_negatives")}
    decided = summary["num_labelled"] - summary["num_undecided"]
    interval = wilson(decided - sum(num_errors.values()), decided) if decided else None
    bounds = [interval.low, interval.high] if interval else None
    return {"grader": summary["mode"], **summary, "agreement_ci95": bounds, **num_errors}


def format_table(data: dict[str, Any]) -> str:
    """Return a table with a header and one line per grader."""
    lines = [_COLUMN_TITLES, *map(_table_row, data["graders"])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _table_row(result: dict[str, Any]) -> tuple[str, ...]:
    agreement = "-"
    if result["agreement_ci95"]:
        low, high = result["agreement_ci95"]
        agreement = f"{result['agreement']:.1%} ({low:.1%} to {high:.1%})"
    counts = ("num_false_positives", "num_false_negatives", "num_undecided")
    return (
        result["grader"],
        str(result["num_labelled"]),
        agreement,
        *(str(result[key]) for key in counts),
        f"{result['grades_per_second'] or 0:.0f}",
        f"{len(result['traps'])} of {len(TRAPS)}",
    )
