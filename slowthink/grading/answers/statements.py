r"""Statements of logic and of set algebra: and, or, not, implication; \cap, \cup, \setminus, c.

Two statements are equal if they have the same truth table over their atoms, so that De Morgan's
laws hold and p \implies q is not q \implies p. Example: `A \setminus B` is A and not B.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slowthink.grading.answers.nodes import ParseError

MAX_ATOMS = 8
"""Most atoms of two statements whose truth tables are compared."""

LOGIC = ("\\iff", "\\implies", "\\impliedby", "\\lor", "\\land")
"""Infix operators on statements, from the loosest to the tightest."""
SETS = ("\\cup", "\\cap", "\\backslash")
"""Infix operators on sets, which have no order."""
_LOGIC_SIGN = re.compile(r"\\(?:iff|implies|impliedby|lor|land|neg)(?![a-zA-Z])")
_SET_SIGN = re.compile(r"\\(?:cup|cap|backslash|complement)(?![a-zA-Z])")
_COMPLEMENT = re.compile(r"\^\s*(?:c|\{\s*(?:c|C|\\complement)\s*\}|C|\\complement)$|_\{bar\}$|'$")
_NOT = re.compile(r"^(?:\\neg|\\complement(?:\s*_\s*(?:\{\w\}|\w))?)(?![a-zA-Z])\s*")


@dataclass(frozen=True, slots=True)
class Statement:
    """An operation, "and", "or", "not", "implies" or "iff", on statements or other values."""

    op: str
    parts: tuple[Any, ...]


def is_logic(text: str) -> bool:
    """Whether a normalised text has a sign of logic."""
    return "\\" in text and _LOGIC_SIGN.search(text) is not None


def is_set_algebra(text: str) -> bool:
    """Whether a normalised text has a sign of set algebra."""
    return "\\" in text and _SET_SIGN.search(text) is not None


@dataclass(frozen=True, slots=True)
class StatementReader:
    """Reads statements; `split` divides a text at a sign outside brackets."""

    operators: tuple[str, ...]
    split: Callable[[str, str], list[str]]
    read_atom: Callable[[str], Any]

    def read(self, text: str) -> Any:
        """Return the statement of a text; its atom if it has no sign.

        Raises ParseError where the order of operations is not defined, as in A \\cup B \\cap C.
        """
        found = [(o, parts) for o in self.operators if len(parts := self.split(text, o)) > 1]
        if not found:
            return self._read_unary(text.strip())
        if len(found) > 1 and self.operators is SETS:
            raise ParseError("several set operations without brackets")
        operator, parts = found[0]
        return _combined(operator, [self.read(part) for part in parts])

    def _read_unary(self, text: str) -> Any:
        negated = _NOT.sub("", text)
        if negated == text and self.operators is SETS:
            negated = _COMPLEMENT.sub("", text)
            if negated != text and not re.fullmatch(r"\w|\([^()]*\)", negated):
                raise ParseError("complement of a part")
        if negated != text:
            return Statement("not", (self.read(negated),))
        if text.startswith("(") and text.endswith(")") and (is_logic(text) or is_set_algebra(text)):
            return self.read(text[1:-1])
        return self.read_atom(text)


def _combined(operator: str, values: list[Any]) -> Statement:
    if operator in ("\\lor", "\\cup"):
        return Statement("or", tuple(values))
    if operator in ("\\land", "\\cap"):
        return Statement("and", tuple(values))
    if operator == "\\backslash":
        return Statement("and", (values[0], *(Statement("not", (other,)) for other in values[1:])))
    if operator == "\\impliedby":
        return Statement("implies", tuple(values[::-1]))
    return Statement(operator[1:], tuple(values))


def equal_statements(gold: Any, pred: Any, *, equal: Callable[[Any, Any], bool]) -> bool:
    """Whether two statements, or other values, have the same truth table over their atoms."""
    atoms: list[Any] = []
    tables = [_with_numbers(side, atoms, equal) for side in (gold, pred)]
    if len(atoms) > MAX_ATOMS:
        raise ParseError("too many atoms")
    return all(
        _holds(tables[0], row) == _holds(tables[1], row)
        for row in itertools.product((False, True), repeat=len(atoms))
    )


def _with_numbers(value: Any, atoms: list[Any], equal: Callable[[Any, Any], bool]) -> Any:
    """Return a statement whose atoms are replaced by their index in `atoms`, which grows."""
    if isinstance(value, Statement):
        return Statement(value.op, tuple(_with_numbers(part, atoms, equal) for part in value.parts))
    for index, atom in enumerate(atoms):
        if equal(atom, value):
            return index
    atoms.append(value)
    return len(atoms) - 1


def _holds(statement: Any, row: tuple[bool, ...]) -> bool:
    if not isinstance(statement, Statement):
        return row[int(statement)]
    values = [_holds(part, row) for part in statement.parts]
    match statement.op:
        case "and":
            return all(values)
        case "or":
            return any(values)
        case "not":
            return not values[0]
        case "implies":
            return all(not a or b for a, b in itertools.pairwise(values))
    return len(set(values)) == 1
