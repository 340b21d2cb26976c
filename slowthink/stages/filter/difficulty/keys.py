"""The answer-key check: where models agree with each other and not with the key, who is right?

A band such as 1 to 3 of 32 gathers wrong keys: a problem whose key is wrong looks hard. Such rows
are set aside for review, a line each in `key_review.jsonl`:

    {"id": "p-…", "question": "What is 17 + 25?", "key": "43", "models_answer": "42", "votes": 29,
     "num_answers": 31, "num_correct": 2, "source": "made", "source_row": "7"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.data.rows import as_evidence
from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.recipe import KeyCheckConfig
from slowthink.records import Dropped, Grade, Problem, Verdict
from slowthink.stages.filter.difficulty.band import BandDecision

REASON = "the models agree on another answer than the key"


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A key that the models agree against."""

    problem: Problem
    models_answer: str
    votes: int
    num_answers: int
    """Attempts that gave an answer."""
    num_correct: int

    def row(self) -> dict[str, Any]:
        """As JSON, for the one who reviews."""
        return {
            "id": self.problem.id,
            "question": self.problem.question,
            "key": self.problem.answer,
            "models_answer": self.models_answer,
            "votes": self.votes,
            "num_answers": self.num_answers,
            "num_correct": self.num_correct,
            "answer_derived": self.problem.answer_derived,
            "source": self.problem.source,
            "source_row": self.problem.source_row,
        }

    def dropped(self, step: str) -> Dropped:
        """The row set aside."""
        told = f"{self.votes} of {self.num_answers} answers say {self.models_answer!r}"
        evidence = f"{told}, {self.num_correct} the key {self.problem.answer!r}"
        return Dropped(id=self.problem.id, step=step, reason=REASON, evidence=as_evidence(evidence))


def doubt(
    problem: Problem, grades: Sequence[Grade], grader: Grader, *, config: KeyCheckConfig
) -> Doubt | None:
    """The key in doubt; None where there is no key, or no such majority against it.

    Only right and wrong answers vote. Answers count as one by the grader's rules.
    """
    answers, wrong = _votes(grades)
    if len(wrong) < max(config.min_votes, config.min_share * len(answers)):
        return None
    groups = group_answers(wrong, grader, choices=problem.choices)
    group, number = _largest(groups)
    if number < config.min_votes or number < config.min_share * len(answers):
        return None
    return Doubt(
        problem=problem, models_answer=wrong[groups.index(group)] or "", votes=number,
        num_answers=len(answers), num_correct=len(answers) - len(wrong),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KeyCheck:
    """What is said of keys by all models of a step, for stopping one of them early."""

    config: KeyCheckConfig
    outcomes: frozenset[BandDecision]
    """This model's, after which a key may be looked at."""
    before: Mapping[str, Sequence[Grade]]
    """Votes of the models before, by problem."""
    num_later: int
    """Votes that the models after may give, at most."""

    def settled(
        self, grades: Sequence[Grade], num_left: int, *, problem: Problem, grader: Grader
    ) -> bool:
        """Whether `num_left` more attempts, whatever they come to, cannot change if the key is in
        doubt: all of them may agree with the largest group, or none."""
        answers, wrong = _votes([*self.before.get(problem.id, ()), *grades])
        least, share, left = self.config.min_votes, self.config.min_share, num_left + self.num_later
        needed = max(least, share * (len(answers) + left))
        if len(wrong) + left < needed:
            return True
        _, number = _largest(group_answers(wrong, grader, choices=problem.choices))
        return number + left < needed or number >= needed


def _votes(grades: Sequence[Grade]) -> tuple[list[Grade], list[str | None]]:
    """Attempts that gave an answer, and the answers that are not the key's."""
    answers = [g for g in grades if g.verdict in (Verdict.CORRECT, Verdict.WRONG)]
    return answers, [g.extracted for g in answers if g.verdict is Verdict.WRONG]


def _largest(groups: Sequence[int | None]) -> tuple[int, int]:
    """The group with the most votes, of equal ones the first, and its votes; 0 of none."""
    votes = Counter(group for group in groups if group is not None)
    return min(votes.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
