r"""Sets of real numbers: intervals, unions, points and inequalities in one variable.

Example: `to_real_set(parse_value("-2 \le x < 7"))` is one RealInterval from -2, closed, to 7, open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

from slowthink.grading.answers import latex, nodes, numeric
from slowthink.grading.answers.nodes import Node, ParseError
from slowthink.grading.answers.statements import Statement
from slowthink.grading.answers.values import (
    FLIPPED,
    Expression,
    Relation,
    Value,
    ValueList,
    parse_value,
    to_number,
)


@dataclass(frozen=True, slots=True)
class RealInterval:
    """From low to high, each end closed or open. A point is closed, with low = high."""

    low: Any
    high: Any
    low_closed: bool = False
    high_closed: bool = False


Intervals = tuple[RealInterval, ...]


@dataclass(frozen=True, slots=True)
class RealSet:
    """Disjoint intervals in increasing order, and the variable if relations describe the set."""

    intervals: Intervals
    variable: str = ""


ORDER_SIGNS = frozenset(("<", ">", "=", "\\le", "\\ge", "\\ne"))
_WHOLE_LINE = RealInterval(-math.inf, math.inf)


def to_real_set(value: Value) -> RealSet:
    """Return a value as a set of reals. Raises ParseError for other values and symbolic bounds."""
    if isinstance(value, Relation):
        return _solve_relation(value)
    if isinstance(value, Statement):
        return _evaluate_statement(value)
    if not isinstance(value, ValueList):
        raise ParseError("not a set")
    if value.brackets == "{}":
        points = [_require_real(to_number(item)) for item in value.items]
        return RealSet(_merge_intervals(RealInterval(p, p, True, True) for p in points))
    if value.brackets == "" and all(map(_is_interval, value.items)):
        return _evaluate_statement(Statement(value.word or "or", value.items))
    if value.brackets == "":
        return _combine_conditions([to_real_set(item) for item in value.items], value.word)
    if len(value.items) != 2 or value.brackets in ("", ":"):
        raise ParseError("not an interval")
    low, high = (_require_real(to_number(item)) for item in value.items)
    return RealSet((RealInterval(low, high, value.brackets[0] == "[", value.brackets[1] == "]"),))


def _is_interval(value: Value) -> bool:
    return (
        isinstance(value, ValueList)
        and len(value.items) == 2
        and value.brackets in ("()", "[]", "[)", "(]")
    )


def equal_sets(a: RealSet, b: RealSet) -> bool:
    """Whether two sets are equal, and their variables if both have one."""
    if a.variable and b.variable and a.variable != b.variable:
        return False
    return len(a.intervals) == len(b.intervals) and all(
        (x.low_closed, x.high_closed) == (y.low_closed, y.high_closed)
        and numeric.is_near(x.low, y.low)
        and numeric.is_near(x.high, y.high)
        for x, y in zip(a.intervals, b.intervals, strict=True)
    )


_CASE_POINTS = (Fraction(-23, 10), Fraction(-1), Fraction(-2, 5), Fraction(0), Fraction(3, 5),
                Fraction(1), Fraction(17, 10), Fraction(16, 5))  # fmt: skip
"""Points at which cases are compared with a formula."""


def equal_cases(cases: ValueList, other: Expression) -> bool:
    """Whether a formula has the value of the case that holds, wherever one of them does."""
    rows = [row.items for row in cases.items if isinstance(row, ValueList)]
    sets = [to_real_set(condition) for _, condition in rows]
    names = {real_set.variable for real_set in sets} | other.symbols
    if len(names) != 1:
        return False
    (name,) = names
    found = [
        (value, point)
        for point in _CASE_POINTS
        for (value, _), real_set in zip(rows, sets, strict=True)
        if any(_contains(interval, point) for interval in real_set.intervals)
    ]
    return len(found) > 2 and all(
        isinstance(value, Expression)
        and numeric.is_near(*(numeric.evaluate(v.node, {name: point}) for v in (value, other)))  # type: ignore[dict-item]
        for value, point in found
    )


def _contains(interval: RealInterval, point: Fraction) -> bool:
    at_end = (interval.low_closed and point == interval.low) or (
        interval.high_closed and point == interval.high
    )
    return bool(interval.low < point < interval.high or at_end)


def _require_real(value: numeric.Number) -> Any:
    if isinstance(value, complex):
        raise ParseError("not real")
    return value


def _evaluate_statement(value: Statement) -> RealSet:
    """Return the union, intersection or complement of sets of one variable."""
    sets = [to_real_set(part) for part in value.parts]
    variables = {real_set.variable for real_set in sets if real_set.variable}
    if len(variables) > 1:
        raise ParseError("several variables")
    intervals = [real_set.intervals for real_set in sets]
    if value.op == "not":
        result = _complement(intervals[0])
    elif value.op in ("and", "or"):
        join = _intersection if value.op == "and" else _union_of_two
        result = reduce(join, intervals[1:], intervals[0])
    else:
        raise ParseError(f"set by {value.op}")
    return RealSet(result, next(iter(variables), ""))


def _combine_conditions(sets: Sequence[RealSet], joined: str) -> RealSet:
    """Return the set of conditions in a list. With commas all hold; if none can, any of them."""
    if len({real_set.variable for real_set in sets}) > 1:
        raise ParseError("several variables")
    intervals = [real_set.intervals for real_set in sets]
    common = reduce(_intersection, intervals[1:], intervals[0])
    if joined == "or" or (not common and not joined):
        return RealSet(_union(intervals), sets[0].variable)
    return RealSet(common, sets[0].variable)


def _solve_relation(value: Relation) -> RealSet:
    """Solve a relation for its one variable. Raises ParseError if it is not linear."""
    if value.signs[-1] == "\\in" and len(value.signs) == 1 and value.sides[0].isalpha():
        return replace(to_real_set(parse_value(value.sides[1])), variable=value.sides[0])
    if not set(value.signs) <= ORDER_SIGNS:
        raise ParseError("no inequality")
    trees = [latex.parse(side) for side in value.sides]
    names = frozenset().union(*(nodes.symbols(tree) for tree in trees))
    if len(names) != 1:
        raise ParseError("not exactly one variable")
    (variable,) = names
    intervals: Intervals = (_WHOLE_LINE,)
    for left, sign, right in zip(trees, value.signs, trees[1:], strict=False):
        if "inf" in nodes.operations(right) or _is_infinite(left):
            continue
        solution = _solve_absolute(left, sign, right, variable)
        solution = solution or _solve(Node("sub", (left, right)), sign, variable)
        intervals = _intersection(intervals, solution)
    return RealSet(intervals, variable)


def _is_infinite(node: Node) -> bool:
    """Whether a node is infinity, with or without a minus sign."""
    is_signed = node.op in ("inf", "neg") and not nodes.symbols(node)
    return is_signed and "inf" in nodes.operations(node)


def _solve_absolute(left: Node, sign: str, right: Node, variable: str) -> Intervals | None:
    """Solve |linear| `sign` number, in either order of sides; None for other relations."""
    if right.op == "abs":
        left, sign, right = right, FLIPPED[sign], left
    if left.op != "abs" or nodes.symbols(right):
        return None
    (inner,) = left.args
    positive = _solve(Node("sub", (inner, right)), sign, variable)
    negative = _solve(Node("sub", (Node("neg", (inner,)), right)), sign, variable)
    if sign in ("<", "\\le", "\\ne"):
        return _intersection(positive, negative)
    return _union([positive, negative])


def _solve(difference: Node, sign: str, variable: str) -> Intervals:
    """Solve a linear expression `sign` zero for the symbol `variable`."""
    values = [numeric.evaluate(difference, {variable: Fraction(x)}) for x in (0, 1, 2, -3, 7)]  # type: ignore[dict-item]
    slope = values[1] - values[0]
    for x, value in zip((2, -3, 7), values[2:], strict=True):
        if not numeric.is_near(value, values[0] + slope * x):
            raise ParseError("not linear")
    if slope == 0:
        raise ParseError("variable cancels")
    root = _require_real(-values[0] / slope)
    sign = FLIPPED[sign] if _require_real(slope) < 0 else sign
    if sign == "=":
        return (RealInterval(root, root, True, True),)
    if sign == "\\ne":
        return _complement((RealInterval(root, root, True, True),))
    closed = sign in ("\\le", "\\ge")
    if sign in ("<", "\\le"):
        return (RealInterval(-math.inf, root, False, closed),)
    return (RealInterval(root, math.inf, closed, False),)


def _intersection(a: Sequence[RealInterval], b: Sequence[RealInterval]) -> Intervals:
    intervals = []
    for x in a:
        for y in b:
            low = max((x.low, not x.low_closed), (y.low, not y.low_closed))
            high = min((x.high, x.high_closed), (y.high, y.high_closed))
            is_point = low[0] == high[0] and not low[1] and high[1]
            if low[0] < high[0] or is_point:
                intervals.append(RealInterval(low[0], high[0], not low[1], high[1]))
    return tuple(sorted(intervals, key=lambda interval: (interval.low, interval.high)))


def _complement(intervals: Intervals) -> Intervals:
    complement: Intervals = (_WHOLE_LINE,)
    for interval in intervals:
        below = RealInterval(-math.inf, interval.low, False, not interval.low_closed)
        above = RealInterval(interval.high, math.inf, not interval.high_closed, False)
        sides = [side for side in (below, above) if side.low < side.high]
        complement = _intersection(complement, sides)
    return complement


def _union(sets: Iterable[Intervals]) -> Intervals:
    return _merge_intervals(interval for intervals in sets for interval in intervals)


def _union_of_two(a: Intervals, b: Intervals) -> Intervals:
    return _union((a, b))


def _merge_intervals(intervals: Iterable[RealInterval]) -> Intervals:
    """Merge intervals that overlap or touch."""
    merged: list[RealInterval] = []
    for interval in sorted(intervals, key=lambda i: (i.low, not i.low_closed)):
        last = merged[-1] if merged else None
        if last is None or not _touch(last, interval):
            merged.append(interval)
            continue
        high, is_closed = max((last.high, last.high_closed), (interval.high, interval.high_closed))
        merged[-1] = replace(last, high=high, high_closed=is_closed)
    return tuple(merged)


def _touch(left: RealInterval, right: RealInterval) -> bool:
    is_closed = right.low_closed or left.high_closed
    return bool(right.low < left.high or (right.low == left.high and is_closed))
