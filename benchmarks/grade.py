"""Speed of the grader and of math-verify on the same pairs, in turn.

Example: {"grades_per_second": {"median": 2100.0, "low": 2000.0, "high": 2200.0}, …}.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import main, spread
from slowthink.grading import Grader
from slowthink.grading.answers import compare, normalise
from slowthink.grading.files import PairRow, pair_from_row

PAIRS = "pairs_from_samples_autolabel.jsonl"
_PAIR_TEMPLATES = (
    ("{a}", "{b}"), (r"\frac{{{a}}}{{{b}}}", "{a}/{b}"), (r"{a}\sqrt{{{b}}}", r"{a} \sqrt {b}"),
    ("({a},{b})", r"\left({a}, {b}\right)"), ("{a}x+{b}", "{b} + {a}x"), ("{a}{b}", "{a}{b}"),
    (r"[{a},\infty)", r"x \ge {a}"), (r"{a}^\circ", "{a}"), (r"(x+{a})^2", r"x^2+2\cdot{a}x+{a}^2"),
)  # fmt: skip


def run(*, num_rounds: int = 5, num_workers: int = 2, path: Path | None = None) -> dict[str, Any]:
    """Return grades per second of the grader and of math-verify, their ratio, and the longest time.

    Each is the median with the lowest and highest of the rounds. The pairs are from `path`, a JSONL
    file of rows with gold and pred or a folder with grading/PAIRS; without it they are made up.
    Rounds alternate, so that a busy machine slows both. Each round of the grader starts with new
    workers and empty caches.
    """
    if path and path.is_dir():
        path = path / "grading" / PAIRS
    rows = _read_pairs(path) if path else make_pairs()
    _time_math_verify(rows[:20])
    grader_speeds, math_verify_speeds, longest_times = [], [], []
    for _ in range(num_rounds):
        speed, longest = _time_grader(rows, num_workers=num_workers)
        grader_speeds.append(speed)
        longest_times.append(longest)
        math_verify_speeds.append(_time_math_verify(rows))
    return {
        "num_pairs": len(rows),
        "pairs": str(path or "made"),
        "num_workers": num_workers,
        "num_rounds": num_rounds,
        "grades_per_second": spread(grader_speeds),
        "math_verify_per_second": spread(math_verify_speeds),
        "ratio": spread([a / b for a, b in zip(grader_speeds, math_verify_speeds, strict=True)]),
        "worst_seconds": spread(longest_times),
    }


def make_pairs(num: int = 600) -> list[PairRow]:
    """Return pairs of many kinds of answers, alternately equal and unequal."""
    rows = []
    for i in range(num):
        gold, pred = _PAIR_TEMPLATES[i % len(_PAIR_TEMPLATES)]
        a, b = 2 + i // len(_PAIR_TEMPLATES), 3 + i % 7
        shift = 0 if i % 2 else 1
        rows.append(PairRow(i + 1, gold.format(a=a, b=b), pred.format(a=a + shift, b=b)))
    return rows


def _read_pairs(path: Path) -> list[PairRow]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [PairRow(i, row["gold"], row["pred"]) for i, row in enumerate(rows, start=1)]


def _time_grader(rows: Sequence[PairRow], *, num_workers: int) -> tuple[float, float]:
    """Return grades per second, from empty caches, and the longest time for one pair."""
    normalise.normalise.cache_clear()
    compare._parsed_value.cache_clear()
    with Grader(num_workers=num_workers) as grader:
        grader.start_workers()
        started = time.perf_counter()
        timed = grader.grade_pairs([pair_from_row(row) for row in rows])
        seconds = time.perf_counter() - started
    return len(rows) / seconds, max(grade.seconds for grade in timed)


def _time_math_verify(rows: Sequence[PairRow]) -> float:
    """Return grades per second of math-verify's parse and verify with its defaults."""
    from math_verify import parse, verify

    started = time.perf_counter()
    for row in rows:
        verify(parse(f"${row.gold}$"), parse(f"${row.pred}$"))
    return len(rows) / (time.perf_counter() - started)


if __name__ == "__main__":
    main(run, __doc__)
