r"""Groups of equivalent answers to one problem: a majority vote counts answers, not strings.

Example: `group_answers(["1/2", "0.5", None, "\\frac12", "7"], grader)` is `[0, 0, None, 0, 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.grading.answers.compare import AnswerContext
from slowthink.grading.grader import Grader, PairItem
from slowthink.records import Verdict

MAX_WORKER_PAIRS = 64
"""Most pairs of one problem's answers that workers compare. Further pairs are not merged."""


def group_answers(
    answers: Sequence[str | None],
    grader: Grader,
    *,
    choices: Sequence[str] = (),
) -> list[int | None]:
    """Return the index of each answer's group, in order of first appearance; None for no answer.

    An answer joins the first group whose first member it equals under the grader's rules, with that
    member as the reference answer. Equality with tolerances is not transitive; this way the groups
    depend on the order only. Workers decide what the rules cannot.
    """
    context = AnswerContext(choices=tuple(choices))
    group_ids: dict[str, int] = {}
    representatives: list[str] = []
    undecided: list[tuple[int, int]] = []
    for text in dict.fromkeys(answer for answer in answers if answer and answer.strip()):
        group_id, candidates = _group_by_rules(text, representatives, grader, context)
        if group_id is None:
            group_id = len(representatives)
            undecided += [(candidate, group_id) for candidate in candidates]
            representatives.append(text)
        group_ids[text] = group_id
    merged_ids = _merge_by_workers(representatives, undecided, grader, context)
    return _renumber([merged_ids[group_ids[a]] if a in group_ids else None for a in answers])


def _group_by_rules(
    text: str, representatives: Sequence[str], grader: Grader, context: AnswerContext
) -> tuple[int | None, list[int]]:
    """Return the group that an answer joins by the rules; if none, the undecided groups."""
    candidates = []
    for group_id, representative in enumerate(representatives):
        equal = grader.compare_by_rules(PairItem(representative, text, context))
        if equal:
            return group_id, []
        if equal is None:
            candidates.append(group_id)
    return None, candidates


def _merge_by_workers(
    members: Sequence[str], pairs: Sequence[tuple[int, int]], grader: Grader, context: AnswerContext
) -> list[int]:
    """Return the new id of each group after workers have compared these pairs of groups."""
    merged_ids = list(range(len(members)))
    pairs = pairs[:MAX_WORKER_PAIRS]
    items = [PairItem(members[a], members[b], context) for a, b in pairs]
    for (a, b), timed in zip(pairs, grader.grade_pairs(items), strict=True):
        if timed.grade.verdict is Verdict.CORRECT and merged_ids[b] == b:
            merged_ids[b] = merged_ids[a]
    return merged_ids


def _renumber(group_ids: Sequence[int | None]) -> list[int | None]:
    """Number the groups in order of first appearance."""
    new_ids: dict[int, int] = {}
    return [None if i is None else new_ids.setdefault(i, len(new_ids)) for i in group_ids]
