"""Numbers with their uncertainty: pass@k, maj@k, intervals, paired tests, s1's three measures.

Everything is a pure function of its arguments; what draws at random takes a seed and has a fixed
one by default. Suffixes of arrays: S subsets, K samples of one, N samples, A different answers,
P points of a curve, Q problems. One real record: `wilson(55, num_samples=100)` is
`Interval(low=0.452, high=0.644)`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 10_000
"""As many as s1 draws for its confidence intervals (arXiv 2501.19393, section 5.1)."""
MAX_SUBSETS = 2_000
"""maj@k goes over all subsets up to this many, and over as many fixed draws above it."""
_BLOCK = 2_000_000
"""Numbers drawn at a time, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Both ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of b - a over the same problems."""

    difference: float
    ci95: Interval
    p_value: float
    """Two-sided, of a difference of zero."""


# --- problems and their answers -------------------------------------------------------------------


def problem_scores(answers: Iterable[tuple[str, float, bool]]) -> dict[str, float]:
    """A problem's share of right answers, by problem in order of id.

    `answers` are (problem, temperature, right); of several temperatures each weighs the same,
    whatever its number of samples.
    """
    found: dict[str, dict[float, list[bool]]] = {}
    for problem, temperature, right in answers:
        found.setdefault(problem, {}).setdefault(temperature, []).append(right)
    return {
        problem: float(np.mean([np.mean(samples) for samples in by_temperature.values()]))
        for problem, by_temperature in sorted(found.items())
    }


def accuracy_ci(
    scores: Sequence[float], *, num_answers: int, num_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """95 % interval of the mean of `problem_scores`.

    Wilson's with one answer a problem, and where all are right or all are wrong (a bootstrap would
    be sure of that for all problems there are); else the bootstrap over problems. [0, 1] without
    problems.
    """
    if not len(scores):
        return Interval(0.0, 1.0)
    if num_answers == len(scores) or set(scores) in ({0.0}, {1.0}):
        return wilson(round(sum(scores)), len(scores))
    return bootstrap_ci([[value] for value in scores], num_resamples=num_resamples, seed=seed)


# --- one problem, several samples -----------------------------------------------------------------


def pass_at_k(num_correct: int, *, num_samples: int, k: int) -> float:
    """Chance that at least one of k samples, drawn without replacement, is correct; in [0, 1].

    1 - C(n - c, k) / C(n, k), the unbiased estimate of Chen et al. 2021 (arXiv:2107.03374), eq. 1.
    Raises ValueError where k > num_samples or num_correct is not in [0, num_samples].
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

    `answers` holds one key a sample, equal for equivalent answers; None (no answer) has no vote.
    With `weights` the largest sum of weights wins. A tie is split evenly: with two of three tied
    answers correct it counts 2/3. Over all subsets where there are at most 2,000, else over 2,000
    seeded draws. Raises ValueError where k > len(answers).
    """
    _check_subset(k, num_samples=len(answers))
    names = [name for name in dict.fromkeys(answers) if name is not None]
    if not names:
        return 0.0
    right_A = np.array(
        [any(c for a, c in zip(answers, correct, strict=True) if a == n) for n in names]
    )
    weight_N = np.ones(len(answers)) if weights is None else np.asarray(weights, dtype=np.float64)
    votes_NA = np.array([[float(a == n) for n in names] for a in answers]) * weight_N[:, None]
    subsets_SK = _subsets(len(answers), k=k, seed=seed)
    return float(_shares(votes_NA[subsets_SK].sum(axis=1), right_A).mean())


def _shares(votes_SA: Floats, right_A: npt.NDArray[np.bool_]) -> Floats:
    """Share of the winning answers of each vote that are right; 0 where nobody voted."""
    best_S = votes_SA.max(axis=1)
    wins_SA = np.isclose(votes_SA, best_S[:, None]) & (best_S > 0)[:, None]
    shares: Floats = (wins_SA & right_A).sum(axis=1) / np.maximum(wins_SA.sum(axis=1), 1)
    return shares


def _check_subset(k: int, *, num_samples: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"k = {k} of {num_samples} samples; expected 1 <= k <= {num_samples}")


def _subsets(num: int, *, k: int, seed: int) -> npt.NDArray[np.intp]:
    """Rows of k different indices: all of them, or a fixed draw of 2,000."""
    if math.comb(num, k) <= MAX_SUBSETS:
        return np.array(list(itertools.combinations(range(num), k)), dtype=np.intp)
    random = np.random.default_rng([seed, num, k])
    return random.random((MAX_SUBSETS, num)).argpartition(k - 1, axis=1)[:, :k]


def coverage(num_correct: Sequence[int]) -> float:
    """Share of problems with at least one correct sample; NaN without problems."""
    return float(np.mean([count > 0 for count in num_correct])) if num_correct else math.nan


# --- intervals ------------------------------------------------------------------------------------


def wilson(num_correct: int, num_samples: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share; [0, 1] where there are no samples."""
    if num_samples == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, square = num_correct / num_samples, z * z / num_samples
    centre = (share + square / 2) / (1 + square)
    half = (
        z / (1 + square) * math.sqrt(share * (1 - share) / num_samples + square / (4 * num_samples))
    )
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def bootstrap_ci(
    values: Sequence[Sequence[float]] | Mapping[Any, Sequence[float]],
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean over problems, problems being drawn anew and not samples.

    `values` holds one group a problem, or a mapping from problem to group; a problem's value is the
    mean of its group, so each problem weighs the same. NaN ends without problems.
    """
    groups = list(values.values()) if isinstance(values, Mapping) else list(values)
    means = np.array([np.mean(group) for group in groups if len(group)], dtype=np.float64)
    if not len(means):
        return Interval(math.nan, math.nan)
    return _percentiles(
        _resampled_means(means, num=num_resamples, seed=seed), confidence=confidence
    )


def macro_mean_ci(
    sets: Sequence[Sequence[float]],
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean of several sets' means, each set weighing the same.

    One value a problem; problems are drawn anew within their set. NaN ends without a set, or with
    an empty one.
    """
    if not sets or not all(len(values) for values in sets):
        return Interval(math.nan, math.nan)
    draws = [
        _resampled_means(np.asarray(values, dtype=np.float64), num=num_resamples, seed=seed + i)
        for i, values in enumerate(sets)
    ]
    return _percentiles(np.mean(draws, axis=0), confidence=confidence)


def _resampled_means(values: Floats, *, num: int, seed: int) -> Floats:
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(values))
    blocks = []
    for start in range(0, num, rows):
        picks = random.integers(len(values), size=(min(rows, num - start), len(values)))
        blocks.append(values[picks].mean(axis=1))
    return np.concatenate(blocks)


