"""Answers beside one another: which are equivalent, and which keys the models doubt.

{"benchmark": "math500", "gold": "12", "answer": "16", "arms": ["base", "tuned"], "num_votes": 5, …}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.records import EvaluationRow, Verdict
from slowthink.stages.evaluate.cells import Groups, vote_of
from slowthink.stages.evaluate.compare import longest

MIN_SHARE = 0.5
"""An arm speaks with one voice where more than this share of its samples agree, or all of one."""


def grouped(rows: Sequence[EvaluationRow], grader: Grader) -> Groups:
    """The number of every row's answer, equal for equivalent answers to one problem."""
    by_problem: dict[tuple[str, str], list[EvaluationRow]] = defaultdict(list)
    for row in rows:
        by_problem[row.benchmark, row.problem_id].append(row)
    found: dict[str, int | None] = {}
    for members in by_problem.values():
        texts = list(dict.fromkeys(row.extracted for row in members if row.extracted is not None))
        numbers = dict(zip(texts, group_answers(texts, grader), strict=True))
        found.update({row.id: numbers.get(row.extracted or "") for row in members})
    return found


def doubted_keys(rows: Sequence[EvaluationRow], groups: Groups) -> list[dict[str, Any]]:
    """Problems where several models' answers agree with each other and not with the key.

    Each arm speaks at its longest point, all protocols together, with the answer that more than
    half of its samples give. Arms of one model speak once.
    """
    by_problem: dict[tuple[str, str], list[EvaluationRow]] = defaultdict(list)
    for row in _longest_rows(rows):
        if row.verdict in (Verdict.CORRECT, Verdict.WRONG):
            by_problem[row.benchmark, row.problem_id].append(row)
    found = []
    for (benchmark, _), members in sorted(by_problem.items()):
        doubt = _doubt(members, groups)
        if doubt is not None:
            found.append({"benchmark": benchmark} | doubt)
    return sorted(found, key=lambda one: (-len(one["arms"]), -one["num_votes"]))


def _longest_rows(rows: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    points: dict[str, dict[tuple[int, int, bool], list[EvaluationRow]]] = defaultdict(dict)
    for row in rows:
        key = (row.max_thinking_tokens, row.waits, row.forced)
        points[row.arm].setdefault(key, []).append(row)
    return [row for arm in points.values() for row in arm[longest(arm)]]


def _doubt(members: Sequence[EvaluationRow], groups: Groups) -> dict[str, Any] | None:
    voices: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for model, own in _by_model(members).items():
        votes = Counter(vote_of(row, groups) for row in own)
        answer, count = votes.most_common(1)[0]
        if answer is not None and count > MIN_SHARE * len(own):
            voices[answer][model] = own[0].arm
    if not voices:
        return None
    answer, arms = max(voices.items(), key=lambda item: len(item[1]))
    rows = [row for row in members if vote_of(row, groups) == answer]
    if len(arms) < 2 or any(row.verdict is Verdict.CORRECT for row in rows):
        return None
    first = rows[0]
    return {
        "problem_id": first.problem_id,
        "question": first.question,
        "gold": first.gold,
        "answer": first.extracted,
        "arms": sorted(arms.values()),
        "num_votes": len(rows),
        "num_answers": len(members),
    }


def _by_model(members: Sequence[EvaluationRow]) -> Mapping[str, list[EvaluationRow]]:
    found: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in members:
        found[row.model].append(row)
    return found
