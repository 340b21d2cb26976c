"""Check of reference answers: problems on which the models agree on another answer.

A problem with a wrong reference answer looks hard, so a band such as 1 to 3 of 32 collects them.
Such problems are dropped for review, with one line each in `key_review.jsonl`:

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
class DisputedAnswer:
    """A reference answer that the models disagree with."""

    problem: Problem
    models_answer: str
    votes: int
    num_answers: int
    """Attempts that gave an answer."""
    num_correct: int

    def row(self) -> dict[str, Any]:
        """The problem and the votes as a row of key_review.jsonl."""
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

    def to_dropped(self, step: str) -> Dropped:
        """The record of the dropped problem."""
        evidence = (
            f"{self.votes} of {self.num_answers} answers say {self.models_answer!r}, "
            f"{self.num_correct} the key {self.problem.answer!r}"
        )
        return Dropped(id=self.problem.id, step=step, reason=REASON, evidence=as_evidence(evidence))


def find_dispute(
    problem: Problem, grades: Sequence[Grade], grader: Grader, *, config: KeyCheckConfig
) -> DisputedAnswer | None:
    """The disputed answer; None if fewer votes than `config` requires agree on a wrong answer.

    Only correct and wrong answers vote. Answers that the grader finds equivalent are one answer.
    """
    answers, wrong = _split_votes(grades)
    min_votes = max(config.min_votes, config.min_share * len(answers))
    if len(wrong) < min_votes:
        return None
    groups = group_answers(wrong, grader, choices=problem.choices)
    group, votes = _largest_group(groups)
    if votes < min_votes:
        return None
    return DisputedAnswer(
        problem=problem, models_answer=wrong[groups.index(group)] or "", votes=votes,
        num_answers=len(answers), num_correct=len(answers) - len(wrong),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KeyCheck:
    """Tells whether one model of a step can stop early without changing the check's result."""

    config: KeyCheckConfig
    decisions: frozenset[BandDecision]
    """Decisions of this model after which the reference answer may be checked."""
    earlier_votes: Mapping[str, Sequence[Grade]]
    """Votes of the models before this one, by problem id."""
    num_later_votes: int
    """Maximum number of votes of the models after this one."""

    def is_settled(
        self, grades: Sequence[Grade], num_left: int, *, problem: Problem, grader: Grader
    ) -> bool:
        """Whether `num_left` further attempts cannot change whether the answer is disputed, be it
        that all of them agree with the largest group or that none does."""
        answers, wrong = _split_votes([*self.earlier_votes.get(problem.id, ()), *grades])
        num_left += self.num_later_votes
        min_votes = max(self.config.min_votes, self.config.min_share * (len(answers) + num_left))
        if len(wrong) + num_left < min_votes:
            return True
        _, votes = _largest_group(group_answers(wrong, grader, choices=problem.choices))
        return votes + num_left < min_votes or votes >= min_votes


def _split_votes(grades: Sequence[Grade]) -> tuple[list[Grade], list[str | None]]:
    """The attempts that give an answer, and the texts of the wrong answers."""
    answers = [g for g in grades if g.verdict in (Verdict.CORRECT, Verdict.WRONG)]
    return answers, [g.extracted for g in answers if g.verdict is Verdict.WRONG]


def _largest_group(groups: Sequence[int | None]) -> tuple[int, int]:
    """The group with the most votes (the lowest of equal ones), and its votes; (0, 0) for none."""
    votes = Counter(group for group in groups if group is not None)
    return min(votes.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
