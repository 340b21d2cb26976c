"""Scratchpad for procedural chains of thought: the worked steps, and arithmetic slips in them.

A family works its problem out on a `Scratchpad`. Worked twice, once with a slip, the two give a
chain that makes a mistake, notices and corrects it:

    17 + 25 = 41. 41 - 8 = 33. So 33.
    Wait, let me check: 17 + 25 = 42, not 41. 42 - 8 = 34. So 34.

The check starts a new line with "Wait", so a wait forced at test time leads to a learned check.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ChainKind = Literal["plain", "check", "correct"]

CHECK = "\nWait, let me check: "
SLIPS = (1, -1, 2, -2, 10, -10)
"""Amounts that a slip can add to a value."""

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


class ImpossibleSlip(Exception):
    """The work cannot continue after this slip."""


@dataclass(frozen=True)
class Slip:
    """Which value is wrong, and by how much."""

    at: int
    """Index of the value, from 0."""
    by: int


class Scratchpad:
    """Lines of work, of which one may have a slip."""

    def __init__(self, slip: Slip | None = None) -> None:
        self.slip = slip
        self.lines: list[tuple[str, str]] = []
        """A line's text and its value."""
        self.num_values = 0
        self.slip_line: int | None = None

    def value(self, correct: int) -> int:
        """The value of the next line: the correct one, unless the slip is here.

        Raises ImpossibleSlip where the value would be negative.
        """
        number, self.num_values = self.num_values, self.num_values + 1
        if self.slip is None or self.slip.at != number:
            return correct
        self.slip_line = len(self.lines)
        if correct + self.slip.by < 0:
            raise ImpossibleSlip
        return correct + self.slip.by

    def write(self, lead: str, value: object = "") -> None:
        """Add a line."""
        self.lines.append((lead, str(value)))

    def calculate(self, left: int, operation: str, right: int, *, lead: str = "") -> int:
        """Add the line `left operation right = value`; operations are + - * and exact /.

        Raises ImpossibleSlip where a division is not exact.
        """
        if operation == "/" and left % right:
            raise ImpossibleSlip
        result = self.value(OPERATIONS[operation](left, right))
        self.write(f"{lead}{left} {operation} {right} = ", result)
        return result

    def text(self, *, against: Scratchpad | None = None) -> str:
        """All lines; where `against` has its slip, the line also gives the wrong value."""
        lines = [lead + value for lead, value in self.lines]
        if against is not None and against.slip_line is not None:
            lines[against.slip_line] += f", not {against.lines[against.slip_line][1]}"
        return ". ".join(lines) + "."


WorkFunction = Callable[[Scratchpad], str]
"""Works a problem out on a scratchpad and returns the answer."""


@dataclass(frozen=True)
class WorkedChain:
    """A worked chain of thought."""

    text: str
    answer: str
    kind: ChainKind
    slip: str | None = None
    """The wrong line of a `correct` chain."""


def write_chain(work: WorkFunction, kind: ChainKind, rng: random.Random) -> WorkedChain:
    """A chain of this kind; a `correct` one becomes a `check` where no slip is possible."""
    correct = Scratchpad()
    answer = work(correct)
    first = f"{correct.text()} So {answer}."
    if kind == "plain":
        return WorkedChain(first, answer, kind)
    slipped = _with_slip(work, correct.num_values, answer, rng) if kind == "correct" else None
    if slipped is None:
        return WorkedChain(f"{first}{CHECK}{correct.text()} Yes, {answer}.", answer, "check")
    wrong, wrong_answer = slipped
    text = f"{wrong.text()} So {wrong_answer}.{CHECK}{correct.text(against=wrong)} So {answer}."
    assert wrong.slip_line is not None
    return WorkedChain(text, answer, "correct", slip="".join(wrong.lines[wrong.slip_line]))


def _with_slip(
    work: WorkFunction, num_values: int, answer: str, rng: random.Random
) -> tuple[Scratchpad, str] | None:
    """The work with a slip that changes the answer, and the wrong answer; None if there is none."""
    slips = [Slip(at, by) for at in range(num_values) for by in SLIPS]
    rng.shuffle(slips)
    for slip in slips:
        scratchpad = Scratchpad(slip)
        try:
            wrong_answer = work(scratchpad)
        except ImpossibleSlip:
            continue
        if wrong_answer != answer:
            return scratchpad, wrong_answer
    return None
