"""The band of pass rates that a problem must be in, and when a decision can no longer change.

Band(num_attempts=32, min_correct=1, max_correct=3) after 4 correct of 4: TOO_OFTEN, certain
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass

from slowthink.recipe import DifficultyStep
from slowthink.records import Grade, Verdict


class BandDecision(enum.Enum):
    """The decision on a problem."""

    KEEP = "keep"
    TOO_OFTEN = "solved too often"
    TOO_RARELY = "solved too rarely"
    NOT_GRADABLE = "no attempt can be graded"


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a problem's attempts seen so far."""

    num_correct: int = 0
    num_counted: int = 0
    """Attempts in the denominator."""
    num_seen: int = 0

    def add(self, grade: Grade, *, truncated_counts: bool) -> Tally:
        """The tally with one more attempt."""
        is_truncated = grade.verdict is Verdict.TRUNCATED
        counts = truncated_counts if is_truncated else grade.verdict.is_counted
        is_correct = grade.verdict is Verdict.CORRECT
        return Tally(
            self.num_correct + is_correct, self.num_counted + counts, self.num_seen + 1
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Band:
    """Bounds on the share or the number of correct attempts, both inclusive."""

    num_attempts: int
    min_pass_rate: float = 0.0
    max_pass_rate: float = 1.0
    min_correct: int | None = None
    """Replaces the rate."""
    max_correct: int | None = None

    @classmethod
    def from_step(cls, step: DifficultyStep) -> Band:
        """The band of a step's settings."""
        return cls(
            num_attempts=step.num_attempts, min_pass_rate=step.min_pass_rate,
            max_pass_rate=step.max_pass_rate, min_correct=step.min_correct,
            max_correct=step.max_correct,
        )  # fmt: skip

    def decision(self, num_correct: int, num_counted: int) -> BandDecision:
        """The decision on a problem after its last attempt."""
        if num_counted == 0:
            return BandDecision.NOT_GRADABLE
        rate = num_correct / num_counted
        high, low = self.max_correct, self.min_correct
        if rate > self.max_pass_rate if high is None else num_correct > high:
            return BandDecision.TOO_OFTEN
        if rate < self.min_pass_rate if low is None else num_correct < low:
            return BandDecision.TOO_RARELY
        return BandDecision.KEEP


def certain_decision(band: Band, tally: Tally) -> BandDecision | None:
    """The decision of all attempts if the remaining ones cannot change it, else None.

    Compares the two extremes: all remaining attempts correct, and none. Attempts that leave the
    denominator are between them. While no attempt counts, possibly none ever will.
    """
    num_left = band.num_attempts - tally.num_seen
    if num_left == 0:
        return band.decision(tally.num_correct, tally.num_counted)
    if tally.num_counted == 0:
        return None
    highest = band.decision(tally.num_correct + num_left, tally.num_counted + num_left)
    lowest = band.decision(tally.num_correct, tally.num_counted + num_left)
    return highest if highest is lowest else None


@functools.lru_cache(maxsize=100_000)
def min_further_attempts(band: Band, tally: Tally) -> int:
    """The smallest number of further attempts that can make the decision certain; none of them can
    be wasted."""
    num_left = band.num_attempts - tally.num_seen
    for more in range(num_left + 1):
        for correct in range(more + 1):
            later = Tally(
                tally.num_correct + correct, tally.num_counted + more, tally.num_seen + more
            )
            if certain_decision(band, later) is not None:
                return more
    return num_left
