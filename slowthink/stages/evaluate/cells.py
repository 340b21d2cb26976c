"""The figures of one cell: one arm, set, protocol and point.

{"max_thinking_tokens": 64, "waits": 0, "n": 200, "accuracy": 0.41, "ci95": [0.34, 0.48], …}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slowthink.analysis.statistics import accuracy_ci, maj_at_k, pass_at_k, problem_scores
from slowthink.records import AnswerEnd, EvaluationRow, ThinkingEnd, Verdict

Groups = Mapping[str, int | None]
"""Row id to the number of its answer, equal for equivalent answers of a problem."""


def cell(
    rows: Sequence[EvaluationRow], *, num_resamples: int, seed: int, groups: Groups | None = None
) -> dict[str, Any]:
    """All figures of these rows, which share arm, set, protocol and point.

    Accuracy is the mean over problems of the mean over samples (pass@1); its 95 % interval is over
    problems. What cannot be graded leaves the denominator and is counted.
    """
    first, accuracies = rows[0], scores(rows)
    counted = sum(row.verdict.counts for row in rows)
    interval = accuracy_ci(
        list(accuracies.values()), num_answers=counted, num_resamples=num_resamples, seed=seed
    )
    return {
        "max_thinking_tokens": first.max_thinking_tokens,
        "waits": first.waits,
        "forced": first.forced,
        "n": len(accuracies),
        "num_samples": max(map(len, by_problem(rows).values())),
        "accuracy": _mean(accuracies.values()),
        "ci95": [interval.low, interval.high],
        **_several(rows, groups or {}, seed=seed),
        **_tokens(rows),
        **_ends(rows),
        "pass_rate_by_domain": _by_domain(rows),
    }


def by_problem(rows: Iterable[EvaluationRow]) -> dict[str, list[EvaluationRow]]:
    """Rows by problem id, in order of id."""
    found: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in rows:
        found[row.problem_id].append(row)
    return dict(sorted(found.items()))


def scores(rows: Iterable[EvaluationRow]) -> dict[str, float]:
    """A problem's share of right samples: the mean over temperatures of the mean over samples."""
    return problem_scores(
        (row.problem_id, row.temperature, row.verdict is Verdict.CORRECT)
        for row in rows
        if row.verdict.counts
    )


# --- several samples ------------------------------------------------------------------------------


def _several(rows: Sequence[EvaluationRow], groups: Groups, *, seed: int) -> dict[str, Any]:
    """pass@k, maj@k and coverage; without pass@k and maj@k where temperatures are mixed."""
    graded = [row for row in rows if row.verdict.counts]
    problems = list(by_problem(graded).values())
    right = [sum(row.verdict is Verdict.CORRECT for row in one) for one in problems]
    passes: dict[str, float | None] = {}
    majorities: dict[str, float | None] = {}
    mixed = len({row.temperature for row in graded}) > 1
    for k in ks(min(map(len, problems))) if problems and not mixed else []:
        passes[str(k)] = _mean(
            pass_at_k(count, num_samples=len(one), k=k)
            for count, one in zip(right, problems, strict=True)
        )
        majorities[str(k)] = _mean(
            maj_at_k(
                [vote_of(row, groups) for row in one],
                k=k,
                correct=[row.verdict is Verdict.CORRECT for row in one],
                seed=seed,
            )
            for one in problems
        )
    coverage = _mean(count > 0 for count in right)
    return {"coverage": coverage, "pass_at_k": passes, "maj_at_k": majorities}


def ks(num_samples: int) -> list[int]:
    """1, 2, 4, … and the number of samples."""
    powers = [2**i for i in range(num_samples.bit_length()) if 2**i <= num_samples]
    return sorted({*powers, num_samples})


def vote_of(row: EvaluationRow, groups: Groups) -> Hashable | None:
    """What the row votes for: its answer's group; None for an answer cut off, or none.

    The verdict is part of it: two answers that are equivalent by themselves (3, 4 and 4, 3) may
    not both be what the question asks for, and a wrong one must not vote for the right one.
    """
    if row.verdict not in (Verdict.CORRECT, Verdict.WRONG):
        return None
    return groups.get(row.id, row.extracted), row.verdict


# --- tokens, ends, domains ------------------------------------------------------------------------


def _tokens(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
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


def _ends(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    return {
        "truncated_rate": _share(rows, Verdict.TRUNCATED),
        "no_answer_rate": _share(rows, Verdict.NO_ANSWER),
        "num_ungradable": sum(row.verdict is Verdict.UNGRADABLE for row in rows),
        "num_grader_errors": sum(row.verdict is Verdict.GRADER_ERROR for row in rows),
        "thinking_natural_rate": _mean(row.thinking_end is ThinkingEnd.NATURAL for row in rows),
        "loop_rate": _mean(row.thinking_end is ThinkingEnd.LOOP for row in rows),
        "answer_eos_rate": _mean(row.answer_end is AnswerEnd.STOP for row in rows),
        "budget_violations": sum(bool(row.violations) for row in rows),
    }


def _by_domain(rows: Sequence[EvaluationRow]) -> dict[str, dict[str, Any]]:
    domains: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in rows:
        domains[row.domain or "unknown"].append(row)
    found = {}
    for domain, members in sorted(domains.items()):
        accuracies = scores(members)
        if accuracies:
            found[domain] = {"n": len(accuracies), "accuracy": _mean(accuracies.values())}
    return found


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    points = (10, 50, 90)
    return {str(p): float(v) for p, v in zip(points, np.percentile(values, points), strict=True)}


def _share(rows: Sequence[EvaluationRow], verdict: Verdict) -> float | None:
    return _mean(row.verdict is verdict for row in rows)


def _mean(values: Iterable[float]) -> float | None:
    """None without values."""
    found = list(values)
    return sum(found) / len(found) if found else None
