"""Two arms on the same problems: paired differences, problems won and lost, LIMO's hypothesis.

{"n": 200, "difference": 0.345, "ci95": [0.275, 0.415], "p_exact": 1.2e-13, …}

Differences are b - a. A problem's samples are averaged before pairing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slowthink.analysis.scores import (
    Points,
    RowT,
    by_problem,
    largest_budget,
    point_fields,
    problem_scores,
)
from slowthink.analysis.statistics import (
    NUM_RESAMPLES,
    accuracy_ci,
    minimal_detectable_difference,
    none_if_nan,
    paired_bootstrap,
    pass_at_k,
    percentile_interval,
    sign_test,
)
from slowthink.records import Verdict


def paired_figures(
    a: Mapping[str, float],
    b: Mapping[str, float],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Difference, interval and tests on the problems that both have; None if there are none.

    `a` and `b` are `problem_scores`. The exact test is for small sets.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    values_a, values_b = [a[p] for p in shared], [b[p] for p in shared]
    detectable = minimal_detectable_difference(values_a, values_b)
    paired = paired_bootstrap(values_a, values_b, num_resamples=num_resamples, seed=seed)
    return {
        "n": len(shared),
        "difference": paired.difference,
        "ci95": paired.ci95.bounds,
        "p_bootstrap": paired.p_value,
        "p_exact": sign_test(values_a, values_b),
        "minimal_detectable_difference": none_if_nan(detectable),
    }


def compare_arms(
    arms: Mapping[str, Points], *, num_resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Paired figures of every two arms, each at its largest budget."""
    points = {arm: largest_budget(arm_points) for arm, arm_points in arms.items()}
    scores = {arm: problem_scores(arms[arm][point]) for arm, point in points.items()}
    comparisons = []
    for a, b in itertools.combinations(arms, 2):
        paired = paired_figures(scores[a], scores[b], num_resamples=num_resamples, seed=seed)
        if paired is not None:
            compared = {
                "a": a, "a_point": point_fields(points[a]),
                "b": b, "b_point": point_fields(points[b]),
            }  # fmt: skip
            comparisons.append(compared | paired)
    return comparisons


