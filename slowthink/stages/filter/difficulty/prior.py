"""The pool's distribution of pass rates, and what it says of decisions taken early.

Empirical Bayes: a distribution is fitted to some problems, drawn by seed and followed to their
exact decision; with it the chance that all attempts would decide otherwise has a closed form, and
so has the error of a rule over the whole pool.

    keep_probability(Band(32, min_correct=1, max_correct=3), Beta(1, 1), Tally()).keep == 3 / 33
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slowthink.stages.filter.difficulty.band import Band, BandDecision, Tally, decided

Floats = npt.NDArray[np.float64]

NUM_PILOT = 200
"""Problems that the distribution is fitted to; a smaller pool is decided exactly."""
MARGIN = 0.8
"""Share of the error allowed that the fitted distribution may foresee; the rest is for its own
error."""
NUM_RATES = 81
NUM_ITERATIONS = 30
"""Of the fit; more would follow the noise of so few problems."""
RATES = np.sin(np.linspace(0, np.pi / 2, NUM_RATES)) ** 2
"""Pass rates that a fitted distribution is made of: from 0 to 1, close to each other at the ends.
"""


@dataclass(frozen=True, slots=True)
class Beta:
    """A Beta distribution of pass rates: for estimates before anything is known."""

    alpha: float = 1.0
    beta: float = 1.0

    def share_right(self, tally: Tally) -> float:
        """Chance that the next attempt is right, after those seen: the posterior's mean."""
        return (self.alpha + tally.num_correct) / (self.alpha + self.beta + tally.num_counted)

    def endings(self, tally: Tally, left: int) -> Sequence[float]:
        """Chances that 0, 1, … of the `left` next attempts are right: beta-binomial."""
        alpha = self.alpha + tally.num_correct
        beta = self.beta + tally.num_counted - tally.num_correct
        logs = [
            _log_beta(alpha + right, beta + left - right) - _log_beta(alpha, beta)
            for right in range(left + 1)
        ]
        return [math.comb(left, right) * math.exp(log) for right, log in enumerate(logs)]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A distribution on RATES."""

    weights: tuple[float, ...]

    def share_right(self, tally: Tally) -> float:
        """As Beta's."""
        return float(self._posterior(tally) @ RATES)

    def endings(self, tally: Tally, left: int) -> Sequence[float]:
        """As Beta's; a mixture of binomials."""
        chances: list[float] = (_binomials(left) @ self._posterior(tally)).tolist()
        return chances

    def _posterior(self, tally: Tally) -> Floats:
        found = np.asarray(self.weights) * _likelihood(tally.num_correct, tally.num_counted)
        total = found.sum()
        return found / total if total else np.full(NUM_RATES, 1 / NUM_RATES)


Distribution = Beta | Fitted
"""Of pass rates."""


@functools.lru_cache(maxsize=4096)
def _likelihood(right: int, counted: int) -> Floats:
    """Of each of RATES."""
    return np.asarray(RATES**right * (1 - RATES) ** (counted - right))


@functools.lru_cache(maxsize=256)
def _binomials(num: int) -> Floats:
    """Row: how many of `num` are right; column: the rate."""
    return np.array([math.comb(num, right) * _likelihood(right, num) for right in range(num + 1)])


def fit(counts: Mapping[tuple[int, int], int]) -> Fitted:
    """The distribution of problems by (right, counted) attempts, whatever its form.

    Nonparametric maximum likelihood (Kiefer and Wolfowitz 1956) by expectation-maximisation from
    equal weights. When problems stopped depends on what was seen alone, so it does not matter here.
    """
    found = sorted((key, number) for key, number in counts.items() if key[1])
    weights = np.full(NUM_RATES, 1 / NUM_RATES)
    if not found:
        return Fitted(tuple(weights.tolist()))
    likelihoods = np.array([_likelihood(*key) for key, _ in found])
    numbers = np.array([number for _, number in found], dtype=float)
    for _ in range(NUM_ITERATIONS):
        shares = likelihoods * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = numbers @ shares / numbers.sum()
    return Fitted(tuple(weights.tolist()))


@dataclass(frozen=True, slots=True)
class Chances:
    """Of the decisions that all attempts would give."""

    keep: float
    too_often: float
    too_rarely: float


@functools.lru_cache(maxsize=100_000)
def keep_probability(band: Band, prior: Distribution, tally: Tally) -> Chances:
    """Chances of each decision of all attempts, given those seen; the rest is taken to count."""
    left = band.num_attempts - tally.num_drawn
    found = dict.fromkeys(BandDecision, 0.0)
    for right, chance in enumerate(prior.endings(tally, left)):
        outcome = band.outcome(tally.num_correct + right, tally.num_counted + left)
        found[outcome] += chance
    return Chances(
        found[BandDecision.KEEP], found[BandDecision.TOO_OFTEN], found[BandDecision.TOO_RARELY]
    )


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a rule comes to under a distribution of pass rates, exactly."""

    num_drawn: float
    """Attempts a problem, in the mean."""
    error: float
    """Share of decisions that differ from those of all attempts."""


def foresee(band: Band, prior: Distribution, *, threshold: float = 0.0) -> Foreseen:
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
            share = prior.share_right(Tally(right, drawn, drawn))
            for more, part in ((1, share), (0, 1 - share)):
                key = (drawn + 1, right + more)
                reached[key] = reached.get(key, 0.0) + chance * part
    return Foreseen(num_drawn, error)


def _risk(band: Band, prior: Distribution, tally: Tally) -> float:
    """Chance that the likelier decision differs from that of all attempts; 0 where it cannot."""
    if decided(band, tally) is not None:
        return 0.0
    keep = keep_probability(band, prior, tally).keep
    return max(min(keep, 1 - keep), 1e-300)


@functools.lru_cache(maxsize=64)
def threshold(band: Band, prior: Distribution, *, max_error: float) -> float:
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
