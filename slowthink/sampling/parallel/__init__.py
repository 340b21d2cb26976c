"""Parallel scaling: many chains for one question, and how one answer is made of them.

`stored_curves` votes on samples that are there; `rejection_curve_live` and `rebase_live` ask a
model for more. All give curves of the report's form:

    {"name": "majority, cap 96", "method": "majority", "sequential_point": {…}, "points":
     [{"k": 4, "tokens_per_problem": 228.4, "accuracy": 0.46, "ci95": [0.39, 0.53], "n": 200, …}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slowthink.analysis.statistics import NUM_RESAMPLES
from slowthink.engines.session import Point
from slowthink.recipe import RebaseConfig, RejectionConfig
from slowthink.records import Problem
from slowthink.sampling.parallel.context import (
    ParallelContext,
    make_sample,
    num_completion_tokens,
    votes_for,
)
from slowthink.sampling.parallel.rebase import rebase_curves
from slowthink.sampling.parallel.rejection import draw_samples, rejection_curve
from slowthink.sampling.parallel.scorers import ScoreItem, Scorer, open_scorer, transcript_text
from slowthink.sampling.parallel.votes import (
    Method,
    ProblemVotes,
    Sample,
    VotePoint,
    curve_point,
    vote_curve,
)
from slowthink.serialise import plain

__all__ = [
    "ParallelContext",
    "Sample",
    "ScoreItem",
    "Scorer",
    "StoredPoint",
    "VotePoint",
    "make_sample",
    "num_completion_tokens",
    "open_scorer",
    "rebase_live",
    "rejection_live",
    "stored_curves",
    "transcript_text",
    "vote_curve",
    "votes_for",
]

METHODS: tuple[Method, ...] = ("majority", "weighted", "best-of-n")


@dataclass(frozen=True, kw_only=True)
class StoredPoint:
    """All samples that an arm has at one point of its curve."""

    point: Point
    samples: Mapping[str, Sequence[Sample]]
    """By problem id; without those that cannot be graded."""


def stored_curves(
    points: Sequence[StoredPoint],
    *,
    scorer_tokens_per_sample: float = 0.0,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[dict[str, Any]]:
    """One sample at each cap (sequential scaling), and votes at each point (both together).

    Where all samples of a point are scored, the weighted majority and best-of-n come too; where a
    score is negative, without the weighted majority.
    """
    curves = _sequential(points, seed=seed, num_resamples=num_resamples)
    for stored in points:
        for method in _methods(stored):
            found = vote_curve(
                stored.samples,
                method=method,
                scorer_tokens_per_sample=scorer_tokens_per_sample,
                seed=seed,
                num_resamples=num_resamples,
            )
            curves.append(_curve(f"{method}, {_words(stored.point)}", method, found, stored.point))
    return [curve for curve in curves if curve["points"]]


def rejection_live(
    asking: ParallelContext, problems: Sequence[Problem], config: RejectionConfig
) -> list[dict[str, Any]]:
    """Rejection sampling at all limits, out of the same tries; draws those that are missing."""
    tries = draw_samples(asking, problems, config)
    found = rejection_curve(tries, config, seed=asking.seed, num_resamples=asking.num_resamples)
    return [_curve(f"rejection, {config.max_tries} tries at most", "rejection", found)]


def rebase_live(
    asking: ParallelContext, problems: Sequence[Problem], config: RebaseConfig, scorer: Scorer
) -> list[dict[str, Any]]:
    """REBASE at all widths, the kept chains' answers voting equally and by score."""
    found = rebase_curves(asking, problems, scorer, config)
    return [_curve(f"REBASE, {name}", "rebase", points) for name, points in found.items()]


def _sequential(
    points: Sequence[StoredPoint], *, seed: int, num_resamples: int
) -> list[dict[str, Any]]:
    """One sample at each cap, without waits."""
    plain_ones = [one for one in points if one.point.forced and not one.point.waits]
    found = []
    for stored in sorted(plain_ones, key=lambda one: one.point.cap):
        outcomes = [
            ProblemVotes(
                accuracy=float(np.mean([sample.correct for sample in samples])),
                num_tokens=float(np.mean([sample.num_tokens for sample in samples])),
            )
            for _, samples in sorted(stored.samples.items())
            if samples
        ]
        if outcomes:
            cap = stored.point.cap
            found.append(curve_point(cap, outcomes, seed=seed, num_resamples=num_resamples))
    return [_curve("one sample, longer thinking", "sequential", found)]


def _methods(stored: StoredPoint) -> list[Method]:
    scores = [sample.score for samples in stored.samples.values() for sample in samples]
    if any(score is None for score in scores):
        return ["majority"]
    negative = any(score < 0 for score in scores if score is not None)
    return [method for method in METHODS if not (negative and method == "weighted")]


def _words(point: Point) -> str:
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
            {key: value for key, value in plain(one).items() if key != "ci95"}
            | {"ci95": [one.ci95.low, one.ci95.high]}
            for one in points
        ],
    }  # fmt: skip
