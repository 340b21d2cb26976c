r"""Typed comparison of two answers by rules; what they cannot decide is left to a worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from slowthink.records import Problem


@dataclass(frozen=True, slots=True)
class Context:
    """What the problem says about how its answer is to be read."""

    question: str = ""
    choices: tuple[str, ...] = ()
    tolerance: float | None = None
    unit: str | None = None

    @classmethod
    def of(cls, problem: Problem) -> Context:
        """The context of a problem."""
        return cls(problem.question, problem.choices, problem.tolerance, problem.unit)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Equal or not and by which rule; with None the two texts that a worker should compare."""

    equal: bool | None
    method: str = ""
    gold: str = ""
    pred: str = ""


def compare(gold: str, pred: str, *, context: Context) -> Comparison:
    """Compare an answer with the key."""
    if gold.strip() == pred.strip():
        return Comparison(True, "string")
    numbers = [re.fullmatch(r"-?\d+", side.strip()) for side in (gold, pred)]
    if all(numbers):
        return Comparison(Fraction(gold.strip()) == Fraction(pred.strip()), "number")
    return Comparison(None, gold=gold.strip("$"), pred=pred.strip("$"))
