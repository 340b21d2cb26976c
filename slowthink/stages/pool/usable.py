"""Checks for problems that are readable but unusable: nobody could answer or grade them.

check_usable(problem) raises UnusableValue("`question` is above 50,000 characters")
"""

from __future__ import annotations

import re

from slowthink.data.rows import UnusableValue
from slowthink.records import Problem

MAX_QUESTION_CHARS = 50_000
"""The longest question of s1's and LIMO's datasets has some 5,300."""
MAX_ANSWER_CHARS = 5_000
"""The longest answer in them has some 1,700."""
MAX_SOLUTION_CHARS = 1_000_000
_CONTROL_CHARACTER = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]"
)
"""Control characters other than tab and line ends (such as the form feed of a `\\frac` with a lost
backslash), bidirectional overrides and isolates, and noncharacters of Unicode."""
_MISSING_VALUES = {"nan", "none", "null", "n/a", "undefined", "#n/a"}


def check_usable(problem: Problem) -> None:
    """Raises UnusableValue with the reason if the problem cannot be used."""
    _check_length("question", problem.question, MAX_QUESTION_CHARS)
    _check_length("answer", problem.answer, MAX_ANSWER_CHARS)
    _check_length("solution", problem.solution, MAX_SOLUTION_CHARS)
    for name, text in (("question", problem.question), ("answer", problem.answer or "")):
        if _CONTROL_CHARACTER.search(text):
            raise UnusableValue(f"`{name}` holds a control or bidirectional-override character")
    if problem.question.casefold() in _MISSING_VALUES:
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
    if any(map(_CONTROL_CHARACTER.search, choices)):
        raise UnusableValue("an option holds a control or bidirectional-override character")
