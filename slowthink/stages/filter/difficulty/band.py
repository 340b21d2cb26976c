"""The band of pass rates that a problem must be in, and when a decision can no longer change.

After 4 correct of 4 attempts, Band(num_attempts=32, max_correct=3) is certain to give TOO_OFTEN.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

from slowthink.recipe import DifficultyStep
from slowthink.sampling.attempts import Tally


class BandDecision(enum.Enum):
    """The decision on a problem."""

    KEEP = "keep"
    TOO_OFTEN = "solved too often"
    TOO_RARELY = "solved too rarely"
    NOT_GRADABLE = "no attempt can be graded"


@dataclass(frozen=True, slots=True)
class Band:
    """Bounds on the share or the number of correct attempts, both inclusive."""

    num_attempts: int
    min_pass_rate: float = 0.0
    max_pass_rate: float = 1.0
    min_correct: int | None = None
    """If given, `min_pass_rate` is ignored."""
    max_correct: int | None = None
    """If given, `max_pass_rate` is ignored."""

    @classmethod
    def from_step(cls, step: DifficultyStep) -> Band:
        """The band of a step's settings."""
        return cls(
            num_attempts=step.num_attempts, min_pass_rate=step.min_pass_rate,
            max_pass_rate=step.max_pass_rate, min_correct=step.min_correct,
            max_correct=step.max_correct,
        )  # fmt: skip

    def decide(self, num_correct: int, num_counted: int) -> BandDecision:
        """The decision on a problem after its last attempt; the arguments are as in Tally."""
        if num_counted == 0:
            return BandDecision.NOT_GRADABLE
        rate = num_correct / num_counted
        most, least = self.max_correct, self.min_correct
        if rate > self.max_pass_rate if most is None else num_correct > most:
            return BandDecision.TOO_OFTEN
        if rate < self.min_pass_rate if least is None else num_correct < least:
            return BandDecision.TOO_RARELY
        return BandDecision.KEEP


def certain_decision(band: Band, tally: Tally) -> BandDecision | None:
    """The decision after all attempts if the remaining ones cannot change it, else None.

    Compares the two extremes, all remaining attempts correct and none correct. A remaining attempt
    that does not count gives a decision between them. None while no attempt counts, since possibly
    none of the others will.
    """
    num_left = band.num_attempts - tally.num_seen
    if num_left == 0:
        return band.decide(tally.num_correct, tally.num_counted)
    if tally.num_counted == 0:
        return None
    highest = band.decide(tally.num_correct + num_left, tally.num_counted + num_left)
    lowest = band.decide(tally.num_correct, tally.num_counted + num_left)
    return highest if highest is lowest else None


@functools.lru_cache(maxsize=100_000)
def min_further_attempts(band: Band, tally: Tally) -> int:
    """The smallest number of further attempts after which the decision can be certain. All of them
    are needed, so they can be requested at once."""
    num_left = band.num_attempts - tally.num_seen
    for further in range(num_left + 1):
        for correct in range(further + 1):
            later = Tally(
                tally.num_correct + correct, tally.num_counted + further, tally.num_seen + further
            )
            if certain_decision(band, later) is not None:
                return further
    return num_left