def compare_rows(
    a: Sequence[RowT], b: Sequence[RowT], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Paired figures of one point, each arm's own figures on the shared problems, and the problems
    won and lost. If no problem is shared, `n` is 0 and there are no figures."""
    scores_a, scores_b = problem_scores(a), problem_scores(b)
    options = {"num_resamples": num_resamples, "seed": seed}
    paired = paired_figures(scores_a, scores_b, **options)
    num_shared = paired["n"] if paired else 0
    counts = {
        "n": num_shared,
        "num_only_a": len(scores_a) - num_shared,
        "num_only_b": len(scores_b) - num_shared,
    }
    if paired is None:
        return counts
    return {
        **counts,
        **paired,
        "a": _arm_figures([r for r in a if r.problem_id in scores_b], scores_a, **options),
        "b": _arm_figures([r for r in b if r.problem_id in scores_a], scores_b, **options),
        **_changed_problems(a, b, scores_a, scores_b),
    }


def _graded_by_problem(rows: Sequence[RowT]) -> dict[str, list[RowT]]:
    """Graded rows by problem, in order of sample."""
    ordered = sorted(rows, key=lambda row: (row.sample, row.id))
    return by_problem(row for row in ordered if row.verdict.is_counted)


def _arm_figures(
    rows: Sequence[RowT], scores: Mapping[str, float], *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """Accuracy and tokens of one arm; `rows` are those of the shared problems."""
    problems = _graded_by_problem(rows)
    values = [scores[problem] for problem in problems]
    interval = accuracy_ci(
        values, num_answers=sum(map(len, problems.values())), num_resamples=num_resamples, seed=seed
    )
    return {
        "accuracy": sum(values) / len(values),
        "ci95": interval.bounds,
        "num_samples": max(map(len, problems.values())),
        "mean_thinking_tokens": sum(row.num_thinking_tokens for row in rows) / len(rows),
        "mean_answer_tokens": sum(row.num_answer_tokens for row in rows) / len(rows),
    }


def _changed_problems(
    a: Sequence[RowT],
    b: Sequence[RowT],
    scores_a: Mapping[str, float],
    scores_b: Mapping[str, float],
) -> dict[str, list[dict[str, Any]]]:
    """Problems that b solves more often (won) or less often (lost), with a row of each arm: the
    better arm's first correct row and the other's first incorrect one."""
    rows_a, rows_b = _graded_by_problem(a), _graded_by_problem(b)
    changed: dict[str, list[dict[str, Any]]] = {"won": [], "lost": []}
    for problem in sorted(scores_a.keys() & scores_b.keys()):
        gain = scores_b[problem] - scores_a[problem]
        if gain:
            changed["won" if gain > 0 else "lost"].append(
                {
                    "problem_id": problem,
                    "a": scores_a[problem],
                    "b": scores_b[problem],
                    "a_id": _first_row_id(rows_a[problem], correct=gain < 0),
                    "b_id": _first_row_id(rows_b[problem], correct=gain > 0),
                }
            )
    return changed


def _first_row_id(rows: Sequence[RowT], *, correct: bool) -> str:
    return next(row.id for row in rows if (row.verdict is Verdict.CORRECT) == correct)


def elicitation(
    num_correct: Sequence[int],
    num_samples: Sequence[int],
    tuned: Sequence[float],
    *,
    k: int,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> dict[str, Any]:
    """LIMO's hypothesis as a measure: how much of tuning's gain the base model already covers.

    `num_correct` of `num_samples` are the base's, `tuned` is the tuned model's accuracy; one value
    per problem, in the same order. `gain` is the mean over problems of the increase in accuracy
    (a decrease counts as 0). The base covers a problem's gain with weight pass@k: with
    k = num_samples that is 1 if any sample is correct, else 0. `gain_within_base_coverage` is the
    covered share of the gain, with `ci95`; None without a gain. (LIMO, arXiv 2502.03387, section 1,
    states the hypothesis and has no measure.) Raises ValueError if the lengths differ or are 0, or
    k > num_samples.
    """
    if not len(tuned) == len(num_correct) == len(num_samples) or not len(tuned):
        raise ValueError(
            f"elicitation: {len(num_correct)}, {len(num_samples)} and {len(tuned)} problems; "
            "expected the same problems, at least one"
        )
    counts = list(zip(num_correct, num_samples, strict=True))
    covered_Q = np.array([pass_at_k(c, num_samples=n, k=k) for c, n in counts])
    base_Q = np.array([c / n for c, n in counts])
    gains_Q = np.maximum(np.asarray(tuned, dtype=np.float64) - base_Q, 0.0)
    rng = np.random.default_rng(seed)
    indices = rng.integers(len(gains_Q), size=(num_resamples, len(gains_Q)))
    totals = gains_Q[indices].sum(axis=1)
    shares = (gains_Q * covered_Q)[indices].sum(axis=1)[totals > 0] / totals[totals > 0]
    total = float(gains_Q.sum())
    return {
        "base_pass_at_k": float(covered_Q.mean()),
        "tuned_pass_at_1": float(np.mean(tuned)),
        "num_gains": int((gains_Q > 0).sum()),
        "gain": float(gains_Q.mean()),
        "gain_within_base_coverage": float((gains_Q * covered_Q).sum()) / total if total else None,
        "ci95": percentile_interval(shares).bounds,
    }


def arm_elicitation(arms: Mapping[str, Points], base: str, tuned: str) -> dict[str, Any] | None:
    """`elicitation` of two arms at their largest budgets; None if the base was sampled once, or is
    the tuned arm."""
    if base == tuned or base not in arms or tuned not in arms:
        return None
    base_rows = by_problem(
        row for row in arms[base][largest_budget(arms[base])] if row.verdict.is_counted
    )
    tuned_scores = problem_scores(arms[tuned][largest_budget(arms[tuned])])
    shared = sorted(base_rows.keys() & tuned_scores.keys())
    counts = [len(base_rows[problem]) for problem in shared]
    if not shared or min(counts) < 2:
        return None
    correct = [sum(row.verdict is Verdict.CORRECT for row in base_rows[p]) for p in shared]
    figures = elicitation(correct, counts, [tuned_scores[p] for p in shared], k=min(counts))
    return {"base": base, "tuned": tuned, "k": min(counts), "n": len(shared), **figures}
