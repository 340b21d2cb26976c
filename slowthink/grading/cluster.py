r"""Groups of equivalent answers to one problem: a majority vote counts answers, not strings.

Example: `group_answers(["1/2", "0.5", None, "\\frac12", "7"], grader)` is `[0, 0, None, 0, 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.grading.answers.compare import AnswerContext
from slowthink.grading.grader import Grader, PairItem
from slowthink.records import Verdict

MAX_WORKER_PAIRS = 64
"""Pairs of one problem's answers that workers compare, at most; further pairs stay apart."""


def group_answers(
    answers: Sequence[str | None],
    grader: Grader,
    *,
    choices: Sequence[str] = (),
) -> list[int | None]:
    """Return a group number for each answer, in order of first appearance; None for no answer.

    An answer joins the first group whose first member it equals under the grader's rules, with that
    member as the reference answer: equality with tolerances is not transitive, and so the groups
    depend on the order alone. Workers decide what the rules cannot.
    """
    context = AnswerContext(choices=tuple(choices))
    groups: dict[str, int] = {}
    firsts: list[str] = []
    undecided: list[tuple[int, int]] = []
    for text in dict.fromkeys(answer for answer in answers if answer and answer.strip()):
        group, candidates = _group_by_rules(text, firsts, grader, context)
        if group is None:
            group = len(firsts)
            undecided += [(candidate, group) for candidate in candidates]
            firsts.append(text)
        groups[text] = group
    merged = _merge_by_workers(firsts, undecided, grader, context)
    return _renumbered([merged[groups[a]] if a in groups else None for a in answers])


def _group_by_rules(
    text: str, firsts: Sequence[str], grader: Grader, context: AnswerContext
) -> tuple[int | None, list[int]]:
    """Return the group that an answer joins by the rules; else None and the undecided groups."""
    candidates = []
    for group, first in enumerate(firsts):
        equal = grader.compare_by_rules(PairItem(first, text, context))
        if equal:
            return group, []
        if equal is None:
            candidates.append(group)
    return None, candidates


def _merge_by_workers(
    firsts: Sequence[str], pairs: Sequence[tuple[int, int]], grader: Grader, context: AnswerContext
) -> list[int]:
    """Return the number of each group after workers have compared these pairs of groups."""
    merged = list(range(len(firsts)))
    pairs = pairs[:MAX_WORKER_PAIRS]
    items = [PairItem(firsts[a], firsts[b], context) for a, b in pairs]
    for (a, b), timed in zip(pairs, grader.grade_pairs(items), strict=True):
        if timed.grade.verdict is Verdict.CORRECT and merged[b] == b:
            merged[b] = merged[a]
    return merged


def _renumbered(groups: Sequence[int | None]) -> list[int | None]:
    numbers: dict[int, int] = {}
    return [None if group is None else numbers.setdefault(group, len(numbers)) for group in groups]
