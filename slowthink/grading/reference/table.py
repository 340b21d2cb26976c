"""The same rows by several graders, side by side: ours, the papers' rules, math-verify's defaults.

One real line: `strict  303  97.4% (94.9% to 98.7%)  3  5  1  110  0 of 21`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.grading.files import PairFile, grade_rows, read_pairs, summarize_grades
from slowthink.grading.grader import MODES, Grader
from slowthink.grading.reference.traps import TRAPS, failed_traps

_HEAD = (
    "grader",
    "labelled",
    "agreement",
    "false pos.",
    "false neg.",
    "undecided",
    "per second",
    "traps",
)


def compare_graders(path: str | Path, *, num_workers: int = 1) -> dict[str, Any]:
    """What `grade_file` finds with our rules, and `graders`: the same of each grader in turn.

    Each is bounded alike; an answer that math-verify hangs on is undecided. `traps` names the pairs
    of `TRAPS` that a grader calls equal. Raises DataError where no row can be used.
    """
    rows = read_pairs(path)
    found = [_one(rows, mode, num_workers=num_workers) for mode in MODES]
    strict = {key: value for key, value in found[0].items() if key not in _ADDED}
    return strict | {"graders": found}


def format_table(data: dict[str, Any]) -> str:
    """The graders' lines, with their head."""
    lines = [_HEAD, *(_line(one) for one in data["graders"])]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


_ADDED = ("grader", "agreement_ci95", "num_false_positives", "num_false_negatives", "traps")


def _one(rows: PairFile, mode: str, *, num_workers: int) -> dict[str, Any]:
    with Grader(mode, num_workers=num_workers) as grader:
        found = summarize_grades(rows, grade_rows(rows, grader), mode=mode)
        traps = failed_traps(grader)
    wrong = {f"num_{key}": len(found[key]) for key in ("false_positives", "false_negatives")}
    decided = found["num_labelled"] - found["num_undecided"]
    interval = wilson(decided - sum(wrong.values()), decided) if decided else None
    added = {"agreement_ci95": [interval.low, interval.high] if interval else None, **wrong}
    return {"grader": mode, **found, **added, "traps": traps}


def _line(one: dict[str, Any]) -> tuple[str, ...]:
    low, high = one["agreement_ci95"] or (0.0, 0.0)
    agreement = (
        f"{one['agreement']:.1%} ({low:.1%} to {high:.1%})" if one["agreement_ci95"] else "-"
    )
    counts = ("num_false_positives", "num_false_negatives", "num_undecided")
    return (
        one["grader"],
        str(one["num_labelled"]),
        agreement,
        *(str(one[key]) for key in counts),
        f"{one['grades_per_second'] or 0:.0f}",
        f"{len(one['traps'])} of {len(TRAPS)}",
    )
