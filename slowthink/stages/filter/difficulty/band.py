"""The band that a problem must lie in, and from when on a decision on it cannot change any more.

Band(num_attempts=32, min_correct=1, max_correct=3) after 4 right of 4: TOO_OFTEN, decided
"""

from __future__ import annotations

import enum
import functools
import itertools
from dataclasses import dataclass

from slowthink.recipe import DifficultyStep
from slowthink.records import Grade, Verdict


class BandDecision(enum.Enum):
    """What is decided on a problem."""

    KEEP = "keep"
    TOO_OFTEN = "solved too often"
    TOO_RARELY = "solved too rarely"
    NOT_GRADABLE = "no attempt can be graded"


@dataclass(frozen=True, slots=True)
class Tally:
    """What attempts came to."""

    num_correct: int = 0
    num_counted: int = 0
    """Attempts in the denominator."""
    num_drawn: int = 0

    def add(self, grade: Grade, *, truncated_counts: bool) -> Tally:
        """With one attempt more."""
        counts = grade.verdict.counts
        if grade.verdict is Verdict.TRUNCATED:
            counts = truncated_counts
        return Tally(
            self.num_correct + (grade.verdict is Verdict.CORRECT),
            self.num_counted + counts,
            self.num_drawn + 1,
        )


@dataclass(frozen=True, slots=True)
class Band:
    """Shares or counts of right attempts, both ends included."""

    num_attempts: int
    min_pass_rate: float = 0.0
    max_pass_rate: float = 1.0
    min_correct: int | None = None
    """In place of the rate."""
    max_correct: int | None = None

    @classmethod
    def of(cls, step: DifficultyStep) -> Band:
        """The step's."""
        return cls(
            num_attempts=step.num_attempts, min_pass_rate=step.min_pass_rate,
            max_pass_rate=step.max_pass_rate, min_correct=step.min_correct,
            max_correct=step.max_correct,
        )  # fmt: skip

    def outcome(self, num_correct: int, num_counted: int) -> BandDecision:
        """The decision on a problem of which no more is to be had."""
        if num_counted == 0:
            return BandDecision.NOT_GRADABLE
        rate = num_correct / num_counted
        high, low = self.max_correct, self.min_correct
        if rate > self.max_pass_rate if high is None else num_correct > high:
            return BandDecision.TOO_OFTEN
        if rate < self.min_pass_rate if low is None else num_correct < low:
            return BandDecision.TOO_RARELY
        return BandDecision.KEEP


def decided(band: Band, tally: Tally) -> BandDecision | None:
    """The decision that all attempts would give whatever the others come to; None: still open.

    The most that can come is that all others are right, the least that none is; attempts that
    leave the denominator lie between the two. While none counts yet, none may ever.
    """
    left = band.num_attempts - tally.num_drawn
    if left == 0:
        return band.outcome(tally.num_correct, tally.num_counted)
    if tally.num_counted == 0:
        return None
    most = band.outcome(tally.num_correct + left, tally.num_counted + left)
    least = band.outcome(tally.num_correct, tally.num_counted + left)
    return most if most is least else None


@functools.lru_cache(maxsize=100_000)
def needed(band: Band, tally: Tally) -> int:
    """The fewest further attempts after which a decision is possible: none can be wasted."""
    left = band.num_attempts - tally.num_drawn
    for more, right in itertools.chain.from_iterable(
        ((more, right) for right in range(more + 1)) for more in range(left + 1)
    ):
        after = Tally(tally.num_correct + right, tally.num_counted + more, tally.num_drawn + more)
        if decided(band, after) is not None:
            return more
    return left
