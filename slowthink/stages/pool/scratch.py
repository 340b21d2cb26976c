"""Paper and pencil for procedural chains of thought: steps are written, and slips made, here.

A family works its problem out on a `Scratch`. Worked twice, once with a slip, the two sheets give a
chain that goes wrong, notices, and corrects itself:

    17 + 25 = 41. 41 - 8 = 33. So 33.
    Wait, let me check: 17 + 25 = 42, not 41. 42 - 8 = 34. So 34.

The check begins a new line with "Wait": a wait forced at test time leads into a learned check.
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
"""What a slip adds to a value."""


OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,
}


class ImpossibleSlip(Exception):
    """The work cannot be carried on after this slip."""


@dataclass(frozen=True)
class Slip:
    """Which value comes out wrong, and by how much."""

    at: int
    """The how-manyth value, from 0."""
    by: int


class Scratch:
    """One sheet: lines of work, of which one may hold a slip."""

    def __init__(self, slip: Slip | None = None) -> None:
        self.slip = slip
        self.lines: list[tuple[str, str]] = []
        """What a line says, and the value it comes to."""
        self.num_values = 0
        self.slip_line: int | None = None

    def value(self, right: int) -> int:
        """The value of the next line: the right one, but for the slip."""
        number, self.num_values = self.num_values, self.num_values + 1
        if self.slip is None or self.slip.at != number:
            return right
        self.slip_line = len(self.lines)
        if right + self.slip.by < 0:
            raise ImpossibleSlip
        return right + self.slip.by

    def write(self, lead: str, value: object = "") -> None:
        """Put down a line."""
        self.lines.append((lead, str(value)))

    def calculate(self, left: int, operation: str, right: int, *, lead: str = "") -> int:
        """Put down `left operation right = value`; operations are + - * and exact /."""
        if operation == "/" and left % right:
            raise ImpossibleSlip
        result = self.value(OPERATIONS[operation](left, right))
        self.write(f"{lead}{left} {operation} {right} = ", result)
        return result

    def text(self, *, against: Scratch | None = None) -> str:
        """All lines; `against` is the sheet whose slip is pointed out."""
        lines = [lead + value for lead, value in self.lines]
        if against is not None and against.slip_line is not None:
            lines[against.slip_line] += f", not {against.lines[against.slip_line][1]}"
        return ". ".join(lines) + "."


Work = Callable[[Scratch], str]
"""Works a problem out on a sheet and returns the answer."""


@dataclass(frozen=True)
class WorkedChain:
    """A worked chain of thought."""

    text: str
    answer: str
    kind: ChainKind
    slip: str | None = None
    """The one false line of a `correct` chain."""


def write_chain(work: Work, kind: ChainKind, rng: random.Random) -> WorkedChain:
    """The chain of this kind; a `correct` one whose work bears no slip becomes a `check`."""
    right = Scratch()
    answer = work(right)
    first = f"{right.text()} So {answer}."
    if kind == "plain":
        return WorkedChain(first, answer, kind)
    slipped = _slipped(work, right.num_values, answer, rng) if kind == "correct" else None
    if slipped is None:
        return WorkedChain(f"{first}{CHECK}{right.text()} Yes, {answer}.", answer, "check")
    wrong, wrong_answer = slipped
    text = f"{wrong.text()} So {wrong_answer}.{CHECK}{right.text(against=wrong)} So {answer}."
    assert wrong.slip_line is not None
    return WorkedChain(text, answer, "correct", slip="".join(wrong.lines[wrong.slip_line]))


def _slipped(
    work: Work, num_values: int, answer: str, rng: random.Random
) -> tuple[Scratch, str] | None:
    """The work with a slip that changes the answer, and that answer."""
    slips = [Slip(at, by) for at in range(num_values) for by in SLIPS]
    rng.shuffle(slips)
    for slip in slips:
        sheet = Scratch(slip)
        try:
            wrong_answer = work(sheet)
        except ImpossibleSlip:
            continue
        if wrong_answer != answer:
            return sheet, wrong_answer
    return None
