"""Parallel scaling: many chains per question, combined into one answer.

`stored_curves` votes on stored samples; `run_rejection` and `run_rebase` also sample. All return
curves as the report reads them:

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
from slowthink.sampling.parallel.rejection import rejection_curve, sample_until_decided
from slowthink.sampling.parallel.scorers import ScoreItem, Scorer, open_scorer, transcript_text
from slowthink.serialise import plain

__all__ = [
    "ParallelContext",
    "ScoreItem",
    "Scorer",
    "StoredPoint",
    "open_scorer",
    "run_rebase",
    "run_rejection",
    "stored_curves",
    "transcript_text",
]


@dataclass(frozen=True, kw_only=True)
class StoredPoint:
    """An arm's stored samples at one point of its curve."""

    point: Point
    samples: Mapping[str, Sequence[Sample]]
    """By problem id, without problems that cannot be graded."""


def stored_curves(
    points: Sequence[StoredPoint],
    *,
    scorer_tokens_per_sample: float = 0.0,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[dict[str, Any]]:
    """Return the curve of sequential scaling (one sample at each cap), and curves of votes at each
    point. If all samples of a point have scores, also best-of-n, and the weighted majority unless
    a score is negative.
    """
    curves = [_sequential_curve(points, seed=seed, num_resamples=num_resamples)]
    for stored in points:
        for method in _vote_methods(stored):
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


def run_rejection(
    context: ParallelContext, problems: Sequence[Problem], config: RejectionConfig
) -> list[dict[str, Any]]:
    """Rejection sampling at all limits, with the same samples; cached ones are reused."""
    samples = sample_until_decided(context, problems, config)
    points = rejection_curve(
        samples, config, seed=context.recipe.seed, num_resamples=context.num_resamples
    )
    return [_curve(f"rejection, {config.max_tries} tries at most", "rejection", points)]


def run_rebase(
    context: ParallelContext, problems: Sequence[Problem], config: RebaseConfig, scorer: Scorer
) -> list[dict[str, Any]]:
    """REBASE at all widths: a curve of the majority, and one of the score-weighted majority."""
    curves = rebase_curves(context, problems, scorer, config)
    return [_curve(f"REBASE, {name}", "rebase", points) for name, points in curves.items()]


def _sequential_curve(
    points: Sequence[StoredPoint], *, seed: int, num_resamples: int
) -> dict[str, Any]:
    """One sample per problem at each cap, without waits."""
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
    return _curve("one sample, longer thinking", "sequential", vote_points)


def _vote_methods(stored: StoredPoint) -> list[Method]:
    scores = [sample.score for samples in stored.samples.values() for sample in samples]
    if any(score is None for score in scores):
        return ["majority"]
    has_negative = any(score < 0 for score in scores if score is not None)
    return [method for method in METHODS if not (has_negative and method == "weighted")]


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
