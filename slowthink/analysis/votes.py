"""One answer from many samples of a problem: majority, weighted majority, best-of-n.

Pure functions of graded samples. One real record: `Sample(answer=0, correct=True,
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
METHODS: tuple[Method, ...] = ("majority", "weighted", "best-of-n")


@dataclass(frozen=True, slots=True)
class Sample:
    """One graded sample of a problem."""

    answer: Hashable | None
    """Equal for equivalent answers to a problem. None: no answer, so no vote."""
    correct: bool
    num_tokens: int
    """Thinking, closing and answer tokens."""
    score: float | None = None
    """The scorer's score; None without a scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemVotes:
    """Result of voting on one problem."""

    accuracy: float
    """Probability of the right answer, in [0, 1]."""
    num_tokens: float
    scorer_tokens: float = 0.0
    resolved: bool = True
    """False: no answer was accepted; counts as wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VotePoint:
    """Accuracy over problems at one amount of computation: a point of a curve."""

    k: int
    """Number of samples, width or limit."""
    tokens_per_problem: float
    """Tokens of all chains of a problem: thinking, closings and answers, without prompts."""
    accuracy: float
    ci95: Interval
    """Over problems."""
    n: int
    """Number of problems."""
    scorer_tokens_per_problem: float = 0.0
    """Tokens that the scorer read and generated."""
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
    """Accuracy of voting with k samples per problem, for each k (None: 1, 2, 4, … and all).

    A problem's accuracy is the mean over subsets of its samples: all subsets, or for votes a fixed
    2,000 (see `statistics.maj_at_k`); ties are split. Its tokens are the mean of k samples. Raises
    ValueError if a problem has fewer than k samples, if a score is missing, or for the weighted
    majority if a score is negative.
    """
    problems = [samples[problem] for problem in sorted(samples) if samples[problem]]
    if not problems:
        return []
    scorer_tokens = 0.0 if method == "majority" else scorer_tokens_per_sample
    return [
        curve_point(
            k,
            [
                ProblemVotes(
                    accuracy=_vote_accuracy(problem_samples, method, k, seed=seed),
                    num_tokens=k
                    * float(np.mean([sample.num_tokens for sample in problem_samples])),
                    scorer_tokens=k * scorer_tokens,
                )
                for problem_samples in problems
            ],
            seed=seed,
            num_resamples=num_resamples,
        )
        for k in ks or powers_of_two(min(map(len, problems)))
    ]


def curve_point(
    k: int, votes: Sequence[ProblemVotes], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> VotePoint:
    """Return one point of a curve: means over problems with equal weight.

    The interval is Wilson's if every problem's accuracy is 0 or 1 (a bootstrap of equal values has
    width 0), otherwise a bootstrap over problems. Raises ValueError for no problems.
    """
    if not votes:
        raise ValueError("curve_point: no problem; expected at least one")
    values = [vote.accuracy for vote in votes]
    if all(value in (0.0, 1.0) for value in values):
        interval = wilson(round(sum(values)), len(values))
    else:
        interval = bootstrap_ci(values, num_resamples=num_resamples, seed=seed)
    return VotePoint(
        k=k,
        tokens_per_problem=float(np.mean([vote.num_tokens for vote in votes])),
        accuracy=float(np.mean(values)),
        ci95=interval,
        n=len(votes),
        scorer_tokens_per_problem=float(np.mean([vote.scorer_tokens for vote in votes])),
        unresolved_rate=float(np.mean([not vote.resolved for vote in votes])),
    )


def vote(samples: Sequence[Sample], *, weighted: bool = False) -> float:
    """Accuracy of the vote over all samples: 1, 0, or a share for ties; 0 if there is no answer."""
    if not samples:
        return 0.0
    method: Method = "weighted" if weighted else "majority"
    return _vote_accuracy(samples, method, len(samples), seed=0)


def best_of_n(samples: Sequence[Sample], *, k: int) -> float:
    """Probability that the best-scored of k samples, drawn without replacement, is correct.

    Exact over all subsets: with a samples scored above s and m scored s, of which c are correct,
    the best is one of the m with probability [C(n - a, k) - C(n - a - m, k)] / C(n, k), each of
    them equally often, so a tie is split evenly. Raises ValueError if a score is missing or k is
    not in [1, n].
    """
    if not 1 <= k <= len(samples):
        raise ValueError(
            f"best-of-n: k = {k} of {len(samples)} samples; expected 1 to {len(samples)}"
        )
    correct_by_score: dict[float, list[bool]] = {}
    for sample, score in zip(samples, _require_scores(samples), strict=True):
        correct_by_score.setdefault(score, []).append(sample.correct)
    remaining, correct_subsets = len(samples), 0.0
    for score in sorted(correct_by_score, reverse=True):
        tied = correct_by_score[score]
        subsets = math.comb(remaining, k) - math.comb(remaining - len(tied), k)
        correct_subsets += subsets * sum(tied) / len(tied)
        remaining -= len(tied)
    return correct_subsets / math.comb(len(samples), k)


def _vote_accuracy(samples: Sequence[Sample], method: Method, k: int, *, seed: int) -> float:
    if method == "best-of-n":
        return best_of_n(samples, k=k)
    weights = _require_scores(samples) if method == "weighted" else None
    if weights and min(weights) < 0:
        raise ValueError(
            f"weighted majority: a score of {min(weights)}; expected weights of 0 or more. "
            "Use a scorer that gives probabilities, or best-of-n."
        )
    return maj_at_k(
        [sample.answer for sample in samples],
        k=k,
        correct=[sample.correct for sample in samples],
        weights=weights,
        seed=seed,
    )


def _require_scores(samples: Sequence[Sample]) -> list[float]:
    scores = [sample.score for sample in samples if sample.score is not None]
    if len(scores) < len(samples):
        raise ValueError(
            f"{len(samples) - len(scores)} of {len(samples)} samples have no score; expected a "
            "score for each. Name a scorer: evaluate.parallel.scorer"
        )
    return scores
