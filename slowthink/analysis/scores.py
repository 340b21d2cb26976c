"""Graded rows → scores of problems, figures of a point, averages over benchmarks.

{"max_thinking_tokens": 64, "waits": 0, "n": 200, "accuracy": 0.41, "ci95": [0.34, 0.48], …}
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from slowthink.analysis.statistics import (
    accuracy_ci,
    macro_mean_ci,
    maj_at_k,
    pass_at_k,
    powers_of_two,
)
from slowthink.records import AnswerEnd, ThinkingEnd, Verdict, group_by
from slowthink.stage_rows import EvaluationRow


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRow:
    """The part of an `EvaluationRow` that a comparison needs and that tables of old runs have."""

    id: str
    problem_id: str
    sample: int
    temperature: float = 0.0
    max_thinking_tokens: int
    waits: int
    forced: bool
    num_thinking_tokens: int
    num_answer_tokens: int
    verdict: Verdict


class PointKey(NamedTuple):
    """Identifies a point of a curve."""

    max_thinking_tokens: int
    waits: int
    forced: bool


RowT = TypeVar("RowT", EvaluationRow, ComparedRow)
Points = Mapping[PointKey, Sequence[EvaluationRow]]
"""One arm's rows by point."""
AnswerGroups = Mapping[str, int | None]
"""Row id → index of its answer's group, equal for equivalent answers to a problem."""


def by_point(rows: Iterable[RowT]) -> dict[PointKey, list[RowT]]:
    """Rows by cap, waits and forced; forced points first."""
    points = group_by(rows, _row_point)
    return {key: points[key] for key in sorted(points, key=point_order)}


def _row_point(row: EvaluationRow | ComparedRow) -> PointKey:
    return PointKey(row.max_thinking_tokens, row.waits, row.forced)


def point_order(key: PointKey) -> tuple[bool, PointKey]:
    """Sort key of points: forced ones first, then by cap and waits."""
    return not key.forced, key


def point_fields(key: PointKey) -> dict[str, Any]:
    """The point as JSON."""
    return key._asdict()


def point_key(point: Mapping[str, Any]) -> PointKey:
    """The key of a point's JSON; figures of older runs have no `waits` and no `forced`."""
    waits, forced = point.get("waits") or 0, point.get("forced", True)
    return PointKey(point["max_thinking_tokens"], waits, forced)


def largest_budget(points: Collection[PointKey]) -> PointKey:
    """The forced point with the largest cap and no waits: fixed in advance, not the best of the
    curve. For an arm of stored samples its only point."""
    forced = [key for key in points if key.forced and not key.waits]
    return max(forced or points)


