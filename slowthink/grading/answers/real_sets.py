r"""Sets of real numbers: intervals, unions, points and inequalities in one variable.

Example: `of_value(parse_value("-2 \le x < 7"))` is one RealInterval from -2, closed, to 7, open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

from slowthink.grading.answers import latex, numeric
from slowthink.grading.answers.latex import Node, ParseError
from slowthink.grading.answers.values import (
    FLIPPED,
    Relation,
    SetUnion,
    Value,
    ValueList,
    number_of,
)


@dataclass(frozen=True, slots=True)
class RealInterval:
    """From low to high, each end closed or open; closed and low = high for a point."""

    low: Any
    high: Any
    low_closed: bool = False
    high_closed: bool = False


Intervals = tuple[RealInterval, ...]


@dataclass(frozen=True, slots=True)
class RealSet:
    """Disjoint intervals in order, and the name of the variable if there is one."""

    intervals: Intervals
    name: str = ""


ALL = RealInterval(-math.inf, math.inf)


def of_value(value: Value) -> RealSet:
    """Return the set that a value is. Raises ParseError for other values and symbolic ends."""
    if isinstance(value, Relation):
        return _of_relation(value)
    if isinstance(value, SetUnion):
        return _of_union(value)
    if not isinstance(value, ValueList):
        raise ParseError("not a set")
    if value.brackets == "{}":
        points = [_real(number_of(item)) for item in value.items]
        return RealSet(_union(RealInterval(p, p, True, True) for p in points))
    if value.brackets == "" and all(map(_is_interval, value.items)):
        return _of_union(SetUnion(value.items))
    relations = [item for item in value.items if isinstance(item, Relation)]
    if value.brackets == "" and len(relations) == len(value.items):
        return _of_conditions([_of_relation(r) for r in relations if not _states_real(r)])
    if len(value.items) != 2 or value.brackets in ("", ":"):
        raise ParseError("not an interval")
    low, high = (_real(number_of(item)) for item in value.items)
    return RealSet((RealInterval(low, high, value.brackets[0] == "[", value.brackets[1] == "]"),))


def _is_interval(value: Value) -> bool:
    return (
        isinstance(value, ValueList)
        and len(value.items) == 2
        and value.brackets in ("()", "[]", "[)", "(]")
    )


def _states_real(value: Relation) -> bool:
    """Whether a relation only states that its variable is real."""
    return value.signs == ("\\in",) and "R" in re.findall("[A-Z]", value.sides[1])[:1]


def equal(a: RealSet, b: RealSet) -> bool:
    """Whether two sets are equal. The variable's names must be, where both have one."""
    if a.name and b.name and a.name != b.name:
        return False
    return len(a.intervals) == len(b.intervals) and all(
        (x.low_closed, x.high_closed) == (y.low_closed, y.high_closed)
        and numeric.near(x.low, y.low)
        and numeric.near(x.high, y.high)
        for x, y in zip(a.intervals, b.intervals, strict=True)
    )


def _real(value: numeric.Number) -> Any:
    if isinstance(value, complex):
        raise ParseError("not real")
    return value


def _of_union(value: SetUnion) -> RealSet:
    sets = [of_value(item).intervals for item in value.items]
    if value.minus:
        return RealSet(reduce(_intersection, map(_complement, sets[1:]), sets[0]))
    return RealSet(_union_of(sets))


def _of_conditions(sets: Sequence[RealSet]) -> RealSet:
    """Return the set where all conditions hold; if it is empty, where any of them does."""
    if not sets:
        raise ParseError("no condition besides being real")
    if len({real_set.name for real_set in sets}) > 1:
        raise ParseError("several variables")
    intervals = [real_set.intervals for real_set in sets]
    common = reduce(_intersection, intervals[1:], intervals[0])
    return RealSet(common or _union_of(intervals), sets[0].name)


def _of_relation(value: Relation) -> RealSet:
    """Solve each part of a chain for its one variable. Raises ParseError where it is not linear."""
    if "\\in" in value.signs:
        raise ParseError("membership")
    nodes = [latex.parse(side) for side in value.sides]
    names = frozenset().union(*(latex.symbols(node) for node in nodes))
    if len(names) != 1:
        raise ParseError("not one variable")
    (name,) = names
    intervals: Intervals = (ALL,)
    for left, sign, right in zip(nodes, value.signs, nodes[1:], strict=False):
        if "inf" in latex.operations(right) or _is_infinite(left):
            continue
        solution = _solve_absolute(left, sign, right, name)
        solution = solution or _solve(Node("sub", (left, right)), sign, name)
        intervals = _intersection(intervals, solution)
    return RealSet(intervals, name)


def _is_infinite(node: Node) -> bool:
    is_signed = node.op in ("inf", "neg") and not latex.symbols(node)
    return is_signed and "inf" in latex.operations(node)


def _solve_absolute(left: Node, sign: str, right: Node, name: str) -> Intervals | None:
    """Solve |linear| `sign` number, also with the sides swapped; None for other relations."""
    if right.op == "abs":
        left, sign, right = right, FLIPPED[sign], left
    if left.op != "abs" or latex.symbols(right):
        return None
    (inner,) = left.args
    positive = _solve(Node("sub", (inner, right)), sign, name)
    negative = _solve(Node("sub", (Node("neg", (inner,)), right)), sign, name)
    if sign in ("<", "\\le", "\\ne"):
        return _intersection(positive, negative)
    return _union_of([positive, negative])


def _solve(difference: Node, sign: str, name: str) -> Intervals:
    """Solve a linear expression `sign` zero for the symbol `name`."""
    values = [numeric.evaluate(difference, {name: Fraction(x)}) for x in (0, 1, 2, -3, 7)]  # type: ignore[dict-item]
    slope = values[1] - values[0]
    for x, value in zip((2, -3, 7), values[2:], strict=True):
        if not numeric.near(value, values[0] + slope * x):
            raise ParseError("not linear")
    if slope == 0:
        raise ParseError("variable cancels")
    root = _real(-values[0] / slope)
    sign = FLIPPED[sign] if _real(slope) < 0 else sign
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
    complement: Intervals = (ALL,)
    for interval in intervals:
        below = RealInterval(-math.inf, interval.low, False, not interval.low_closed)
        above = RealInterval(interval.high, math.inf, not interval.high_closed, False)
        sides = [side for side in (below, above) if side.low < side.high]
        complement = _intersection(complement, sides)
    return complement


def _union_of(sets: Iterable[Intervals]) -> Intervals:
    return _union(interval for intervals in sets for interval in intervals)


def _union(intervals: Iterable[RealInterval]) -> Intervals:
    """Merge intervals that overlap or touch."""
    merged: list[RealInterval] = []
    for interval in sorted(intervals, key=lambda i: (i.low, not i.low_closed)):
        last = merged[-1] if merged else None
        if last is None or not _touches(last, interval):
            merged.append(interval)
            continue
        high, is_closed = max((last.high, last.high_closed), (interval.high, interval.high_closed))
        merged[-1] = replace(last, high=high, high_closed=is_closed)
    return tuple(merged)


def _touches(left: RealInterval, right: RealInterval) -> bool:
    is_closed = right.low_closed or left.high_closed
    return bool(right.low < left.high or (right.low == left.high and is_closed))
