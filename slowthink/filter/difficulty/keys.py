"""The answer-key check: where models agree with each other and not with the key, who is right?

A band such as 1 to 3 of 32 gathers wrong keys: a problem whose key is wrong looks hard. Such rows
are set aside for review, a line each in `key_review.jsonl`:

    {"id": "p-…", "question": "What is 17 + 25?", "key": "43", "models_answer": "42", "votes": 29,
     "num_answers": 31, "num_correct": 2, "source": "made", "source_row": "7"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.recipe import KeyCheckConfig
from slowthink.records import Dropped, Grade, Problem, Verdict
from slowthink.rows import cut

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
        return Dropped(id=self.problem.id, step=step, reason=REASON, evidence=cut(evidence))


def doubt(
    problem: Problem, grades: Sequence[Grade], grader: Grader, *, config: KeyCheckConfig
) -> Doubt | None:
    """The key in doubt; None where there is no key, or no such majority against it.

    Only right and wrong answers vote. Answers count as one by the grader's rules.
    """
    answers = [g for g in grades if g.verdict in (Verdict.CORRECT, Verdict.WRONG)]
    wrong = [g.extracted for g in answers if g.verdict is Verdict.WRONG]
    if len(wrong) < max(config.min_votes, config.min_share * len(answers)):
        return None
    groups = group_answers(wrong, grader, choices=problem.choices)
    votes = Counter(group for group in groups if group is not None)
    if not votes:
        return None
    group, number = min(votes.items(), key=lambda item: (-item[1], item[0]))
    if number < config.min_votes or number < config.min_share * len(answers):
        return None
    return Doubt(
        problem=problem, models_answer=wrong[groups.index(group)] or "", votes=number,
        num_answers=len(answers), num_correct=len(answers) - len(wrong),
    )  # fmt: skip
