r"""Operators with a bound variable, and matrices: what the parser of expressions hands to a worker.

Example: `\sum_{k=1}^{n} k` is sum(#1, 1, n), whatever its index is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from slowthink.grading.answers.nodes import Node, ParseError


class ExpressionParser(Protocol):
    """What these functions use of the parser in `latex`, which calls them."""

    tokens: list[str]
    position: int
    bound: dict[str, str]
    in_matrix: bool

    def peek(self) -> str: ...
    def advance(self) -> str: ...
    def accept(self, *tokens: str) -> bool: ...
    def expect(self, token: str) -> None: ...
    def parse(self) -> Node: ...
    def nested(self, tokens: list[str], bound: dict[str, str]) -> ExpressionParser: ...
    def sum(self) -> Node: ...
    def term(self) -> Node: ...
    def bracketed(self, opening: str) -> Node: ...
    def argument(self) -> Node: ...
    def subscript(self) -> str: ...


def _over_range(parser: ExpressionParser, name: str) -> Node:
    r"""The sum or product \sum_{k=1}^{n} term; another range, such as k \in S, is kept as text."""
    parser.expect("_")
    after = parser.tokens[parser.position : parser.position + 3]
    if after[:1] != ["{"] or after[2:] != ["="]:
        written = parser.subscript()
        return Node(name, (parser.term(),), name=written)
    parser.position += 3
    low = parser.bracketed("{")
    parser.expect("^")
    return _term_after(parser, name, index=after[1], bounds=(low, parser.argument()))


def _term_after(
    parser: ExpressionParser, name: str, *, index: str, bounds: tuple[Node, ...] = ()
) -> Node:
    """The term after an operator, in which the letter `index` is bound."""
    before = parser.bound
    parser.bound = _with_bound(before, index)
    body = parser.term()
    parser.bound = before
    return Node(name, (body, *bounds))


def _with_bound(bound: dict[str, str], index: str) -> dict[str, str]:
    if not index.isalpha():
        raise ParseError(f"index: {index}")
    return {**bound, index: f"#{len(bound) + 1}"}


def _integral(parser: ExpressionParser, _: str) -> Node:
    r"""\int_a^b f(x) dx. An integral without bounds keeps the name of its variable."""
    bounds = tuple(parser.argument() for sign in ("_", "^") if parser.accept(sign))
    start = end = parser.position
    depth = 0
    while depth or parser.peek() != "d":
        token = parser.advance()
        depth += (token in ("(", "{", "[")) - (token in (")", "}", "]"))
        end = parser.position
    parser.advance()
    variable = parser.advance()
    bound = _with_bound(parser.bound, variable) if bounds else parser.bound
    body = parser.nested(parser.tokens[start:end] or ["1"], bound).parse()
    return Node("int", (body, *(bounds or (Node("sym", name=variable),))))


def _limit(parser: ExpressionParser, name: str) -> Node:
    r"""\lim_{x \to a} term; the node's name is what follows the arrow."""
    parser.expect("_")
    parser.expect("{")
    variable = parser.advance()
    if not parser.accept("\\to", "\\rightarrow"):
        raise ParseError("limit without an arrow")
    target, depth = [], 1
    while depth:
        token = parser.advance()
        depth += (token == "{") - (token == "}")
        target += [] if token in "{}" else [token]
    body = _term_after(parser, name, index=variable)
    op = f"one-sided {name}" if target[-1:] in (["+"], ["-"]) else name
    return body._replace(op=op, name="".join(target).removeprefix("+"))


def _matrix(parser: ExpressionParser, _: str) -> Node:
    r"""\begin{pmatrix} a & b \\ c & d \end{pmatrix}; vmatrix is the determinant."""
    kind = _environment_name(parser)
    if not kind.endswith("matrix") or parser.in_matrix:
        raise ParseError(f"environment {kind}")
    parser.in_matrix = True
    rows = [[parser.sum()]]
    while not parser.accept("\\end"):
        if parser.accept("&"):
            rows[-1].append(parser.sum())
        else:
            parser.expect("\\\\")
            rows.append([parser.sum()])
    parser.in_matrix = False
    if _environment_name(parser) != kind:
        raise ParseError(f"unclosed {kind}")
    if kind == "vmatrix":
        return _determinant(rows)
    return Node("matrix", tuple(Node("row", tuple(row)) for row in rows))


def _environment_name(parser: ExpressionParser) -> str:
    parser.expect("{")
    letters = []
    while not parser.accept("}"):
        letters.append(parser.advance())
    return "".join(letters)


def _determinant(rows: list[list[Node]]) -> Node:
    """Return the determinant of a matrix of at most 3 rows, expanded along the first row."""
    if any(len(row) != len(rows) for row in rows) or len(rows) > 3:
        raise ParseError("determinant")
    if len(rows) == 1:
        return rows[0][0]
    minors = [[row[:i] + row[i + 1 :] for row in rows[1:]] for i in range(len(rows))]
    terms = [
        Node("mul", (entry, _determinant(m))) for entry, m in zip(rows[0], minors, strict=True)
    ]
    tree = Node("sub", (terms[0], terms[1]))
    return Node("add", (tree, terms[2])) if len(rows) == 3 else tree


def _vector(parser: ExpressionParser, _: str) -> Node:
    r"""\vec{AB}, which is the opposite of \vec{BA}."""
    letters = list(_environment_name(parser))
    tree = Node("sym", name="vec " + "".join(sorted(letters)))
    if len(letters) != 2:
        raise ParseError("vector of other than two points")
    return tree if letters == sorted(letters) else Node("neg", (tree,))


READERS: dict[str, Callable[[ExpressionParser, str], Node]] = {
    "sum": _over_range, "prod": _over_range, "int": _integral, "lim": _limit, "begin": _matrix,
    "vec": _vector,
}  # fmt: skip
"""Parser of what follows a command, by the command's name."""
