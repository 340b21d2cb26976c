"""Trees of expressions, and the errors of everything that reads an answer.

Example: x+2 is Node("add", (Node("sym", name="x"), Node("num", value=Fraction(2)))).
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class LimitExceeded(Exception):
    """The text exceeds a limit on length, nesting, digits or size."""


class ParseError(Exception):
    """The rules cannot parse the text, or cannot evaluate or compare what they parsed."""


class Node(NamedTuple):
    """One node of an expression: a number, a symbol (with its name), or an operation.

    Operations in `UNEVALUATED` have no value here; a bound index is renamed to #1, #2, …
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Fraction | None = None
    name: str = ""


UNEVALUATED = frozenset(("sum", "prod", "int", "lim", "matrix"))
"""Operations that only a worker evaluates."""
MISREAD = frozenset(("factorial2", "one-sided lim", "gcd", "lcm"))
"""Operations that a worker takes for others: 7!! for (7!)!, a limit from one side for any."""


def number(value: int | Fraction) -> Node:
    """Return the tree of a number."""
    return Node("num", value=Fraction(value))


def symbols(node: Node) -> frozenset[str]:
    """Return the names of the free symbols of an expression."""
    if node.op == "sym":
        return frozenset((node.name,))
    return frozenset().union(*(symbols(arg) for arg in node.args))


def renamed(node: Node, names: dict[str, str]) -> Node:
    """Return the tree with symbols and operations renamed by `names`."""
    args = tuple(renamed(arg, names) for arg in node.args)
    if node.op == "sym":
        return node._replace(name=names.get(node.name, node.name))
    return node._replace(op=names.get(node.op, node.op), args=args)


def operations(node: Node) -> frozenset[str]:
    """Return the names of all operations in an expression."""
    return frozenset((node.op,)).union(*(operations(arg) for arg in node.args))
