"""Parallel scaling: many chains per question, combined into one answer.

`stored_curves` votes on stored samples; `rejection_live` and `rebase_live` sample more. All return
curves in the report's form:

    {"name": "majority, cap 96", "method": "majority", "sequential_point": {…}, "points":
     [{"k": 4, "tokens_per_problem": 228.4, "accuracy": 0.46, "ci95": [0.39, 0.53], "n": 200, …}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slowthink.analysis.statistics import NUM_RESAMPLES
from slowthink.analysis.votes import (
    METHODS,
    Method,
    ProblemVotes,
    Sample,
    VotePoint,
    curve_point,
    vote_curve,
)
from slowthink.engines.session import Point
from slowthink.recipe import RebaseConfig, RejectionConfig
from slowthink.records import Problem
from slowthink.sampling.parallel.context import ParallelContext
from slowthink.sampling.parallel.rebase import rebase_curves
from slowthink.sampling.parallel.rejection import draw_samples, rejection_curve
from slowthink.sampling.parallel.scorers import ScoreItem, Scorer, open_scorer, transcript_text
from slowthink.serialise import plain

__all__ = [
    "ParallelContext",
    "ScoreItem",
    "Scorer",
    "StoredPoint",
    "open_scorer",
    "rebase_live",
    "rejection_live",
    "stored_curves",
    "transcript_text",
]


@dataclass(frozen=True, kw_only=True)
class StoredPoint:
    """All stored samples of an arm at one point of its curve."""

    point: Point
    samples: Mapping[str, Sequence[Sample]]
    """By problem id; without problems that cannot be graded."""


def stored_curves(
    points: Sequence[StoredPoint],
    *,
    scorer_tokens_per_sample: float = 0.0,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[dict[str, Any]]:
    """Sequential scaling (one sample at each cap), and votes at each point (both combined).

    Points whose samples all have scores also get the weighted majority, unless a score is
    negative, and best-of-n.
    """
    curves = _sequential(points, seed=seed, num_resamples=num_resamples)
    for stored in points:
        for method in _methods(stored):
            vote_points = vote_curve(
                stored.samples,
                method=method,
                scorer_tokens_per_sample=scorer_tokens_per_sample,
                seed=seed,
                num_resamples=num_resamples,
            )
            name = f"{method}, {_point_name(stored.point)}"
            curves.append(_curve(name, method, vote_points, stored.point))
    return [curve for curve in curves if curve["points"]]


def rejection_live(
    context: ParallelContext, problems: Sequence[Problem], config: RejectionConfig
) -> list[dict[str, Any]]:
    """Rejection sampling at all limits, from the same samples; cached ones are reused."""
    samples = draw_samples(context, problems, config)
    points = rejection_curve(
        samples, config, seed=context.recipe.seed, num_resamples=context.num_resamples
    )
    return [_curve(f"rejection, {config.max_tries} tries at most", "rejection", points)]


def rebase_live(
    context: ParallelContext, problems: Sequence[Problem], config: RebaseConfig, scorer: Scorer
) -> list[dict[str, Any]]:
    """REBASE at all widths; the answers vote equally, and weighted by score."""
    curves = rebase_curves(context, problems, scorer, config)
    return [_curve(f"REBASE, {name}", "rebase", points) for name, points in curves.items()]


def _sequential(
    points: Sequence[StoredPoint], *, seed: int, num_resamples: int
) -> list[dict[str, Any]]:
    """One sample at each cap, without waits."""
    capped = [stored for stored in points if stored.point.forced and not stored.point.waits]
    vote_points = []
    for stored in sorted(capped, key=lambda stored: stored.point.cap):
        votes = [
            ProblemVotes(
                accuracy=float(np.mean([sample.correct for sample in samples])),
                num_tokens=float(np.mean([sample.num_tokens for sample in samples])),
            )
            for _, samples in sorted(stored.samples.items())
            if samples
        ]
        if votes:
            cap = stored.point.cap
            vote_points.append(curve_point(cap, votes, seed=seed, num_resamples=num_resamples))
    return [_curve("one sample, longer thinking", "sequential", vote_points)]


def _methods(stored: StoredPoint) -> list[Method]:
    scores = [sample.score for samples in stored.samples.values() for sample in samples]
    if any(score is None for score in scores):
        return ["majority"]
    negative = any(score < 0 for score in scores if score is not None)
    return [method for method in METHODS if not (negative and method == "weighted")]


def _point_name(point: Point) -> str:
    waits = f", {point.waits} wait{'s' * (point.waits > 1)}" if point.waits else ""
    return f"cap {point.cap}{waits}{'' if point.forced else ', free'}"


def _curve(
    name: str, method: str, points: Sequence[VotePoint], point: Point | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "method": method,
        "sequential_point": point and {
            "max_thinking_tokens": point.cap, "waits": point.waits, "forced": point.forced,
        },
        "points": [
            {key: value for key, value in plain(vote_point).items() if key != "ci95"}
            | {"ci95": [vote_point.ci95.low, vote_point.ci95.high]}
            for vote_point in points
        ],
    }  # fmt: skip