def _percentiles(draws: Floats, *, confidence: float) -> Interval:
    low, high = np.quantile(draws, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(low), float(high))


# --- two arms on the same problems ----------------------------------------------------------------


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Mean of b - a with its 95 % interval and two-sided p, problems being drawn anew in pairs.

    `a` and `b` hold one mean a problem, in the same order. p is the share of resampled
    differences that lie as far from the observed one as zero does: a difference of zero gives 1.
    Raises ValueError where the lengths differ or nothing is given.
    """
    differences = _differences(a, b)
    draws = _resampled_means(differences, num=num_resamples, seed=seed)
    mean = float(differences.mean())
    beyond = np.abs(draws - mean) >= abs(mean) - 1e-12
    p_value = (float(beyond.sum()) + 1) / (num_resamples + 1)
    return PairedDifference(mean, _percentiles(draws, confidence=0.95), min(1.0, p_value))


def paired_figures(
    a: Mapping[str, float],
    b: Mapping[str, float],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any] | None:
    """All that is said of b against a on the problems that both have; None where there is none.

    `a` and `b` are `problem_scores`. The exact test is for small sets.
    """
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    values_a, values_b = [a[p] for p in shared], [b[p] for p in shared]
    paired = paired_bootstrap(values_a, values_b, num_resamples=num_resamples, seed=seed)
    detectable = minimal_detectable_difference(values_a, values_b)
    return {
        "n": len(shared),
        "difference": paired.difference,
        "ci95": [paired.ci95.low, paired.ci95.high],
        "p_bootstrap": paired.p_value,
        "p_exact": sign_test(values_a, values_b),
        "minimal_detectable_difference": None if math.isnan(detectable) else detectable,
    }


def sign_test(a: Sequence[float], b: Sequence[float]) -> float:
    """Exact two-sided p of "b wins as often as a", ties left out; McNemar's test for 0/1 values."""
    differences = _differences(a, b)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    num = wins + losses
    tail = sum(math.comb(num, i) for i in range(min(wins, losses) + 1))
    return float(min(1.0, 2 * tail / 2**num))


def minimal_detectable_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    power: float = 0.8,
    significance: float = 0.05,
) -> float:
    """The smallest true difference that a paired test on as many problems finds with `power`.

    (z_{1-s/2} + z_power) times the standard error of the mean difference; NaN below two problems.
    """
    differences = _differences(a, b)
    if len(differences) < 2:
        return math.nan
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    normal: NormalDist = NormalDist()
    return float((normal.inv_cdf(1 - significance / 2) + normal.inv_cdf(power)) * error)


def _differences(a: Sequence[float], b: Sequence[float]) -> Floats:
    if len(a) != len(b) or not len(a):
        raise ValueError(
            f"paired test: {len(a)} and {len(b)} problems; expected the same problems, at least one"
        )
    return np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)


# --- LIMO's hypothesis ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Elicitation:
    """How much of what tuning gained the base model had in it (see `elicitation`)."""

    base_pass_at_k: float
    tuned_pass_at_1: float
    num_gains: int
    """Problems that the tuned model solves more often."""
    gain: float
    """Mean over problems of what the tuned model solves more often; losses count as 0."""
    within_coverage: float
    """Share of that gain on problems that the base solves within k tries; NaN without a gain."""
    ci95: Interval
    """Of `within_coverage`."""


