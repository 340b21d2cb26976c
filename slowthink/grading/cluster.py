r"""Which answers to one problem are the same: a vote counts answers, not their spellings.

`group_answers(["1/2", "0.5", None, "\\frac12", "7"], grader)` is `[0, 0, None, 0, 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.grading.answers.compare import AnswerContext
from slowthink.grading.grader import Grader, PairItem
from slowthink.records import Verdict

MAX_OPEN_PAIRS = 64
"""Pairs that the workers decide, at most, among one problem's answers; those beyond stay apart."""


def group_answers(
    answers: Sequence[str | None],
    grader: Grader,
    *,
    choices: Sequence[str] = (),
) -> list[int | None]:
    """A number for each answer, the same for equivalent ones, in order of first appearance.

    None for no answer. An answer joins the first group whose first member it equals under the
    grader's rules, that member being the key: equality with tolerances is not transitive, and this
    choice makes the groups depend on the order alone. What the rules leave open is decided by the
    grader's workers.
    """
    context = AnswerContext(choices=tuple(choices))
    found: dict[str, int] = {}
    firsts: list[str] = []
    left_open: list[tuple[int, int]] = []
    for text in dict.fromkeys(answer for answer in answers if answer and answer.strip()):
        number, asked = _group_of(text, firsts, grader, context)
        if number is None:
            number = len(firsts)
            left_open += [(other, number) for other in asked]
            firsts.append(text)
        found[text] = number
    merged = _merged(firsts, left_open, grader, context)
    return _renumbered([merged[found[a]] if a in found else None for a in answers])


def _group_of(
    text: str, firsts: Sequence[str], grader: Grader, context: AnswerContext
) -> tuple[int | None, list[int]]:
    """The group that the rules put the answer in, and those that they leave open."""
    left_open = []
    for number, first in enumerate(firsts):
        equal = grader.compare_by_rules(PairItem(first, text, context))
        if equal:
            return number, []
        if equal is None:
            left_open.append(number)
    return None, left_open


def _merged(
    firsts: Sequence[str], pairs: Sequence[tuple[int, int]], grader: Grader, context: AnswerContext
) -> list[int]:
    """The number of each group after the workers have had their say on what was left open."""
    merged = list(range(len(firsts)))
    asked = pairs[:MAX_OPEN_PAIRS]
    items = [PairItem(firsts[a], firsts[b], context) for a, b in asked]
    for (a, b), timed in zip(asked, grader.grade_pairs(items), strict=True):
        if timed.grade.verdict is Verdict.CORRECT and merged[b] == b:
            merged[b] = merged[a]
    return merged


def _renumbered(numbers: Sequence[int | None]) -> list[int | None]:
    kept = dict.fromkeys(number for number in numbers if number is not None)
    places = {number: place for place, number in enumerate(kept)}
    return [None if number is None else places[number] for number in numbers]
