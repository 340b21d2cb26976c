r"""Sets of real numbers: intervals, unions, points and inequalities in one variable.

Example: `to_real_set(parse_value("-2 \le x < 7"))` is one RealInterval from -2, closed, to 7, open.
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


_WHOLE_LINE = RealInterval(-math.inf, math.inf)


def to_real_set(value: Value) -> RealSet:
    """Return a value as a set of reals. Raises ParseError for other values and symbolic bounds."""
    if isinstance(value, Relation):
        return _solve_relation(value)
    if isinstance(value, SetUnion):
        return _evaluate_set_operation(value)
    if not isinstance(value, ValueList):
        raise ParseError("not a set")
    if value.brackets == "{}":
        points = [_require_real(to_number(item)) for item in value.items]
        return RealSet(_merge_intervals(RealInterval(p, p, True, True) for p in points))
    if value.brackets == "" and all(map(_is_interval, value.items)):
        return _evaluate_set_operation(SetUnion(value.items))
    relations = [item for item in value.items if isinstance(item, Relation)]
    if value.brackets == "" and len(relations) == len(value.items):
        return _combine_conditions([_solve_relation(r) for r in relations if not _states_real(r)])
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


def _states_real(value: Relation) -> bool:
    """Whether a relation only states that its variable is real, as x \\in \\mathbb{R} does."""
    return value.signs == ("\\in",) and "R" in re.findall("[A-Z]", value.sides[1])[:1]


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


def _require_real(value: numeric.Number) -> Any:
    if isinstance(value, complex):
        raise ParseError("not real")
    return value


def _evaluate_set_operation(value: SetUnion) -> RealSet:
    sets = [to_real_set(item).intervals for item in value.items]
    if value.minus:
        return RealSet(reduce(_intersection, map(_complement, sets[1:]), sets[0]))
    return RealSet(_union(sets))


def _combine_conditions(sets: Sequence[RealSet]) -> RealSet:
    """Return the set where all conditions hold; if it is empty, where any of them does."""
    if not sets:
        raise ParseError("no condition except being real")
    if len({real_set.variable for real_set in sets}) > 1:
        raise ParseError("several variables")
    intervals = [real_set.intervals for real_set in sets]
    common = reduce(_intersection, intervals[1:], intervals[0])
    return RealSet(common or _union(intervals), sets[0].variable)


def _solve_relation(value: Relation) -> RealSet:
    """Solve a relation for its one variable. Raises ParseError if it is not linear."""
    if "\\in" in value.signs:
        raise ParseError("membership")
    nodes = [latex.parse(side) for side in value.sides]
    names = frozenset().union(*(latex.symbols(node) for node in nodes))
    if len(names) != 1:
        raise ParseError("not exactly one variable")
    (variable,) = names
    intervals: Intervals = (_WHOLE_LINE,)
    for left, sign, right in zip(nodes, value.signs, nodes[1:], strict=False):
        if "inf" in latex.operations(right) or _is_infinite(left):
            continue
        solution = _solve_absolute(left, sign, right, variable)
        solution = solution or _solve(Node("sub", (left, right)), sign, variable)
        intervals = _intersection(intervals, solution)
    return RealSet(intervals, variable)


def _is_infinite(node: Node) -> bool:
    """Whether a node is infinity, with or without a minus sign."""
    is_signed = node.op in ("inf", "neg") and not latex.symbols(node)
    return is_signed and "inf" in latex.operations(node)


def _solve_absolute(left: Node, sign: str, right: Node, variable: str) -> Intervals | None:
    """Solve |linear| `sign` number, in either order of sides; None for other relations."""
    if right.op == "abs":
        left, sign, right = right, FLIPPED[sign], left
    if left.op != "abs" or latex.symbols(right):
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
