"""The pool's distribution of pass rates, and what it says of decisions taken early.

Empirical Bayes: a Beta distribution is fitted by maximum likelihood to some problems, drawn by seed
and followed to their exact decision; with it the chance that all attempts would decide otherwise
has a closed form, and so has the error of a rule over the whole pool.

    fit_beta({(0, 4): 320, (1, 4): 90, (4, 4): 410}) is Prior(alpha=0.21, beta=0.18)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slowthink.filter.difficulty.band import Band, Outcome, Tally, decided

NUM_PILOT = 200
"""Problems that the distribution is fitted to; a smaller pool is decided exactly."""
MARGIN = 0.8
"""Share of the error allowed that the fitted distribution may foresee; the rest is for its own
error."""
_MEANS = tuple(np.linspace(0.005, 0.995, 199).tolist())
_SIZES = tuple(np.geomspace(0.05, 200.0, 100).tolist())


@dataclass(frozen=True, slots=True)
class Prior:
    """A Beta distribution of pass rates."""

    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class Chances:
    """Of the decisions that all attempts would give."""

    keep: float
    too_often: float
    too_rarely: float


def fit_beta(counts: Mapping[tuple[int, int], int]) -> Prior:
    """The likeliest Beta distribution, of problems by (right, counted) attempts.

    On a grid of means and sizes (alpha + beta), so that the same counts give the same prior
    everywhere. When problems stopped depends on what was seen alone, so it does not matter here.
    Beta(1, 1) without counts.
    """
    counts = {key: number for key, number in counts.items() if key[1]}
    if not counts:
        return Prior()
    mean, size = np.meshgrid(_MEANS, _SIZES, indexing="ij")
    alpha, beta = mean * size, (1 - mean) * size
    likelihood = np.zeros_like(alpha)
    for (right, counted), number in sorted(counts.items()):
        for index in range(counted):
            likelihood -= number * np.log(size + index)
        for index in range(right):
            likelihood += number * np.log(alpha + index)
        for index in range(counted - right):
            likelihood += number * np.log(beta + index)
    best = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    return Prior(float(alpha[best]), float(beta[best]))


@functools.lru_cache(maxsize=100_000)
def keep_probability(band: Band, prior: Prior, tally: Tally) -> Chances:
    """Chances of each decision of all attempts, given those seen; the rest is taken to count."""
    left = band.num_attempts - tally.num_drawn
    alpha = prior.alpha + tally.num_correct
    beta = prior.beta + tally.num_counted - tally.num_correct
    found = dict.fromkeys(Outcome, 0.0)
    for right in range(left + 1):
        outcome = band.outcome(tally.num_correct + right, tally.num_counted + left)
        found[outcome] += _beta_binomial(right, left, alpha, beta)
    return Chances(found[Outcome.KEEP], found[Outcome.TOO_OFTEN], found[Outcome.TOO_RARELY])


def _beta_binomial(right: int, num: int, alpha: float, beta: float) -> float:
    logs = _log_beta(alpha + right, beta + num - right) - _log_beta(alpha, beta)
    return math.comb(num, right) * math.exp(logs)


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a rule comes to under a distribution of pass rates, exactly."""

    num_drawn: float
    """Attempts a problem, in the mean."""
    error: float
    """Share of decisions that differ from those of all attempts."""


def foresee(band: Band, prior: Prior, *, threshold: float = 0.0) -> Foreseen:
    """Attempts and error where they are drawn one at a time.

    With threshold 0 it is the exact rule's: no rule that is always right draws fewer, since one
    that stops earlier leaves a way for the rest to change its decision. Sums over all (drawn,
    right) that can be reached, from the first attempt on.
    """
    reached = {(0, 0): 1.0}
    num_drawn = error = 0.0
    for drawn in range(band.num_attempts + 1):
        for right in range(drawn + 1):
            chance = reached.pop((drawn, right), 0.0)
            if chance == 0.0:
                continue
            risk = _risk(band, prior, Tally(right, drawn, drawn))
            if risk == 0.0 or (drawn and risk <= threshold):
                num_drawn += chance * drawn
                error += chance * risk
                continue
            share = (prior.alpha + right) / (prior.alpha + prior.beta + drawn)
            for more, part in ((1, share), (0, 1 - share)):
                key = (drawn + 1, right + more)
                reached[key] = reached.get(key, 0.0) + chance * part
    return Foreseen(num_drawn, error)


def _risk(band: Band, prior: Prior, tally: Tally) -> float:
    """Chance that the likelier decision differs from that of all attempts; 0 where it cannot."""
    if decided(band, tally) is not None:
        return 0.0
    keep = keep_probability(band, prior, tally).keep
    return max(min(keep, 1 - keep), 1e-300)


@functools.lru_cache(maxsize=64)
def threshold(band: Band, prior: Prior, *, max_error: float) -> float:
    """The largest risk of a single decision with which the pool's error stays under
    MARGIN x max_error."""
    total = band.num_attempts
    risks = {
        _risk(band, prior, Tally(right, drawn, drawn))
        for drawn in range(1, total) for right in range(drawn + 1)
    }  # fmt: skip
    for risk in sorted(risks, reverse=True):
        found = foresee(band, prior, threshold=risk)
        if found.error <= MARGIN * max_error:
            return risk
    return 0.0
