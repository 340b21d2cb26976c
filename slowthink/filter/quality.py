"""Rules of quality, each with a name: a rule answers None (keep) or why the problem goes.

The `s1` preset is exactly s1's (simplescaling/s1@77272c6: data/filter.ipynb), side effects and all:
its `p7.` also finds "top7.", its bold rule needs a digit further on in the line.

    {"id": "p-…", "step": "quality: multi_part", "reason": "holds a part number such as p1.", …}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slowthink.records import Problem

Rule = Callable[[Problem], str | None]

PART_NUMBER = re.compile(r"p[1-9]\d{0,2}\.")
BOLD_THEN_DIGIT = re.compile(r"\*\*(?=.*\d)[^\s\]]*\*\*")


def no_reference(problem: Problem) -> str | None:
    """s1 drops rows without a reference solution, since their attempts cannot be graded."""
    has_reference = problem.answer or problem.solution
    return None if has_reference else "has neither an answer nor a solution"


def drawing(problem: Problem) -> str | None:
    """Asymptote code, kept in AIME problems as s1 does."""
    if "[asy]" not in problem.question or "aime" in problem.source.casefold():
        return None
    return "holds a drawing in [asy] code"


def image(problem: Problem) -> str | None:
    """A reference to an image that is not there."""
    return "refers to an image" if "![Image]" in problem.question else None


def multi_part(problem: Problem) -> str | None:
    """Any of the strings p1. to p999."""
    found = PART_NUMBER.search(problem.question)
    return "holds a part number such as p1." if found else None


def bold_number(problem: Problem) -> str | None:
    """A bold run without white space or `]`, with a digit in it or further on in the line."""
    found = BOLD_THEN_DIGIT.search(problem.question)
    return "holds a bold run before a digit" if found else None


QUALITY_RULES: dict[str, dict[str, Rule]] = {
    "s1": {
        "no_reference": no_reference,
        "drawing": drawing,
        "image": image,
        "multi_part": multi_part,
        "bold_number": bold_number,
    },
}
"""Rules by preset, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a problem goes."""

    rule: str
    reason: str


def first_objections(preset: str, problems: Sequence[Problem]) -> list[Objection | None]:
    """For each problem the first rule of the preset that it breaks; None where it breaks none."""
    rules = QUALITY_RULES[preset]
    return [
        next(
            (
                Objection(name, reason)
                for name, rule in rules.items()
                if (reason := rule(problem)) is not None
            ),
            None,
        )
        for problem in problems
    ]
