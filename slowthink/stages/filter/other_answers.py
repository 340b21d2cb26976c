"""Duplicate questions whose reference answers differ: kept apart, or merged with a report.

A row of other_answers.jsonl in the stage's folder:

    {"part": "near", "ids": ["p-1f…", "p-9b…"], "answers": ["41", "8"], "merged": false}

Different answers mean that a word or a bracket was overlooked, or that one answer is wrong. Only
rows with the same text are merged all the same, since they cannot be different problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.curation.overlap.clusters import Cluster
from slowthink.grading.answers.choice import parse_choice
from slowthink.grading.answers.compare import AnswerContext, compare
from slowthink.grading.sentinels import says_nothing
from slowthink.records import Problem

OTHER_ANSWERS_FILE = "other_answers.jsonl"


@dataclass
class AnswerCheck:
    """Decides whether duplicate questions may be merged, and records where their answers differ."""

    part: str
    problems: Sequence[Problem]
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows of other_answers.jsonl."""

    def may_merge(self, first: int, second: int) -> bool:
        """Whether the two problems have the same text, or no answers that are known to differ."""
        problems = self.problems[first], self.problems[second]
        if problems[0].duplicate_key == problems[1].duplicate_key:
            return True
        if answers_equal(*problems) is not False:
            return True
        self._record(*problems, merged=False)
        return False

    def record_merged(self, clusters: Sequence[Cluster]) -> None:
        """Record the members of clusters whose answers differ from the kept one's, or may differ.
        """  # fmt: skip
        for cluster in clusters:
            kept = self.problems[cluster.kept]
            for member in cluster.members:
                problem = self.problems[member.row]
                if answers_equal(kept, problem) is not True:
                    self._record(kept, problem, merged=True)

    def _record(self, first: Problem, second: Problem, *, merged: bool) -> None:
        ids, answers = [first.id, second.id], [first.answer, second.answer]
        self.rows.append({"part": self.part, "ids": ids, "answers": answers, "merged": merged})


def answers_equal(first: Problem, second: Problem) -> bool | None:
    """Whether two problems have the same reference answer; None if the rules cannot decide it.

    True if one has none. An option's letter counts as its text, since options may be reordered.
    """
    answers = [_comparable_answer(problem) for problem in (first, second)]
    if None in answers or answers[0] == answers[1]:
        return True
    return compare(answers[0] or "", answers[1] or "", context=AnswerContext()).equal


def _comparable_answer(problem: Problem) -> str | None:
    answer = (problem.answer or "").strip()
    if says_nothing(answer):
        return None
    letters = parse_choice(answer).letters
    options = AnswerContext.from_problem(problem).options() if letters else {}
    if letters and letters <= options.keys():
        return "; ".join(sorted(options[letter].strip() for letter in letters))
    return answer