def largest_budget_figures(points: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The figures of an arm's `largest_budget`."""
    by_key = {point_key(point): point for point in points}
    return by_key[largest_budget(by_key)]


def base_and_tuned(models: Mapping[str, str]) -> tuple[str, str]:
    """The two arms that a headline compares, by `models` of the arms: the base and the tuned model,
    else the first and the last arm. With a single arm both are the same."""
    arms = {model: arm for arm, model in reversed([*models.items()])}
    names = list(models)
    return arms.get("base", names[0]), arms.get("tuned", names[-1])


def by_problem(rows: Iterable[RowT]) -> dict[str, list[RowT]]:
    """Rows by problem id."""
    return group_by(rows, lambda row: row.problem_id)


def problem_scores(rows: Iterable[RowT]) -> dict[str, float]:
    """Each problem's share of correct answers, ordered by problem id.

    The mean over temperatures of the mean over samples: each temperature has the same weight.
    Ungradable answers are left out.
    """
    graded = by_problem(row for row in rows if row.verdict.is_counted)
    return {problem: _mean_score(graded[problem]) for problem in sorted(graded)}


def _mean_score(rows: Iterable[EvaluationRow | ComparedRow]) -> float:
    by_temperature = group_by(rows, lambda row: row.temperature).values()
    shares = [
        np.mean([row.verdict is Verdict.CORRECT for row in group]) for group in by_temperature
    ]
    return float(np.mean(shares))


def point_figures(
    rows: Sequence[EvaluationRow],
    *,
    num_resamples: int,
    seed: int,
    groups: AnswerGroups | None = None,
) -> dict[str, Any]:
    """All figures of the rows of one arm, benchmark, protocol and point.

    Accuracy is the mean over problems of the mean over samples (pass@1), with its 95 % interval
    over problems. Ungradable answers are left out of the denominator and counted separately.
    """
    scores = problem_scores(rows)
    num_graded = sum(row.verdict.is_counted for row in rows)
    interval = accuracy_ci(
        list(scores.values()), num_answers=num_graded, num_resamples=num_resamples, seed=seed
    )
    return {
        **point_fields(_row_point(rows[0])),
        "n": len(scores),
        "num_samples": max(map(len, by_problem(rows).values())),
        "accuracy": _mean(scores.values()),
        "ci95": interval.bounds,
        **_sample_figures(rows, groups or {}, seed=seed),
        **_token_figures(rows),
        **_end_figures(rows),
        "pass_rate_by_domain": _by_domain(rows),
    }


def averages(
    rows_by_set: Mapping[tuple[str, str, str], Sequence[EvaluationRow]],
    domains: Mapping[str, str | None],
    *,
    limo_benchmarks: Collection[str],
    num_resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Means over benchmarks (equal weights) by arm and protocol: in domain, out of domain, LIMO's
    ten, all. `rows_by_set`: rows of (arm, protocol, benchmark) at the arm's largest budget."""
    figures = []
    for arm, protocol in dict.fromkeys((arm, protocol) for arm, protocol, _ in rows_by_set):
        scores = {
            benchmark: list(problem_scores(rows).values())
            for (row_arm, row_protocol, benchmark), rows in rows_by_set.items()
            if (row_arm, row_protocol) == (arm, protocol)
        }
        measured = [benchmark for benchmark, values in scores.items() if values]
        for group, names in _benchmark_groups(measured, domains, limo_benchmarks).items():
            values = [scores[name] for name in names]
            figures.append(
                {
                    "arm": arm,
                    "protocol": protocol,
                    "group": group,
                    "benchmarks": names,
                    "accuracy": float(np.mean(list(map(np.mean, values)))),
                    "ci95": macro_mean_ci(values, num_resamples=num_resamples, seed=seed).bounds,
                }
            )
    return figures


def _benchmark_groups(
    names: Sequence[str], domains: Mapping[str, str | None], limo_benchmarks: Collection[str]
) -> dict[str, list[str]]:
    """Groups of at least two benchmarks; LIMO's ten only if all ten were measured."""
    limo = [name for name in names if name in limo_benchmarks]
    groups = {
        "in": [name for name in names if domains.get(name) == "in"],
        "out": [name for name in names if domains.get(name) == "out"],
        "ten": limo if len(limo) == len(limo_benchmarks) else [],
        "all": list(names),
    }
    return {group: members for group, members in groups.items() if len(members) > 1}


def _sample_figures(
    rows: Sequence[EvaluationRow], groups: AnswerGroups, *, seed: int
) -> dict[str, Any]:
    """pass@k, maj@k and coverage; pass@k and maj@k only if all rows have one temperature."""
    graded = [row for row in rows if row.verdict.is_counted]
    problems = [samples for _, samples in sorted(by_problem(graded).items())]
    correct = [[row.verdict is Verdict.CORRECT for row in samples] for samples in problems]
    passes: dict[str, float | None] = {}
    majorities: dict[str, float | None] = {}
    mixed = len({row.temperature for row in graded}) > 1
    for k in powers_of_two(min(map(len, problems))) if problems and not mixed else []:
        passes[str(k)] = _mean(
            pass_at_k(sum(flags), num_samples=len(flags), k=k) for flags in correct
        )
        majorities[str(k)] = _mean(
            maj_at_k([vote_key(row, groups) for row in samples], k=k, correct=flags, seed=seed)
            for samples, flags in zip(problems, correct, strict=True)
        )
    return {"coverage": _mean(map(any, correct)), "pass_at_k": passes, "maj_at_k": majorities}


def vote_key(row: EvaluationRow, groups: AnswerGroups) -> Hashable | None:
    """The row's vote: the group of its answer and its verdict; None for no answer.

    With the verdict, a wrong answer never votes for the correct one: equivalent answers (3, 4 and
    4, 3) may differ in verdict if the question asks for an order.
    """
    if row.verdict not in (Verdict.CORRECT, Verdict.WRONG):
        return None
    return groups.get(row.id, row.extracted), row.verdict


def _token_figures(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    thinking = [row.num_thinking_tokens for row in rows]
    answers = [row.num_answer_tokens for row in rows]
    return {
        "mean_thinking_tokens": _mean(thinking),
        "thinking_tokens_quantiles": _quantiles(thinking),
        "mean_answer_tokens": _mean(answers),
        "answer_tokens_quantiles": _quantiles(answers),
        "mean_waits_used": _mean(row.num_waits_used for row in rows),
        "tokens_spent": sum(thinking) + sum(answers),
    }


def _end_figures(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    return {
        "truncated_rate": _mean(row.verdict is Verdict.TRUNCATED for row in rows),
        "no_answer_rate": _mean(row.verdict is Verdict.NO_ANSWER for row in rows),
        "num_ungradable": sum(row.verdict is Verdict.UNGRADABLE for row in rows),
        "num_grader_errors": sum(row.verdict is Verdict.GRADER_ERROR for row in rows),
        "thinking_natural_rate": _mean(row.thinking_end is ThinkingEnd.NATURAL for row in rows),
        "loop_rate": _mean(row.thinking_end is ThinkingEnd.LOOP for row in rows),
        "answer_eos_rate": _mean(row.answer_end is AnswerEnd.STOP for row in rows),
        "budget_violations": sum(bool(row.violations) for row in rows),
    }


def _by_domain(rows: Sequence[EvaluationRow]) -> dict[str, dict[str, Any]]:
    domains = group_by(rows, lambda row: row.domain or "unknown")
    scores = {domain: problem_scores(members) for domain, members in sorted(domains.items())}
    return {
        domain: {"n": len(values), "accuracy": _mean(values.values())}
        for domain, values in scores.items()
        if values
    }


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    percents = (10, 50, 90)
    quantiles = np.percentile(values, percents)
    return {str(p): float(q) for p, q in zip(percents, quantiles, strict=True)}


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return sum(values) / len(values) if values else None
