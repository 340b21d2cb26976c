"""Figures of graded rows, with intervals over problems: pass@k, majority votes, comparisons.

A row is an `EvaluationRow` (`Run.rows("evaluate")`, `Curve.rows`), or a mapping such as

    {"problem_id": "q7", "correct": True, "answer": "42"}

pass_at_k(rows, k=8)  # Estimate(value=0.61, low=0.55, high=0.67, n=200, k=8, num_samples=16)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.errors import ConfigError, DataError, require_count, wrong_type
from slowthink.records import Verdict, group_by
from slowthink.stage_rows import EvaluationRow

if TYPE_CHECKING:
    from slowthink.analysis.scores import ComparedRow

Row = EvaluationRow | Mapping[str, Any]
Sample = tuple["ComparedRow", str | None]
"""A row's part that figures need, and its extracted answer."""
PROBLEM_KEYS = ("problem_id", "id", "question")
"""Names of the field that identifies the problem, in the order of preference."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share with its 95 % interval."""

    value: float
    """In [0, 1], the mean over problems."""
    low: float
    high: float
    n: int
    """Number of problems with a graded answer."""
    k: int
    num_samples: int
    """Fewest graded samples of a problem."""

    def __str__(self) -> str:
        interval = f"95 % interval {self.low:.1%} to {self.high:.1%}"
        return f"{self.value:.1%} ({interval}, n = {self.n}, k = {self.k})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sets of rows on the problems that both have; differences are b - a."""

    difference: float
    low: float
    high: float
    """Bounds of the difference's 95 % interval, by a paired bootstrap over problems."""
    p_value: float
    """Exact two-sided sign test (McNemar's for one sample a problem)."""
    n: int
    accuracy_a: float
    accuracy_b: float
    won: tuple[str, ...]
    """Problems that b solves more often."""
    lost: tuple[str, ...]
    figures: Mapping[str, Any]
    """All figures, as `slowthink compare --json` has them for a point."""

    def __str__(self) -> str:
        return (
            f"{self.accuracy_a:.1%} -> {self.accuracy_b:.1%} ({self.difference:+.1%}, 95 % "
            f"interval {self.low:+.1%} to {self.high:+.1%}, n = {self.n}, {len(self.won)} won, "
            f"{len(self.lost)} lost)"
        )


def pass_at_k(rows: Iterable[Row], k: int) -> Estimate:
    """Chance that at least one of k samples of a problem is correct; the mean over problems.

    The unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, eq. 1). Ungradable answers are left
    out. Raises DataError if there are no rows, a problem has fewer than k graded samples, or rows
    of several budgets are mixed; ConfigError if k is no count.
    """
    from slowthink.analysis import statistics

    problems = _samples_by_problem(rows, k)
    scores = [
        statistics.pass_at_k(sum(map(_is_correct, samples)), num_samples=len(samples), k=k)
        for samples in problems
    ]
    return _estimate(scores, problems, k)


def maj_at_k(rows: Iterable[Row], k: int, *, seed: int = 0) -> Estimate:
    """Chance that the most frequent answer of k samples is correct; the mean over problems.

    Equivalent answers (1/2, 0.5) are one; ties are split evenly; averaged over all subsets of k, or
    2,000 (self-consistency, arXiv 2203.11171). Mappings need an `answer`. Raises as `pass_at_k`,
    and DataError for rows without answers.
    """
    from slowthink.analysis import statistics

    rows = _require_rows(rows, "rows")
    problems = _samples_by_problem(rows, k)
    _require_answers(rows, problems)
    scores = [
        statistics.maj_at_k(
            _votes(samples), k=k, correct=list(map(_is_correct, samples)), seed=seed
        )
        for samples in problems
    ]
    return _estimate(scores, problems, k)


def compare(rows_a: Iterable[Row], rows_b: Iterable[Row], *, seed: int = 0) -> Comparison:
    """Paired comparison of two arms, on the problems that both answered; b - a.

    A problem's samples are averaged first. Rows of several budgets are compared at each side's
    largest, without waits. Raises DataError if they share no problem, or one side has several arms.
    """
    from slowthink.analysis.pairing import compare_rows
    from slowthink.analysis.scores import by_point, largest_budget

    sides = []
    for name, rows in (("rows_a", rows_a), ("rows_b", rows_b)):
        rows = _require_rows(rows, name)
        _check_one_arm(rows, name)
        points = by_point([sample for sample, _ in _to_samples(rows)])
        sides.append(points[largest_budget(points)] if points else [])
    figures = compare_rows(*sides, seed=seed)
    if not figures["n"]:
        raise DataError(
            f"compare: {figures['num_only_a']} and {figures['num_only_b']} problems, none in "
            "common; expected rows with the same problem ids. Give both the same `problem_id`."
        )
    low, high = figures["ci95"]
    return Comparison(
        difference=figures["difference"], low=low, high=high, p_value=figures["p_exact"],
        n=figures["n"], accuracy_a=figures["a"]["accuracy"], accuracy_b=figures["b"]["accuracy"],
        won=tuple(row["problem_id"] for row in figures["won"]),
        lost=tuple(row["problem_id"] for row in figures["lost"]), figures=figures,
    )  # fmt: skip


# --- rows -----------------------------------------------------------------------------------------


def _to_samples(rows: Sequence[Row]) -> list[Sample]:
    from slowthink.analysis.scores import ComparedRow

    names = [field.name for field in fields(ComparedRow)]
    samples: list[Sample] = []
    for index, row in enumerate(rows):
        if isinstance(row, EvaluationRow):
            sample = ComparedRow(**{name: getattr(row, name) for name in names})
            samples.append((sample, row.extracted))
        elif isinstance(row, Mapping):
            samples.append(_from_mapping(row, index))
        else:
            hint = "Of a DataFrame: frame.to_dict('records')."
            expected = f"a mapping with `problem_id` and `correct`. {hint}"
            raise DataError(wrong_type(row, f"row {index}", expected))
    return samples


