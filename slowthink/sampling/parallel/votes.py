"""Many stored samples of a problem, one answer: majority, weighted majority, best-of-n.

Everything is a pure function of graded samples. One real record: `Sample(answer=0, correct=True,
num_tokens=57, score=0.83)` becomes part of `VotePoint(k=4, tokens_per_problem=228.4,
accuracy=0.46, ci95=Interval(0.39, 0.53), n=200)`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slowthink.analysis.statistics import (
    NUM_RESAMPLES,
    Interval,
    bootstrap_ci,
    maj_at_k,
    powers_of_two,
    wilson,
)

Method = Literal["majority", "weighted", "best-of-n"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One graded sample of a problem."""

    answer: Hashable | None
    """Equal for equivalent answers of a problem; None: no answer, so no vote."""
    correct: bool
    num_tokens: int
    """All tokens that it took: thinking, closing and answer."""
    score: float | None = None
    """The scorer's; None where none was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemVotes:
    """What one problem came to."""

    accuracy: float
    """Chance of the right answer, in [0, 1]."""
    num_tokens: float
    scorer_tokens: float = 0.0
    resolved: bool = True
    """False: no answer was accepted; it counts as wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VotePoint:
    """Accuracy at one amount of work, over problems."""

    k: int
    """Samples, width or limit."""
    tokens_per_problem: float
    """Tokens of all chains of a problem: thinking, closings and answers; prompts are not in it."""
    accuracy: float
    ci95: Interval
    """Over problems."""
    n: int
    """Problems."""
    scorer_tokens_per_problem: float = 0.0
    """Tokens that the scorer read and wrote."""
    unresolved_rate: float = 0.0
    """Share of problems for which no answer was accepted."""


def vote_curve(
    samples: Mapping[str, Sequence[Sample]],
    *,
    method: Method,
    ks: Sequence[int] | None = None,
    scorer_tokens_per_sample: float = 0.0,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[VotePoint]:
    """Accuracy of one answer made of k samples, for each k (None: 1, 2, 4, … and all).

    A problem's value is the mean over subsets of its samples: all of them, or for votes a fixed
    2,000 (see `stats.maj_at_k`); ties are split. The tokens are those of k samples on average.
    Raises ValueError where a problem has fewer samples than k, where a score is missing, and for
    the weighted majority where one is negative.
    """
    groups = {problem: found for problem, found in sorted(samples.items()) if found}
    if not groups:
        return []
    scored = 0.0 if method == "majority" else scorer_tokens_per_sample
    return [
        curve_point(
            k,
            [
                ProblemVotes(
                    accuracy=_chance(found, method, k, seed=seed),
                    num_tokens=k * float(np.mean([sample.num_tokens for sample in found])),
                    scorer_tokens=k * scored,
                )
                for found in groups.values()
            ],
            seed=seed,
            num_resamples=num_resamples,
        )
        for k in ks or powers_of_two(min(map(len, groups.values())))
    ]


def curve_point(
    k: int, outcomes: Sequence[ProblemVotes], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> VotePoint:
    """One point of a curve, each problem weighing the same.

    The interval is Wilson's where every problem is either right or wrong (right also at 0 and 1),
    else the bootstrap over problems. Raises ValueError without problems.
    """
    if not outcomes:
        raise ValueError("curve_point: no problem; expected at least one")
    values = [outcome.accuracy for outcome in outcomes]
    if all(value in (0.0, 1.0) for value in values):
        interval = wilson(round(sum(values)), len(values))
    else:
        interval = bootstrap_ci(values, num_resamples=num_resamples, seed=seed)
    return VotePoint(
        k=k,
        tokens_per_problem=float(np.mean([outcome.num_tokens for outcome in outcomes])),
        accuracy=float(np.mean(values)),
        ci95=interval,
        n=len(outcomes),
        scorer_tokens_per_problem=float(np.mean([one.scorer_tokens for one in outcomes])),
        unresolved_rate=float(np.mean([not outcome.resolved for outcome in outcomes])),
    )


def vote(samples: Sequence[Sample], *, weighted: bool = False) -> float:
    """Share of the winning answers of all samples that are right; 0 where nobody votes."""
    if not samples:
        return 0.0
    method: Method = "weighted" if weighted else "majority"
    return _chance(samples, method, len(samples), seed=0)


def best_of_n(samples: Sequence[Sample], *, k: int) -> float:
    """Chance that the best-scored of k samples, drawn without replacement, is correct.

    Exact over all subsets: with a samples scored above s and m scored s, of which c are correct,
    the best is one of the m with chance [C(n - a, k) - C(n - a - m, k)] / C(n, k), each of them as
    often as another, so a tie is split evenly. Raises ValueError where a score is missing or k is
    not in [1, n].
    """
    if not 1 <= k <= len(samples):
        raise ValueError(f"best-of-n: k = {k} of {len(samples)} samples; expected 1 to that")
    levels: dict[float, list[bool]] = {}
    for sample, score in zip(samples, _scores(samples), strict=True):
        levels.setdefault(score, []).append(sample.correct)
    left, chance = len(samples), 0.0
    for score in sorted(levels, reverse=True):
        tied = levels[score]
        subsets = math.comb(left, k) - math.comb(left - len(tied), k)
        chance += subsets * sum(tied) / len(tied)
        left -= len(tied)
    return chance / math.comb(len(samples), k)


def _chance(samples: Sequence[Sample], method: Method, k: int, *, seed: int) -> float:
    if method == "best-of-n":
        return best_of_n(samples, k=k)
    weights = _scores(samples) if method == "weighted" else None
    if weights and min(weights) < 0:
        raise ValueError(
            f"weighted majority: a score of {min(weights)}; expected weights of 0 or more. "
            "Have the scorer give chances, or use best-of-n."
        )
    return maj_at_k(
        [sample.answer for sample in samples],
        k=k,
        correct=[sample.correct for sample in samples],
        weights=weights,
        seed=seed,
    )


def _scores(samples: Sequence[Sample]) -> list[float]:
    scores = [sample.score for sample in samples if sample.score is not None]
    if len(scores) < len(samples):
        raise ValueError(
            f"{len(samples) - len(scores)} of {len(samples)} samples have no score; expected one "
            "each. Name a scorer: evaluate.parallel.scorer"
        )
    return scores
