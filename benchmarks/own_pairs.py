"""Agreement of the grader and of math-verify with the labels of our own pairs, by half.

Example: {"own_open": {"strict": {"n": 487, "agreement": 0.9, …}, …}, …}. tests/grading/
test_own_pairs.py describes the rows and their halves; no row of the held-out half is shown.
"""

from __future__ import annotations

import json
import lzma
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import main
from slowthink.analysis.statistics import NUM_RESAMPLES, percentile_interval, wilson
from slowthink.grading import Grader
from slowthink.grading.files import PairFile, PairRow, grade_rows
from slowthink.records import Grade, Verdict

FIXTURES = Path(__file__).parents[1] / "tests/fixtures"
MODES = ("strict", "math-verify")

Row = dict[str, Any]
Graded = list[tuple[Row, Grade]]


def run(*, num_workers: int = 2) -> dict[str, Any]:
    """Return the agreement on each half by grader, and for each kind of the open half."""
    halves = {"own_open": read_open(), "own_held": parse_rows(held_text())}
    graded: dict[str, dict[str, Graded]] = {}
    for mode in MODES:
        with Grader(mode, num_workers=num_workers) as grader:
            graded[mode] = {name: _grade(rows, grader) for name, rows in halves.items()}
    figures: dict[str, Any] = {
        name: {mode: agreement(graded[mode][name]) for mode in MODES} for name in halves
    }
    kinds = _group(graded["strict"]["own_open"], lambda row: row["kind"])
    return figures | {"own_open_kinds": {kind: _counts(part) for kind, part in kinds.items()}}


def read_open() -> list[Row]:
    """Rows of the open half."""
    return parse_rows((FIXTURES / "equivalence_own_open.jsonl").read_bytes())


def held_text() -> bytes:
    """The held-out half as JSONL."""
    return lzma.decompress((FIXTURES / "equivalence_own_held.jsonl.xz").read_bytes())


def parse_rows(text: bytes) -> list[Row]:
    """Rows of JSONL. A row ends at a line feed only: an answer may hold other line separators."""
    return [json.loads(line) for line in text.decode().split("\n") if line]


def _grade(rows: Sequence[Row], grader: Grader) -> Graded:
    """Grade rows as `slowthink grade` does."""
    pairs = [
        PairRow(
            line_number=number,
            gold=row["reference"],
            pred=row["answer"] if row["form"] == "answer" else None,
            response=row["answer"] if row["form"] == "response" else None,
            choices=tuple(row.get("choices", ())),
        )
        for number, row in enumerate(rows, start=1)
    ]
    return list(zip(rows, grade_rows(PairFile(pairs, []), grader).grades, strict=True))


def agreement(graded: Graded) -> dict[str, Any]:
    """Agreement with two 95 % intervals: Wilson's over rows, and a bootstrap over whole kinds.

    Rows of a kind resemble each other, so that the second is the one for kinds not yet seen.
    """
    counts = _counts(graded)
    interval = wilson(counts["num_right"], counts["n"])
    forms = _group(graded, lambda row: row["form"])
    return {
        **counts,
        "agreement": round(counts["num_right"] / counts["n"], 4),
        "ci95": _rounded(interval.bounds),
        "ci95_over_kinds": _rounded(_interval_over_kinds(graded)),
        "num_undecided": sum(not grade.verdict.is_counted for _, grade in graded),
        "num_wrong_arguable": sum(row.get("arguable", False) for row, _ in _wrong(graded)),
        "forms": {form: _counts(part) for form, part in forms.items()},
    }


def _counts(graded: Graded) -> dict[str, int]:
    """How many rows there are, and how many are graded as labelled. An undecided pair counts as
    not accepted."""
    wrong = Counter(row["equivalent"] for row, _ in _wrong(graded))
    return {
        "n": len(graded),
        "num_right": len(graded) - wrong.total(),
        "num_false_positives": wrong[False],
        "num_false_negatives": wrong[True],
    }


def _wrong(graded: Graded) -> Graded:
    return [
        (row, grade)
        for row, grade in graded
        if (grade.verdict is Verdict.CORRECT) != row["equivalent"]
    ]


def _interval_over_kinds(graded: Graded, *, seed: int = 0) -> list[float] | None:
    """Percentile interval of the agreement when K kinds are drawn with replacement, R times."""
    counts = [_counts(part) for part in _group(graded, lambda row: row["kind"]).values()]
    right_K, total_K = (np.array([count[key] for count in counts]) for key in ("num_right", "n"))
    rng = np.random.default_rng(seed)
    drawn_RK = rng.integers(len(counts), size=(NUM_RESAMPLES, len(counts)))
    shares_R = right_K[drawn_RK].sum(axis=1) / total_K[drawn_RK].sum(axis=1)
    return percentile_interval(shares_R).bounds


def _group(graded: Graded, key: Callable[[Row], str]) -> dict[str, Graded]:
    groups: dict[str, Graded] = {}
    for row, grade in graded:
        groups.setdefault(key(row), []).append((row, grade))
    return groups


def _rounded(bounds: Sequence[float] | None) -> list[float] | None:
    return [round(bound, 4) for bound in bounds] if bounds else None


if __name__ == "__main__":
    main(run, __doc__)
