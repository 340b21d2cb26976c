"""Estimates with their uncertainty: pass@k, maj@k, confidence intervals, paired tests.

Pure functions of numbers; those that resample take a seed with a fixed default. Suffixes of arrays:
S subsets, K samples of a subset, N samples, A distinct answers, P points of a curve, Q problems.
Example: `wilson(55, num_samples=100)` is `Interval(low=0.452, high=0.644)`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 10_000
"""As in s1's confidence intervals (arXiv 2501.19393, section 5.1)."""
MAX_SUBSETS = 2_000
"""maj@k averages over all subsets up to this many; above, over this many random ones (seeded)."""
_BLOCK_VALUES = 2_000_000
"""Values resampled at a time, to bound memory."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float

    @property
    def bounds(self) -> list[float] | None:
        """[low, high], for JSON; None if they are NaN."""
        return None if math.isnan(self.low) else [self.low, self.high]


NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of b - a over the same problems."""

    difference: float
    ci95: Interval
    p_value: float
    """Two-sided, against a difference of zero."""


def none_if_nan(value: float) -> float | None:
    """The value, or None for NaN, which JSON lacks."""
    return None if math.isnan(value) else value


# --- several samples of one problem ---------------------------------------------------------------


def pass_at_k(num_correct: int, *, num_samples: int, k: int) -> float:
    """Chance that at least one of k samples, drawn without replacement, is correct; in [0, 1].

    1 - C(n - c, k) / C(n, k), the unbiased estimate of Chen et al. 2021 (arXiv:2107.03374), eq. 1.
    Raises ValueError if k > num_samples or num_correct is not in [0, num_samples].
    """
    _check_subset(k, num_samples=num_samples)
    if not 0 <= num_correct <= num_samples:
        raise ValueError(
            f"pass_at_k: {num_correct} correct of {num_samples}; expected 0 to {num_samples}"
        )
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def maj_at_k(
    answers: Sequence[Hashable | None],
    *,
    k: int,
    correct: Sequence[bool],
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> float:
    """Chance that the most frequent answer of k samples, drawn without replacement, is correct.

    `answers` has one value per sample, equal for equivalent answers; None (no answer) has no vote.
    With `weights` the largest sum of weights wins. Ties are split evenly: with two of three tied
    answers correct the result is 2/3. Averages over all subsets if there are at most 2,000, else
    over 2,000 random ones (seeded). Raises ValueError if k > len(answers).
    """
    _check_subset(k, num_samples=len(answers))
    distinct = [answer for answer in dict.fromkeys(answers) if answer is not None]
    if not distinct:
        return 0.0
    right = {answer for answer, is_right in zip(answers, correct, strict=True) if is_right}
    correct_A = np.array([answer in right for answer in distinct])
    weight_N = np.ones(len(answers)) if weights is None else np.asarray(weights, dtype=np.float64)
    one_hot_NA = np.array([[float(answer == each) for each in distinct] for answer in answers])
    votes_NA = one_hot_NA * weight_N[:, None]
    subsets_SK = _subsets(len(answers), k=k, seed=seed)
    return float(_correct_shares(votes_NA[subsets_SK].sum(axis=1), correct_A).mean())


def _correct_shares(votes_SA: Floats, correct_A: npt.NDArray[np.bool_]) -> Floats:
    """Share of each vote's winning answers that are correct; 0 if no sample has an answer."""
    best_S = votes_SA.max(axis=1)
    wins_SA = np.isclose(votes_SA, best_S[:, None]) & (best_S > 0)[:, None]
    shares: Floats = (wins_SA & correct_A).sum(axis=1) / np.maximum(wins_SA.sum(axis=1), 1)
    return shares


def _check_subset(k: int, *, num_samples: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"k = {k} of {num_samples} samples; expected 1 <= k <= {num_samples}")


def _subsets(num: int, *, k: int, seed: int) -> npt.NDArray[np.intp]:
    """Rows of k different indices: all combinations, or 2,000 random ones (seeded)."""
    if math.comb(num, k) <= MAX_SUBSETS:
        return np.array(list(itertools.combinations(range(num), k)), dtype=np.intp)
    rng = np.random.default_rng([seed, num, k])
    return rng.random((MAX_SUBSETS, num)).argpartition(k - 1, axis=1)[:, :k]


def powers_of_two(limit: int) -> list[int]:
    """1, 2, 4, … up to the limit, and the limit itself.

    >>> powers_of_two(6)
    [1, 2, 4, 6]
    """
    return sorted({*(2**i for i in range(limit.bit_length())), limit})


# --- intervals ------------------------------------------------------------------------------------


def accuracy_ci(
    scores: Sequence[float], *, num_answers: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """95 % interval of the mean of `scores`, one per problem; `num_answers` over all problems.

    Wilson's with one answer per problem, and if every score is 0 or every score is 1 (a bootstrap
    would give an interval of width 0); else the bootstrap over problems. [0, 1] if empty.
    """
    if not len(scores):
        return Interval(0.0, 1.0)
    if num_answers == len(scores) or set(scores) in ({0.0}, {1.0}):
        return wilson(round(sum(scores)), len(scores))
    return bootstrap_ci(scores, num_resamples=num_resamples, seed=seed)


def wilson(num_correct: int, num_samples: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share; [0, 1] for no samples."""
    if num_samples == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, square = num_correct / num_samples, z * z / num_samples
    centre = (share + square / 2) / (1 + square)
    half_width = (
        z / (1 + square) * math.sqrt(share * (1 - share) / num_samples + square / (4 * num_samples))
    )
    return Interval(max(0.0, centre - half_width), min(1.0, centre + half_width))


def bootstrap_ci(
    values: Sequence[float],
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean of `values`, one per problem. NaN bounds if empty.

    Resamples problems, so average a problem's samples first.
    """
    if not len(values):
        return NO_INTERVAL
    means = resampled_means(np.asarray(values, np.float64), num=num_resamples, seed=seed)
    return percentile_interval(means, confidence=confidence)


def macro_mean_ci(
    sets: Sequence[Sequence[float]], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """95 % percentile interval of the mean of several sets' means, each set with the same weight.

    One value per problem; problems are resampled within their set. NaN bounds if there is no set or
    an empty one.
    """
    if not sets or not all(len(values) for values in sets):
        return NO_INTERVAL
    means = [
        resampled_means(np.asarray(values, np.float64), num=num_resamples, seed=seed + i)
        for i, values in enumerate(sets)
    ]
    return percentile_interval(np.mean(means, axis=0))


def resampled_means(values: Floats, *, num: int, seed: int) -> Floats:
    """Means over problems sampled with replacement: of values of shape (problems,) or (points,
    problems), the means of shape (num,) or (points, num). All points have the same problems."""
    rng = np.random.default_rng(seed)
    num_problems, num_rows = values.shape[-1], max(1, _BLOCK_VALUES // values.size)
    blocks = []
    for start in range(0, num, num_rows):
        indices = rng.integers(num_problems, size=(min(num_rows, num - start), num_problems))
        blocks.append(values[..., indices].mean(axis=-1))
    return np.concatenate(blocks, axis=-1)


def percentile_interval(values: Floats | Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Central interval of the resampled values; NaN bounds if empty."""
    if not len(values):
        return NO_INTERVAL
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(low), float(high))


# --- ranks ----------------------------------------------------------------------------------------


def average_ranks(values: Sequence[float] | Floats) -> Floats:
    """Ranks from 1 (lowest); equal values share the mean of their ranks."""
    array = np.asarray(values, dtype=np.float64)
    _, groups, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[groups]
    return ranks


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation of paired values, in [-1, 1]; NaN if a side has fewer than two values."""
    ranks_a, ranks_b = average_ranks(a), average_ranks(b)
    if len(ranks_a) < 2 or np.ptp(ranks_a) == 0 or np.ptp(ranks_b) == 0:
        return math.nan
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


# --- two arms on the same problems ----------------------------------------------------------------


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> PairedDifference:
    """Mean of b - a with its 95 % interval and two-sided p; resamples pairs.

    `a` and `b` have one mean per problem, in the same order. p is the share of resampled
    differences at least as far from the observed one as zero is: a difference of zero gives 1.
    Raises ValueError if the lengths differ or are 0.
    """
    differences = _differences(a, b)
    resampled = resampled_means(differences, num=num_resamples, seed=seed)
    mean = float(differences.mean())
    as_far = np.abs(resampled - mean) >= abs(mean) - 1e-12
    p_value = (float(as_far.sum()) + 1) / (num_resamples + 1)
    return PairedDifference(mean, percentile_interval(resampled), min(1.0, p_value))


def sign_test(a: Sequence[float], b: Sequence[float]) -> float:
    """Exact two-sided p of "b wins as often as a" without ties; McNemar's test for 0/1 values."""
    differences = _differences(a, b)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    num_untied = wins + losses
    tail = sum(math.comb(num_untied, i) for i in range(min(wins, losses) + 1))
    return float(min(1.0, 2 * tail / 2**num_untied))


def minimal_detectable_difference(
    a: Sequence[float], b: Sequence[float], *, power: float = 0.8, significance: float = 0.05
) -> float:
    """The smallest true difference that a paired test on as many problems detects with `power`.

    (z_{1-s/2} + z_power) times the standard error of the mean difference; NaN below two problems.
    """
    differences = _differences(a, b)
    if len(differences) < 2:
        return math.nan
    standard_error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    normal: NormalDist = NormalDist()
    return float((normal.inv_cdf(1 - significance / 2) + normal.inv_cdf(power)) * standard_error)


def _differences(a: Sequence[float], b: Sequence[float]) -> Floats:
    """b - a for each problem. Raises ValueError if the lengths differ or are 0."""
    if len(a) != len(b) or not len(a):
        raise ValueError(
            f"paired test: {len(a)} and {len(b)} problems; expected the same problems, at least one"
        )
    return np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
