"""What no pool may hold: texts that nobody can ask or grade, however well the row could be read.

`check` raises ValueProblem("`question` holds a control or bidirectional-override character")
"""

from __future__ import annotations

import re

from slowthink.data.rows import UnusableValue
from slowthink.records import Problem

MAX_QUESTION_CHARS = 50_000
"""The longest question of the sets that s1 and LIMO name has some 5,300."""
MAX_ANSWER_CHARS = 5_000
"""The longest answer there has some 1,700."""
MAX_SOLUTION_CHARS = 1_000_000
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]"
)
"""Controls other than tab and line ends (a lost `\\f` of `\\frac` among them), bidirectional
overrides and isolates, and code points that are no characters."""
_NOTHING = {"nan", "none", "null", "n/a", "undefined", "#n/a"}


def check(problem: Problem) -> None:
    """Raises ValueProblem where the problem cannot be used, with the reason."""
    _check_length("question", problem.question, MAX_QUESTION_CHARS)
    _check_length("answer", problem.answer, MAX_ANSWER_CHARS)
    _check_length("solution", problem.solution, MAX_SOLUTION_CHARS)
    for name, text in (("question", problem.question), ("answer", problem.answer or "")):
        if _CONTROL.search(text):
            raise UnusableValue(f"`{name}` holds a control or bidirectional-override character")
    if problem.question.casefold() in _NOTHING:
        raise UnusableValue("`question` is missing or empty")
    if not any(map(str.isalnum, problem.question)):
        raise UnusableValue("`question` holds no letter or digit")
    if problem.choices:
        _check_choices(problem.choices)


def _check_length(name: str, text: str | None, limit: int) -> None:
    if text is not None and len(text) > limit:
        raise UnusableValue(f"`{name}` is above {limit:,} characters")


def _check_choices(choices: tuple[str, ...]) -> None:
    if not all(choice.strip() for choice in choices):
        raise UnusableValue("an option is empty")
    if len(set(choices)) < len(choices):
        raise UnusableValue("two options are equal")
    if any(map(_CONTROL.search, choices)):
        raise UnusableValue("an option holds a control or bidirectional-override character")
