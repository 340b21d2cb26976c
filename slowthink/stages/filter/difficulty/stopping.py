"""When enough attempts have been made: after the last one, or once the decision is certain.

A rule takes a problem's attempts in order and returns the decision, or None if it needs more.

    PassRateRule(Band(4, max_correct=0)).decide(Tally(1, 1, 1), grades) is BandDecision.TOO_OFTEN
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slowthink.records import Grade, Verdict
from slowthink.sampling.attempts import Tally
from slowthink.stages.filter.difficulty.band import (
    Band,
    BandDecision,
    certain_decision,
    min_further_attempts,
)


@dataclass(frozen=True)
class PassRateRule:
    """Stops once the remaining attempts cannot change the decision by the band."""

    band: Band
    stop_early: bool = True
    """False: make all attempts."""

    @property
    def num_attempts(self) -> int:
        """Maximum number of attempts."""
        return self.band.num_attempts

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The decision that all attempts would give; None if more attempts are needed."""
        if not self.stop_early and tally.num_seen < self.band.num_attempts:
            return None
        return certain_decision(self.band, tally)

    def min_further(self, tally: Tally) -> int:
        """Number of further attempts needed in any case, at least 1."""
        if self.stop_early:
            return min_further_attempts(self.band, tally)
        return self.band.num_attempts - tally.num_seen


@dataclass(frozen=True)
class MajorityRule:
    """Stops once the remaining attempts cannot change whether the majority answer is correct."""

    band: Band
    group_answers: Callable[[Sequence[str | None]], list[int | None]]
    """Returns a group for each answer, the same for equivalent ones; None for no answer."""
    stop_early: bool = True
    """False: make all attempts."""

    @property
    def num_attempts(self) -> int:
        """Maximum number of attempts."""
        return self.band.num_attempts

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The decision that all attempts would give; None if more attempts are needed."""
        num_left = self.band.num_attempts - tally.num_seen
        if num_left and not self.stop_early:
            return None
        num_correct, wrong_votes = self._count_votes(grades)
        best_wrong = max(wrong_votes, default=0)
        if num_left == 0:
            if tally.num_counted == 0:
                return BandDecision.NOT_GRADABLE
            num_tied = 1 + sum(votes == best_wrong for votes in wrong_votes)
            is_tie = num_correct == best_wrong
            score = 1 / num_tied if is_tie else float(num_correct > best_wrong)
            return self._decide_by(score if num_correct else 0.0)
        if tally.num_counted and num_correct > best_wrong + num_left:
            return self._decide_by(1.0)
        if tally.num_counted and best_wrong > num_correct + num_left:
            return self._decide_by(0.0)
        return None

    def min_further(self, tally: Tally) -> int:
        """Number of further attempts needed in any case, at least 1."""
        return 1 if self.stop_early else self.band.num_attempts - tally.num_seen

    def _decide_by(self, score: float) -> BandDecision:
        """The decision if the majority answer is correct with this probability: 1, 0 or a tie's."""
        if score > self.band.max_pass_rate:
            return BandDecision.TOO_OFTEN
        return BandDecision.TOO_RARELY if score < self.band.min_pass_rate else BandDecision.KEEP

    def _count_votes(self, grades: Sequence[Grade]) -> tuple[int, list[int]]:
        """Number of correct attempts, and the number of votes for each wrong answer."""
        num_correct = sum(grade.verdict is Verdict.CORRECT for grade in grades)
        wrong = [g.extracted if g.verdict is Verdict.WRONG else None for g in grades]
        groups = [group for group in self.group_answers(wrong) if group is not None]
        return num_correct, list(Counter(groups).values())


@dataclass(frozen=True)
class UntilKeySettled:
    """A rule that for some decisions also waits until the reference answer's check is settled."""

    rule: PassRateRule | MajorityRule
    decisions: frozenset[BandDecision]
    is_settled: Callable[[Sequence[Grade], int], bool]
    """Whether this number of attempts after the grades cannot change the check's result."""

    @property
    def band(self) -> Band:
        """The rule's band."""
        return self.rule.band

    @property
    def num_attempts(self) -> int:
        """Maximum number of attempts."""
        return self.band.num_attempts

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The rule's decision, once the check is settled too."""
        decision = self.rule.decide(tally, grades)
        num_left = self.band.num_attempts - tally.num_seen
        is_open = decision in self.decisions and num_left and not self.is_settled(grades, num_left)
        return None if is_open else decision

    def min_further(self, tally: Tally) -> int:
        """Number of further attempts needed in any case: the rule's, at least 1 for the check."""
        return max(1, self.rule.min_further(tally))


StoppingRule = PassRateRule | MajorityRule | UntilKeySettled
