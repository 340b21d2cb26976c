r"""Sets of real numbers: intervals, unions, points and inequalities in one variable.

One real record: `of_value(read("-2 \le x < 7"))` is one Span from -2, closed, to 7, open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from slowthink.grading.answers import latex, numeric
from slowthink.grading.answers.latex import ParseError
from slowthink.grading.answers.values import Relation, SetUnion, Value, ValueList, number_of

_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne", "=": "="}


@dataclass(frozen=True, slots=True)
class RealInterval:
    """From low to high, each end closed or open."""

    low: Any
    high: Any
    low_closed: bool = False
    high_closed: bool = False


@dataclass(frozen=True, slots=True)
class RealSet:
    """Spans in order, apart from each other; and the variable's name, if one was used."""

    spans: tuple[RealInterval, ...]
    name: str = ""


ALL = RealInterval(-math.inf, math.inf)


def of_value(value: Value) -> RealSet:
    """The set that a value is. Raises ParseError where it is none, or has symbols in its ends."""
    if isinstance(value, Relation):
        return _of_relation(value)
    if isinstance(value, SetUnion):
        return _of_union(value)
    if not isinstance(value, ValueList):
        raise ParseError("no set")
    if value.brackets == "{}":
        points = [_real(number_of(item)) for item in value.items]
        return RealSet(_joined([RealInterval(p, p, True, True) for p in points]))
    if value.brackets == "" and all(_is_interval(item) for item in value.items):
        return _of_union(SetUnion(value.items))
    if value.brackets == "" and all(isinstance(item, Relation) for item in value.items):
        return _of_several(
            [
                _of_relation(item)
                for item in value.items
                if isinstance(item, Relation) and not _says_real(item)
            ]
        )
    if len(value.items) != 2 or value.brackets in ("", ":"):
        raise ParseError("no interval")
    low, high = (_real(number_of(item)) for item in value.items)
    return RealSet((RealInterval(low, high, value.brackets[0] == "[", value.brackets[1] == "]"),))


def _is_interval(value: Value) -> bool:
    return (
        isinstance(value, ValueList)
        and len(value.items) == 2
        and value.brackets in ("()", "[]", "[)", "(]")
    )


def _says_real(value: Relation) -> bool:
    """Whether a relation only says that its variable is real."""
    return value.signs == ("\\in",) and "R" in re.findall("[A-Z]", value.sides[1])[:1]


def equal(a: RealSet, b: RealSet) -> bool:
    """Whether two sets are the same; names, where both have one, must be."""
    if a.name and b.name and a.name != b.name:
        return False
    return len(a.spans) == len(b.spans) and all(
        (x.low_closed, x.high_closed) == (y.low_closed, y.high_closed)
        and numeric.near(x.low, y.low)
        and numeric.near(x.high, y.high)
        for x, y in zip(a.spans, b.spans, strict=True)
    )


def _real(value: numeric.Number) -> Any:
    if isinstance(value, complex):
        raise ParseError("not real")
    return value


def _of_union(value: SetUnion) -> RealSet:
    sets = [of_value(item) for item in value.items]
    if not value.minus:
        return RealSet(_joined([span for one in sets for span in one.spans]))
    spans = sets[0].spans
    for one in sets[1:]:
        spans = _common(spans, _complement(one.spans))
    return RealSet(spans)


def _of_several(sets: Sequence[RealSet]) -> RealSet:
    """Conditions side by side hold together; where none would be left they are alternatives."""
    if len({one.name for one in sets}) > 1:
        raise ParseError("several variables")
    spans = sets[0].spans
    for one in sets[1:]:
        spans = _common(spans, one.spans)
    if not spans:
        spans = _joined([span for one in sets for span in one.spans])
    return RealSet(spans, sets[0].name)


