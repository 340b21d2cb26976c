"""Groups of equivalent answers, and reference answers against which several models agree.

{"benchmark": "math500", "gold": "12", "answer": "16", "arms": ["base", "tuned"], "num_votes": 5, …}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from slowthink.analysis.scores import AnswerGroups, by_point, largest_budget, vote_key
from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.records import Verdict, group_by
from slowthink.stage_rows import EvaluationRow

MIN_SHARE = 0.5
"""A model's answer is the one that more than this share of its samples give."""


def answer_groups(rows: Iterable[EvaluationRow], grader: Grader) -> AnswerGroups:
    """Index of each row's answer group, equal for equivalent answers to one problem."""
    groups: dict[str, int | None] = {}
    for members in group_by(rows, _set_and_problem).values():
        texts = list(dict.fromkeys(row.extracted for row in members if row.extracted is not None))
        group_indices = dict(zip(texts, group_answers(texts, grader), strict=True))
        groups.update({row.id: group_indices.get(row.extracted or "") for row in members})
    return groups


def disputed_references(
    rows: Sequence[EvaluationRow], groups: AnswerGroups
) -> list[dict[str, Any]]:
    """Problems where several models agree with each other and not with the reference answer.

    Counts the answers at each arm's largest budget, all protocols together. A model's answer is the
    one that more than half of its samples give; several arms of one model count once.
    """
    arms = [by_point(arm_rows) for arm_rows in group_by(rows, lambda row: row.arm).values()]
    answered = [
        row
        for points in arms
        for row in points[largest_budget(points)]
        if row.verdict in (Verdict.CORRECT, Verdict.WRONG)
    ]
    disputes = [
        {"benchmark": benchmark} | dispute
        for (benchmark, _), members in sorted(group_by(answered, _set_and_problem).items())
        if (dispute := _find_dispute(members, groups)) is not None
    ]
    return sorted(disputes, key=lambda dispute: (-len(dispute["arms"]), -dispute["num_votes"]))


def _set_and_problem(row: EvaluationRow) -> tuple[str, str]:
    return row.benchmark, row.problem_id


def _find_dispute(members: Sequence[EvaluationRow], groups: AnswerGroups) -> dict[str, Any] | None:
    """The wrong answer that most models share, if at least two do; None otherwise."""
    arms_by_answer: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for model in dict.fromkeys(row.model for row in members):
        samples = [row for row in members if row.model == model]
        answer, count = Counter(vote_key(row, groups) for row in samples).most_common(1)[0]
        if answer is not None and count > MIN_SHARE * len(samples):
            arms_by_answer[answer][model] = samples[0].arm
    if not arms_by_answer:
        return None
    answer, arms = max(arms_by_answer.items(), key=lambda item: len(item[1]))
    rows = [row for row in members if vote_key(row, groups) == answer]
    if len(arms) < 2 or any(row.verdict is Verdict.CORRECT for row in rows):
        return None
    return {
        "problem_id": rows[0].problem_id,
        "question": rows[0].question,
        "gold": rows[0].gold,
        "answer": rows[0].extracted,
        "arms": sorted(arms.values()),
        "num_votes": len(rows),
        "num_answers": len(members),
    }
