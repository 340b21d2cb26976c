"""s1's measures of test-time scaling: Control, Scaling, Performance (arXiv 2501.19393, eq. 1 to 3).

{"arm": "tuned", "num_points": 5, "control": 1.0, "scaling_per_doubling": 0.15, …}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slowthink.analysis.scores import Points, by_problem, problem_scores
from slowthink.analysis.statistics import (
    NO_INTERVAL,
    Floats,
    Interval,
    none_if_nan,
    percentile_interval,
    resampled_means,
)
from slowthink.stage_rows import EvaluationRow


def control(
    num_tokens: Sequence[float], *, high: float | Sequence[float], low: float = 0.0
) -> float:
    """Share of runs (or samples) with thinking tokens within the limits; equation 1, in [0, 1].

    `high` is one limit for all, or one per run.
    """
    if not len(num_tokens):
        return math.nan
    tokens = np.asarray(num_tokens, dtype=np.float64)
    return float(((tokens >= low) & (tokens <= np.asarray(high))).mean())


def scaling(points: Sequence[tuple[float, float]], *, per: str = "token") -> float:
    """Mean slope over all pairs of (thinking tokens, accuracy) points; equation 2.

    `per="token"` is the equation as printed. `per="doubling"` takes log2 of the tokens and gives
    the values of s1's Table 3. Pairs with equal tokens have no slope and are left out. NaN if none
    is left.
    """
    if per not in ("token", "doubling"):
        raise ValueError(f"scaling: per = {per!r}; expected 'token' or 'doubling'")
    scale: Callable[[float], float] = math.log2 if per == "doubling" else float
    scaled = [(scale(tokens), accuracy) for tokens, accuracy in points]
    slopes = [
        (accuracy_b - accuracy_a) / (b - a)
        for (a, accuracy_a), (b, accuracy_b) in itertools.combinations(scaled, 2)
        if a != b
    ]
    return sum(slopes) / len(slopes) if slopes else math.nan


def performance(points: Sequence[tuple[float, float]]) -> float:
    """The best accuracy of all points; equation 3. NaN if there are none."""
    return max((accuracy for _, accuracy in points), default=math.nan)


def scaling_ci(
    tokens: npt.ArrayLike, accuracy: npt.ArrayLike, *, num_resamples: int = 2_000, seed: int = 0
) -> Interval:
    """95 % interval of `scaling` per doubling; resamples problems.

    Both arrays have shape (points, problems): a problem's mean thinking tokens and accuracy at each
    point of the curve.
    """
    tokens_PR, accuracy_PR = (
        resampled_means(np.asarray(values, float), num=num_resamples, seed=seed)
        for values in (tokens, accuracy)
    )
    curves = zip(tokens_PR.T.tolist(), accuracy_PR.T.tolist(), strict=True)
    slopes = [scaling(list(zip(*curve, strict=True)), per="doubling") for curve in curves]
    return percentile_interval([slope for slope in slopes if not math.isnan(slope)])


def performance_ci(
    accuracy: npt.ArrayLike, *, num_resamples: int = 2_000, seed: int = 0
) -> Interval:
    """95 % interval of `performance`; resamples problems and chooses the best point each time.

    `accuracy` has shape (points, problems).
    """
    accuracy_PQ = np.asarray(accuracy, float)
    if not accuracy_PQ.size:
        return NO_INTERVAL
    return percentile_interval(
        resampled_means(accuracy_PQ, num=num_resamples, seed=seed).max(axis=0)
    )


def _curve(tokens_PQ: Floats, accuracy_PQ: Floats) -> list[tuple[float, float]]:
    """(thinking tokens, accuracy) of each point, as means over problems."""
    means = zip(tokens_PQ.mean(1), accuracy_PQ.mean(1), strict=True)
    return [(float(tokens), float(accuracy)) for tokens, accuracy in means]


def scaling_measures(arms: Mapping[str, Points], *, seed: int) -> list[dict[str, Any]]:
    """Control, Scaling and Performance of each arm over its forced points.

    Arms with fewer than two forced points have no curve and are left out.
    """
    measures = []
    for arm, points in arms.items():
        forced = {key: rows for key, rows in points.items() if key.forced}
        if len(forced) > 1:
            curve_measures = _curve_measures(forced, seed=seed)
            measures.append({"arm": arm, "num_points": len(forced), **curve_measures})
    return measures


def _curve_measures(points: Points, *, seed: int) -> dict[str, Any]:
    """The measures on the problems that every point has a score for; empty if there are none."""
    scores = [problem_scores(rows) for rows in points.values()]
    shared = sorted(set.intersection(*map(set, scores)))
    if not shared:
        return {}
    accuracy_PQ = np.array([[point[problem] for problem in shared] for point in scores])
    tokens_PQ = np.array([_mean_tokens(rows, shared) for rows in points.values()])
    curve = _curve(tokens_PQ, accuracy_PQ)
    with_thinking = [point for point in curve if point[0] > 0]  # log2 of 0 is undefined
    samples = [(row.num_thinking_tokens, cap) for (cap, *_), rows in points.items() for row in rows]
    return {
        "control": control([tokens for tokens, _ in curve], high=[cap for cap, *_ in points]),
        "control_per_sample": control(
            [tokens for tokens, _ in samples], high=[cap for _, cap in samples]
        ),
        "scaling_per_token": none_if_nan(scaling(with_thinking)),
        "scaling_per_doubling": none_if_nan(scaling(with_thinking, per="doubling")),
        "scaling_per_doubling_ci95": _scaling_ci95(tokens_PQ, accuracy_PQ, seed=seed),
        "performance": performance(curve),
        "performance_ci95": performance_ci(accuracy_PQ, seed=seed).bounds,
    }


def _mean_tokens(rows: Sequence[EvaluationRow], problems: Sequence[str]) -> list[float]:
    samples = by_problem(rows)
    return [float(np.mean([row.num_thinking_tokens for row in samples[p]])) for p in problems]


def _scaling_ci95(tokens_PQ: Floats, accuracy_PQ: Floats, *, seed: int) -> list[float] | None:
    """Interval of Scaling over the points at which every problem has thinking tokens, so that every
    resample has some. None for fewer than two such points."""
    all_thinking = (tokens_PQ > 0).all(axis=1)
    if all_thinking.sum() < 2:
        return None
    return scaling_ci(tokens_PQ[all_thinking], accuracy_PQ[all_thinking], seed=seed).bounds
