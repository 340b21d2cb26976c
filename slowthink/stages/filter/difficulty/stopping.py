"""When enough attempts have been seen: after the last one, or once the decision is certain.

A rule looks at attempts in order of their number and answers with the decision, or None: go on.

    Exact(Band(4, max_correct=0)).decide(Tally(1, 1, 1), grades) is Outcome.TOO_OFTEN
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slowthink.records import Grade, Verdict
from slowthink.stages.filter.difficulty.band import Band, BandDecision, Tally, decided, needed


class Rule(Protocol):
    """Decides on a problem by the attempts seen so far."""

    @property
    def band(self) -> Band:
        """What is decided."""

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The decision; None where more attempts are to be seen."""

    def needed(self, tally: Tally) -> int:
        """Further attempts that are wanted in any case, at least 1."""


@dataclass(frozen=True)
class Never:
    """All attempts are made."""

    band: Band

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """Only after the last attempt."""
        return decided(self.band, tally) if tally.num_drawn == self.band.num_attempts else None

    def needed(self, tally: Tally) -> int:
        """All that are left."""
        return self.band.num_attempts - tally.num_drawn


@dataclass(frozen=True)
class Exact:
    """Until the attempts that are left cannot change the decision."""

    band: Band

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The decision of all attempts."""
        return decided(self.band, tally)

    def needed(self, tally: Tally) -> int:
        """As many as any decision takes."""
        return needed(self.band, tally)


@dataclass(frozen=True)
class Majority:
    """Until the attempts that are left cannot change whether the most frequent answer is right."""

    band: Band
    group: Callable[[Sequence[str | None]], list[int | None]]
    """Numbers answers; the same number for equivalent ones."""
    early: bool = True
    """False: all attempts are made."""

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The decision that all attempts would give."""
        left = self.band.num_attempts - tally.num_drawn
        if left and not self.early:
            return None
        right, others = self._votes(grades)
        best = max(others, default=0)
        if left == 0:
            if tally.num_counted == 0:
                return BandDecision.NOT_GRADABLE
            tied = 1 + sum(votes == best for votes in others)
            value = 1 / tied if right == best else float(right > best)
            return self._outcome(value if right else 0.0)
        if tally.num_counted and right > best + left:
            return self._outcome(1.0)
        if tally.num_counted and best > right + left:
            return self._outcome(0.0)
        return None

    def needed(self, tally: Tally) -> int:
        """All that are left, or one."""
        return 1 if self.early else self.band.num_attempts - tally.num_drawn

    def _outcome(self, value: float) -> BandDecision:
        if value > self.band.max_pass_rate:
            return BandDecision.TOO_OFTEN
        return BandDecision.TOO_RARELY if value < self.band.min_pass_rate else BandDecision.KEEP

    def _votes(self, grades: Sequence[Grade]) -> tuple[int, list[int]]:
        """Right attempts, and the votes of each other answer."""
        right = sum(grade.verdict is Verdict.CORRECT for grade in grades)
        wrong = [g.extracted if g.verdict is Verdict.WRONG else None for g in grades]
        groups = [number for number in self.group(wrong) if number is not None]
        return right, [groups.count(number) for number in set(groups)]


@dataclass(frozen=True)
class KeyChecked:
    """A rule that goes on, after some outcomes, until the check of the key cannot change either."""

    rule: Rule
    outcomes: frozenset[BandDecision]
    settled: Callable[[Sequence[Grade], int], bool]
    """Whether so many further attempts cannot change what is said of the key."""

    @property
    def band(self) -> Band:
        """The rule's."""
        return self.rule.band

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> BandDecision | None:
        """The rule's decision, once the key is settled, too."""
        outcome = self.rule.decide(tally, grades)
        left = self.band.num_attempts - tally.num_drawn
        is_open = outcome in self.outcomes and left and not self.settled(grades, left)
        return None if is_open else outcome

    def needed(self, tally: Tally) -> int:
        """As many as the rule wants; one where only the key is open."""
        return max(1, self.rule.needed(tally))


class AttemptTracker:
    """One problem's attempts: asked for in waves, seen in order of their number alone.

    What comes back early waits for those before it, since short attempts come back first and are
    right more often. What comes after the decision is waste, and changes nothing.
    """

    def __init__(self, rule: Rule, *, wave_size: int = 1, truncated_counts: bool = True) -> None:
        self.rule = rule
        self.outcome: BandDecision | None = None
        self.tally = Tally()
        self.grades: list[Grade] = []
        """Those seen, in order."""
        self.num_asked = 0
        self.num_unused = 0
        """Attempts that came back and were not needed."""
        self._wave_size = wave_size
        self._truncated_counts = truncated_counts
        self._early: dict[int, Grade] = {}

    @property
    def outstanding(self) -> range:
        """Attempts asked for that have not been seen in their turn."""
        return range(self.tally.num_drawn, self.num_asked)

    @property
    def is_idle(self) -> bool:
        """Whether all that was asked for has been seen and there is no decision."""
        return self.outcome is None and self.tally.num_drawn == self.num_asked

    def next_wave(self) -> range:
        """Numbers of the attempts to ask for now; empty where none is due."""
        total = self.rule.band.num_attempts
        if not self.is_idle:
            return range(0)
        wanted = max(self.rule.needed(self.tally), self._wave_size)
        wave = range(self.num_asked, min(self.num_asked + wanted, total))
        self.num_asked = wave.stop
        return wave

    def put(self, number: int, grade: Grade) -> None:
        """An attempt has come back."""
        if self.outcome is not None:
            self.num_unused += 1
            return
        self._early[number] = grade
        while self.outcome is None and self.tally.num_drawn in self._early:
            seen = self._early.pop(self.tally.num_drawn)
            self.grades.append(seen)
            self.tally = self.tally.add(seen, truncated_counts=self._truncated_counts)
            self.outcome = self.rule.decide(self.tally, self.grades)
        if self.outcome is not None:
            self.num_unused += len(self._early)
            self._early.clear()