def _require_rows(rows: Iterable[Row], name: str) -> list[Row]:
    if isinstance(rows, str | bytes | Path | Mapping) or not isinstance(rows, Iterable):
        hint = "Give the rows; for files: slowthink passk FILE, slowthink compare A B."
        raise ConfigError(wrong_type(rows, name, f"a list of rows. {hint}"))
    return list(rows)


def _require_answers(rows: Sequence[Row], problems: Sequence[Sequence[Sample]]) -> None:
    """Raises DataError if a mapping has no `answer`, or no row has one and some are correct."""
    missing = next(
        (i for i, row in enumerate(rows) if isinstance(row, Mapping) and "answer" not in row), None
    )
    samples = [sample for problem in problems for sample in problem]
    if missing is None and all(answer is None for _, answer in samples):
        missing = 0 if any(map(_is_correct, samples)) else None
    if missing is not None:
        raise DataError(
            f"row {missing}: no `answer`; expected the answer of each sample, which is its vote. "
            "Add it (None for no answer), or use pass_at_k, which needs labels only."
        )


def _from_mapping(row: Mapping[str, Any], index: int) -> Sample:
    from slowthink.analysis.scores import ComparedRow
    from slowthink.data.stored.columns import parse_label

    problem = next((str(row[key]) for key in PROBLEM_KEYS if row.get(key) is not None), None)
    correct, verdict = row.get("correct"), row.get("verdict")
    correct = parse_label(correct)  # 1, 0 and "true" are labels, as in `slowthink passk`
    verdicts = [each.value for each in Verdict]
    if problem is None or (correct is None and verdict not in verdicts):
        raise DataError(
            f"row {index}: has {', '.join(map(str, row)):.100}; expected `problem_id` and "
            f"`correct` (true or false), or a `verdict` ({', '.join(verdicts)}). "
            "Add them: slowthink grade."
        )
    if correct is not None:
        verdict = (Verdict.CORRECT if correct else Verdict.WRONG).value
    sample = ComparedRow(
        id=str(index), problem_id=problem, sample=index, verdict=Verdict(verdict),
        max_thinking_tokens=0, waits=0, forced=False, num_thinking_tokens=0, num_answer_tokens=0,
    )  # fmt: skip
    answer = row.get("answer")
    return sample, None if answer is None else str(answer)


def _samples_by_problem(rows: Iterable[Row], k: int) -> list[list[Sample]]:
    """Graded samples of each problem, ordered by its id. Raises DataError as `pass_at_k`."""
    from slowthink.analysis.scores import by_point

    k = require_count(k, "k", minimum=1)
    rows = _require_rows(rows, "rows")
    if not rows:
        raise DataError("rows: no rows; expected graded samples. Add some: slowthink grade.")
    _check_one_arm(rows, "rows")
    samples = [sample for sample in _to_samples(rows) if sample[0].verdict.is_counted]
    budgets = by_point(row for row, _ in samples)
    temperatures = {row.temperature for row, _ in samples}
    if max(len(budgets), len(temperatures)) > 1:
        raise DataError(
            "rows: several budgets or temperatures; expected one. Choose: "
            "rows.where(max_thinking_tokens=512, waits=0)"
        )
    if not samples:
        raise DataError(
            f"rows: none of {len(rows)} could be graded; expected verdicts correct or wrong. Grade "
            "them with reference answers: slowthink grade."
        )
    problems = group_by(samples, lambda sample: sample[0].problem_id)
    smallest = min(problems.items(), key=lambda item: len(item[1]))
    if k > len(smallest[1]):
        raise DataError(
            f"k = {k}, but problem `{smallest[0]:.60}` has {len(smallest[1])} graded samples; "
            f"expected 1 <= k <= {len(smallest[1])} for all. Lower k, or sample more."
        )
    return [problems[name] for name in sorted(problems)]


def _check_one_arm(rows: Sequence[Row], name: str) -> None:
    arms = {(row.arm, row.benchmark) for row in rows if isinstance(row, EvaluationRow)}
    if len(arms) > 1:
        raise DataError(
            f"{name}: several arms or benchmarks ({', '.join(map('/'.join, sorted(arms))):.100}); "
            "expected one. Choose: rows.where(arm=…, benchmark=…)"
        )


def _is_correct(sample: Sample) -> bool:
    return sample[0].verdict is Verdict.CORRECT


def _votes(samples: Sequence[Sample]) -> list[tuple[int, Verdict] | None]:
    """Each sample's vote: the group of its answer and its verdict (as `analysis.scores.vote_key`);
    None for no answer."""
    from slowthink.api.answers import shared_grader
    from slowthink.grading.cluster import group_answers

    groups = group_answers([answer for _, answer in samples], shared_grader())
    return [
        None if group is None else (group, row.verdict)
        for (row, _), group in zip(samples, groups, strict=True)
    ]


def _estimate(scores: Sequence[float], problems: Sequence[Sequence[Sample]], k: int) -> Estimate:
    from slowthink.analysis.statistics import accuracy_ci

    interval = accuracy_ci(scores, num_answers=sum(map(len, problems)))
    return Estimate(
        value=sum(scores) / len(scores), low=interval.low, high=interval.high, n=len(scores), k=k,
        num_samples=min(map(len, problems)),
    )  # fmt: skip
