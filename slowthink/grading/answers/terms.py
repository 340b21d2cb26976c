r"""Whether two numbers or terms are equal, with their units, percent signs, angles and rounding.

Example: 2 km equals 2000 m, 50\% equals 0.5, 60^\circ equals \frac{\pi}{3}.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from slowthink.grading.answers import nodes, numeric
from slowthink.grading.answers.nodes import Node
from slowthink.grading.answers.units import PERCENT, Unit, conversion_factor, stated_unit
from slowthink.grading.answers.values import Expression

_CONSTANTS = frozenset(("C", "c", "K", "k", "C_1", "c_1"))
"""Names of a constant of integration: x^2 + C is x^2 + c."""
DECIMAL_TOLERANCE = 2e-4
"""Relative tolerance if one of two expressions with symbols has a rounded decimal for a root."""
_ANGLE_OPERATIONS = frozenset(
    ("pi", "arcsin", "arccos", "arctan", "arccot", "asin", "acos", "atan")
)
"""Operations in a number without a unit which show that it is an angle in radians."""


@dataclass(frozen=True, slots=True)
class ComparisonRules:
    """Rules of a comparison that depend on the problem; `tolerance` is relative."""

    tolerance: float | None = None
    unit: str | None = None
    is_ordered: bool = False
    is_rounded: bool = False
    asks_percent: bool = False


def equal_expressions(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    if rules.unit and gold.unit is None and not gold.symbols:
        gold = replace(gold, unit=stated_unit(rules.unit))
    if "percent" in {side.unit.dimension for side in (gold, pred) if side.unit}:
        return _equal_percentages(gold, pred, rules)
    if (gold.unit is None) != (pred.unit is None) and (gold.symbols or pred.symbols):
        return _equal_terms(_unit_as_symbol(gold), _unit_as_symbol(pred), rules) or (
            gold.symbols == pred.symbols and _equal_terms(gold, pred, rules)
        )
    if _is_degree(gold.unit) != _is_degree(pred.unit):
        return _equal_angles(gold, pred, rules)
    factor = conversion_factor(gold.unit, pred.unit)
    if factor is None:
        return False
    return _equal_terms(gold, _scaled(pred, factor), rules)


def _scaled(value: Expression, factor: Fraction) -> Expression:
    return value if factor == 1 else _multiply(value, nodes.number(factor))


def _multiply(value: Expression, factor: Node) -> Expression:
    return Expression(Node("mul", (value.node, factor)), "", value.unit)


def _unit_as_symbol(value: Expression) -> Expression:
    """Write 0.64 N as 0.64 times the symbol N, to compare it with a side that has this symbol."""
    if value.unit is None:
        return value
    return replace(_multiply(value, Node("sym", name=value.unit.name)), text=value.text)


def _is_degree(unit: Unit | None) -> bool:
    return unit is not None and unit.dimension == "angle"


def _equal_angles(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """Compare degrees with a number without unit, also in radians if it has pi or an arcus."""
    if (gold.unit is None or pred.unit is None) and _equal_terms(gold, pred, rules):
        return True
    operations = nodes.operations(gold.node) | nodes.operations(pred.node)
    is_in_radians = bool(operations & _ANGLE_OPERATIONS)
    return is_in_radians and _equal_terms(_to_radians(gold), _to_radians(pred), rules)


def _to_radians(value: Expression) -> Expression:
    if not _is_degree(value.unit):
        return value
    return _multiply(value, Node("div", (Node("pi"), nodes.number(180))))


def _equal_percentages(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """Compare if a side is in percent: for 10% also 10 and 0.1 are correct; for 0.1 also 10%. Of
    less than 1%, the number alone would be a share of 1."""
    if gold.unit and pred.unit:
        if (factor := conversion_factor(gold.unit, pred.unit)) is None:
            return False
        is_same = gold.unit.dimension == pred.unit.dimension
        return is_same and _equal_terms(gold, _scaled(pred, factor), rules)
    if (gold.unit or pred.unit or PERCENT).factor != 1:  # per thousand
        gold, pred = (
            _scaled(side, side.unit.factor) if side.unit else side for side in (gold, pred)
        )
    hundredth = nodes.number(Fraction(1, 100))
    ratios = [_multiply(side, hundredth) if side.unit else side for side in (gold, pred)]
    if _equal_terms(ratios[0], ratios[1], rules):
        return True
    return _equal_terms(gold, pred, rules) and (
        rules.asks_percent or gold.symbols != frozenset() or abs(numeric.evaluate(gold.node)) >= 1
    )


def _equal_terms(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """Whether two terms are equal for all values of their symbols, ignoring units.

    A logarithm without a base may be natural or decimal.
    """
    if gold.node == pred.node or _equal_values(gold, pred, rules):
        return True
    if "log" not in nodes.operations(gold.node) | nodes.operations(pred.node):
        return False
    gold, pred = (
        replace(side, node=nodes.renamed(side.node, {"log": "lg"})) for side in (gold, pred)
    )
    return _equal_values(gold, pred, rules)


def _with_constant_of(gold: Expression, pred: Expression) -> Expression:
    """Return the prediction with its constant of integration called as in the reference answer."""
    names = [gold.symbols - pred.symbols, pred.symbols - gold.symbols]
    if not all(len(own) == 1 and own <= _CONSTANTS for own in names) or len(gold.symbols) < 2:
        return pred
    (gold_name,), (pred_name,) = names
    if not all(numeric.is_additive(s.node, n) for s, n in ((gold, gold_name), (pred, pred_name))):
        return pred
    return replace(pred, node=nodes.renamed(pred.node, {pred_name: gold_name}))


def _equal_values(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    if gold.symbols or pred.symbols:
        pred = _with_constant_of(gold, pred)
        is_rounded = numeric.has_long_decimal(gold.text) != numeric.has_long_decimal(pred.text)
        tolerance = DECIMAL_TOLERANCE if is_rounded else numeric.PRECISION
        return numeric.agree(gold.node, pred.node, relative=tolerance)
    return numeric.equal_constants(
        numeric.evaluate_reference(gold.node),
        numeric.evaluate(pred.node),
        gold_decimal=numeric.parse_decimal(gold.text),
        pred_decimal=numeric.parse_decimal(pred.text),
        tolerance=rules.tolerance,
        is_rounded=rules.is_rounded,
    )