def _of_relation(value: Relation) -> RealSet:
    """Solve each link of a chain in its one variable; linear ones only."""
    if "\\in" in value.signs:
        raise ParseError("membership")
    nodes = [latex.parse(side) for side in value.sides]
    names = frozenset().union(*(latex.symbols(node) for node in nodes))
    if len(names) != 1:
        raise ParseError("not one variable")
    (name,) = names
    spans: tuple[RealInterval, ...] = (ALL,)
    for left, sign, right in zip(nodes, value.signs, nodes[1:], strict=False):
        difference = latex.Node("sub", (left, right))
        if (
            left.op in ("inf", "neg")
            and not latex.symbols(left)
            and "inf" in latex.operations(left)
        ):
            continue
        if "inf" in latex.operations(right):
            continue
        spans = _common(spans, _link(left, sign, right, name) or _solve(difference, sign, name))
    return RealSet(spans, name)


def _link(
    left: latex.Node, sign: str, right: latex.Node, name: str
) -> tuple[RealInterval, ...] | None:
    """Where |linear| stands in `sign` to a number, on either side; None for other links."""
    if right.op == "abs":
        left, sign, right = right, _FLIPPED[sign], left
    if left.op != "abs" or latex.symbols(right):
        return None
    (inner,) = left.args
    near, far = (
        _solve(latex.Node("sub", (inner, right)), sign, name),
        _solve(latex.Node("sub", (latex.Node("neg", (inner,)), right)), sign, name),
    )
    if sign in ("<", "\\le", "\\ne"):
        return _common(near, far)
    return _joined([*near, *far])


def _solve(difference: latex.Node, sign: str, name: str) -> tuple[RealInterval, ...]:
    """Where a linear expression stands in `sign` to zero."""
    values = [numeric.evaluate(difference, {name: Fraction(x)}) for x in (0, 1, 2, -3, 7)]  # type: ignore[dict-item]
    slope = values[1] - values[0]
    for x, value in zip((2, -3, 7), values[2:], strict=True):
        if not numeric.near(value, values[0] + slope * x):
            raise ParseError("not linear")
    if slope == 0:
        raise ParseError("no variable left")
    root = _real(-values[0] / slope)
    sign = _FLIPPED[sign] if _real(slope) < 0 else sign
    if sign == "=":
        return (RealInterval(root, root, True, True),)
    if sign == "\\ne":
        return _complement((RealInterval(root, root, True, True),))
    closed = sign in ("\\le", "\\ge")
    if sign in ("<", "\\le"):
        return (RealInterval(-math.inf, root, False, closed),)
    return (RealInterval(root, math.inf, closed, False),)


def _common(a: Sequence[RealInterval], b: Sequence[RealInterval]) -> tuple[RealInterval, ...]:
    """Intersection."""
    found = []
    for x in a:
        for y in b:
            low = max((x.low, not x.low_closed), (y.low, not y.low_closed))
            high = min((x.high, x.high_closed), (y.high, y.high_closed))
            is_point = low[0] == high[0] and not low[1] and high[1]
            if low[0] < high[0] or is_point:
                found.append(RealInterval(low[0], high[0], not low[1], high[1]))
    return tuple(sorted(found, key=lambda span: (span.low, span.high)))


def _complement(spans: Sequence[RealInterval]) -> tuple[RealInterval, ...]:
    found: tuple[RealInterval, ...] = (ALL,)
    for span in spans:
        sides = [s for s in (
            RealInterval(-math.inf, span.low, False, not span.low_closed),
            RealInterval(span.high, math.inf, not span.high_closed, False),
        ) if s.low < s.high]  # fmt: skip
        found = _common(found, sides)
    return found


def _joined(spans: Sequence[RealInterval]) -> tuple[RealInterval, ...]:
    """Union: spans that touch become one."""
    found: list[RealInterval] = []
    for span in sorted(spans, key=lambda s: (s.low, not s.low_closed)):
        last = found[-1] if found else None
        touches = last is not None and (
            span.low < last.high
            or (span.low == last.high and (span.low_closed or last.high_closed))
        )
        if last is None or not touches:
            found.append(span)
            continue
        high, closed = max((last.high, last.high_closed), (span.high, span.high_closed))
        found[-1] = replace(last, high=high, high_closed=closed)
    return tuple(found)