def elicitation(
    num_correct: Sequence[int],
    num_samples: Sequence[int],
    tuned: Sequence[float],
    *,
    k: int,
    num_resamples: int = 2_000,
    seed: int = 0,
) -> Elicitation:
    """LIMO's hypothesis as a measure: tuning brings out what the base model can do already.

    `num_correct` of `num_samples` are the base's, `tuned` is the tuned model's mean, one a problem
    in the same order. A problem's gain counts as within the base's coverage with the base's
    pass@k there: with k = num_samples that is 1 where any sample was right, else 0. (LIMO, arXiv
    2502.03387, section 1, states the hypothesis and has no measure.) Raises ValueError where the
    lengths differ, nothing is given, or k > num_samples.
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
    random = np.random.default_rng(seed)
    picks = random.integers(len(gains_Q), size=(num_resamples, len(gains_Q)))
    totals = gains_Q[picks].sum(axis=1)
    shares = (gains_Q * covered_Q)[picks].sum(axis=1)[totals > 0] / totals[totals > 0]
    total = float(gains_Q.sum())
    return Elicitation(
        base_pass_at_k=float(covered_Q.mean()),
        tuned_pass_at_1=float(np.mean(tuned)),
        num_gains=int((gains_Q > 0).sum()),
        gain=float(gains_Q.mean()),
        within_coverage=float((gains_Q * covered_Q).sum()) / total if total else math.nan,
        ci95=_percentiles(shares, confidence=0.95) if len(shares) else Interval(math.nan, math.nan),
    )


# --- s1's measures (arXiv 2501.19393, equations 1 to 3) -------------------------------------------


def control(
    num_tokens: Sequence[float], *, high: float | Sequence[float], low: float = 0.0
) -> float:
    """Share of runs (or samples) with thinking tokens within the limits; equation 1, in [0, 1].

    `high` is one limit for all or one for each.
    """
    if not len(num_tokens):
        return math.nan
    tokens = np.asarray(num_tokens, dtype=np.float64)
    return float(((tokens >= low) & (tokens <= np.asarray(high))).mean())


def scaling(points: Sequence[tuple[float, float]], *, per: str = "token") -> float:
    """Mean slope over all pairs of (thinking tokens, accuracy) points; equation 2.

    `per="token"` is the equation as printed. `per="doubling"` takes log2 of the tokens: the numbers
    of s1's Table 3. Pairs with equal tokens have no slope and are left out; NaN without a pair.
    """
    if per not in ("token", "doubling"):
        raise ValueError(f"scaling: per = {per!r}; expected 'token' or 'doubling'")
    scale: Callable[[float], float] = math.log2 if per == "doubling" else float
    slopes = [
        (f_b - f_a) / (scale(b) - scale(a))
        for (a, f_a), (b, f_b) in itertools.combinations(points, 2)
        if a != b
    ]
    return sum(slopes) / len(slopes) if slopes else math.nan


def performance(points: Sequence[tuple[float, float]]) -> float:
    """The best accuracy of all points; equation 3. NaN without points."""
    return max((accuracy for _, accuracy in points), default=math.nan)


def scaling_ci(
    tokens: npt.ArrayLike,
    accuracy: npt.ArrayLike,
    *,
    per: str = "doubling",
    num_resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """95 % interval of `scaling`, problems being drawn anew.

    Both arrays have shape (points, problems): a problem's mean thinking tokens and accuracy at each
    point of the curve.
    """
    tokens_PQ, accuracy_PQ = np.asarray(tokens, float), np.asarray(accuracy, float)
    draws = [
        scaling(
            [
                (float(t), float(f))
                for t, f in zip(
                    tokens_PQ[:, picks].mean(1), accuracy_PQ[:, picks].mean(1), strict=True
                )
            ],
            per=per,
        )
        for picks in _picks(tokens_PQ.shape[1], num=num_resamples, seed=seed)
    ]
    finite = np.array([draw for draw in draws if not math.isnan(draw)])
    return _percentiles(finite, confidence=0.95) if len(finite) else Interval(math.nan, math.nan)


def performance_ci(
    accuracy: npt.ArrayLike, *, num_resamples: int = 2_000, seed: int = 0
) -> Interval:
    """95 % interval of `performance`, problems being drawn anew and the best point chosen anew.

    `accuracy` has shape (points, problems).
    """
    accuracy_PQ = np.asarray(accuracy, float)
    if not accuracy_PQ.size:
        return Interval(math.nan, math.nan)
    picks = _picks(accuracy_PQ.shape[1], num=num_resamples, seed=seed)
    best = np.array([accuracy_PQ[:, one].mean(1).max() for one in picks])
    return _percentiles(best, confidence=0.95)


def _picks(num_problems: int, *, num: int, seed: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(seed)
    return random.integers(num_problems, size=(num, num_problems))
