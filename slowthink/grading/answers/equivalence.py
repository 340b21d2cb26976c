r"""Whether two values are the same answer, by kind of value.

Example: `equivalent(parse_value("x \\ge 5"), parse_value("[5,\\infty)"), rules=ComparisonRules())`
is True.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from slowthink.grading.answers import latex, numeric, real_sets
from slowthink.grading.answers.latex import Node, ParseError
from slowthink.grading.answers.normalise import without_spaces
from slowthink.grading.answers.units import Unit, conversion_factor, stated_unit
from slowthink.grading.answers.values import (
    ALL_REALS,
    FLIPPED,
    Expression,
    Matrix,
    NumberInBase,
    Relation,
    SetUnion,
    Value,
    ValueList,
    WordAnswer,
    parse_value,
    to_number,
)

MAX_UNORDERED_ITEMS = 60
"""Longest list whose items may be in any order; a longer list is compared in order."""
DECIMAL_TOLERANCE = 2e-4
"""Relative tolerance if one of two expressions with symbols has a rounded decimal for a root."""
CHAIN_TOLERANCE = 0.01
"""Relative tolerance between the sides of a chained equation of numbers: 3\\sqrt{2} = 4.24."""

_ANGLE_OPERATIONS = frozenset(
    ("pi", "arcsin", "arccos", "arctan", "arccot", "asin", "acos", "atan")
)
"""Operations in a number without a unit which show that it is an angle in radians."""
_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\\?\w+)")
_ARGUMENT_LIST = re.compile(r"(?<=[A-Za-z'}])\([^()]*\)")
_NAMED_QUANTITY = re.compile(
    r"(?:\\(?:angle|triangle|max|min|sup|inf|Delta|arg|deg|dim|det)|\\text\{[^{}]*\})*"
    r"\\?[A-Za-z]*'*"
)
_RATIO_PART = re.compile(r"[\[|]?[A-Z]+'*[\]|]?|\\?partial[a-zA-Z]?|d?[a-z]")
_FUNCTION_AND_ARGUMENT = re.compile(r"(\\?[A-Za-z]+)\(([a-z])\)")


@dataclass(frozen=True, slots=True)
class ComparisonRules:
    """Rules of a comparison that depend on the problem; `tolerance` is relative."""

    tolerance: float | None = None
    unit: str | None = None
    is_ordered: bool = False
    is_rounded: bool = False
    asks_percent: bool = False


def equivalent(gold: Value, pred: Value, *, rules: ComparisonRules) -> bool:
    """Whether a prediction equals the reference answer. Raises ParseError if no rule can decide."""
    if isinstance(gold, Relation) or isinstance(pred, Relation):
        return _equal_relations(gold, pred, rules)
    if isinstance(gold, WordAnswer) or isinstance(pred, WordAnswer):
        return gold == pred or (_is_empty(gold) and _is_empty(pred))
    if isinstance(gold, Matrix) or isinstance(pred, Matrix):
        return _equal_matrices(gold, pred, rules)
    if isinstance(gold, SetUnion) or isinstance(pred, SetUnion):
        return _equal_unions(gold, pred, rules)
    if isinstance(gold, NumberInBase) or isinstance(pred, NumberInBase):
        return _equal_in_base(gold, pred)
    if isinstance(gold, ValueList) or isinstance(pred, ValueList):
        return _equal_value_lists(gold, pred, rules)
    return _equal_expressions(gold, pred, rules)


def _is_empty(value: Value) -> bool:
    """Whether a value is the empty set, also in words: "no solution"."""
    if isinstance(value, WordAnswer):
        return value.key in ("nosolution", "norealsolutions", "nosolutions", "emptyset", "none")
    return isinstance(value, ValueList) and not value.items


# --- numbers and terms ----------------------------------------------------------------------------


def _equal_expressions(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
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
    return _equal_terms(gold, pred if factor == 1 else _multiply(pred, latex.number(factor)), rules)


def _multiply(value: Expression, factor: Node) -> Expression:
    return Expression(Node("mul", (value.node, factor)), "")


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
    operations = latex.operations(gold.node) | latex.operations(pred.node)
    is_in_radians = bool(operations & _ANGLE_OPERATIONS)
    return is_in_radians and _equal_terms(_to_radians(gold), _to_radians(pred), rules)


def _to_radians(value: Expression) -> Expression:
    if not _is_degree(value.unit):
        return value
    return _multiply(value, Node("div", (Node("pi"), latex.number(180))))


def _equal_percentages(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """Compare if a side is in percent: for 10% also 10 and 0.1 are correct; for 0.1 also 10%."""
    if gold.unit and pred.unit:
        return gold.unit.dimension == pred.unit.dimension and _equal_terms(gold, pred, rules)
    hundredth = latex.number(Fraction(1, 100))
    if gold.unit:
        ratio = _multiply(gold, hundredth)
        return _equal_terms(gold, pred, rules) or _equal_terms(ratio, pred, rules)
    if _equal_terms(gold, _multiply(pred, hundredth), rules):
        return True
    return _equal_terms(gold, pred, rules) and (
        rules.asks_percent or abs(numeric.evaluate(gold.node)) >= 1
    )


def _equal_terms(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """Whether two terms are equal for all values of their symbols, ignoring units.

    A logarithm without a base may be natural or decimal.
    """
    if _equal_values(gold, pred, rules):
        return True
    if "log" not in latex.operations(gold.node) | latex.operations(pred.node):
        return False
    gold, pred = (
        replace(side, node=latex.renamed(side.node, {"log": "lg"})) for side in (gold, pred)
    )
    return _equal_values(gold, pred, rules)


def _equal_values(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    if gold.symbols or pred.symbols:
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


def _equal_in_base(gold: Value, pred: Value) -> bool:
    """Compare if a side states its base. The other side may omit the base, or be decimal."""
    if isinstance(gold, NumberInBase) and isinstance(pred, NumberInBase):
        return gold == pred or (gold.value is not None and gold.value == pred.value)
    in_base, other = (gold, pred) if isinstance(gold, NumberInBase) else (pred, gold)
    if not isinstance(in_base, NumberInBase) or not isinstance(other, Expression):
        return False
    return other.text == in_base.digits or numeric.evaluate(other.node) == in_base.value


# --- several values -------------------------------------------------------------------------------


def _equal_value_lists(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    if not isinstance(gold, ValueList) or not isinstance(pred, ValueList):
        single, values = (gold, pred) if isinstance(pred, ValueList) else (pred, gold)
        assert isinstance(values, ValueList)
        if values.brackets not in ("{}", "") or len(values.items) != 1:
            return False
        return equivalent(values.items[0], single, rules=rules)
    brackets = {gold.brackets, pred.brackets}
    if brackets <= {"", "{}"}:
        return _equal_bare_lists(gold, pred, rules)
    if len(gold.items) != len(pred.items):
        return False
    if len(brackets) > 1 and (_are_inequalities(gold) or _are_inequalities(pred)):
        return _equal_real_sets(gold, pred)
    if len(brackets) > 1 and not _may_differ_in_brackets(gold, pred):
        return False
    if brackets == {":"}:
        return _equal_ratios(gold, pred)
    return _equal_ordered(gold.items, pred.items, rules)


def _equal_real_sets(gold: Value, pred: Value) -> bool:
    return real_sets.equal_sets(real_sets.to_real_set(gold), real_sets.to_real_set(pred))


def _are_inequalities(values: ValueList) -> bool:
    """Whether all items are inequalities, such as x > 0, x < 1, which may describe an interval."""
    return values.brackets == "" and all(_relation_kind(item) == "<" for item in values.items)


def _may_differ_in_brackets(gold: ValueList, pred: ValueList) -> bool:
    """Whether lists in different brackets may be the same tuple. Intervals never are."""
    brackets = {gold.brackets, pred.brackets}
    if brackets & {"[)", "(]", "{}", ":"}:
        return False
    bare = gold if gold.brackets == "" else pred
    are_relations = "" in brackets and all(isinstance(item, Relation) for item in bare.items)
    return len(gold.items) > 2 or are_relations


def _equal_bare_lists(gold: ValueList, pred: ValueList, rules: ComparisonRules) -> bool:
    """Compare in any order, unless the question asks for an order or only one side names values."""
    if rules.is_ordered and gold.brackets == pred.brackets == "":
        return _equal_ordered(gold.items, pred.items, rules)
    is_named = [any(isinstance(item, Relation) for item in side.items) for side in (gold, pred)]
    compare = _equal_ordered if is_named[0] != is_named[1] else _equal_unordered
    return compare(gold.items, pred.items, rules)


def _equal_ordered(gold: Sequence[Value], pred: Sequence[Value], rules: ComparisonRules) -> bool:
    return len(gold) == len(pred) and all(
        equivalent(g, p, rules=rules) for g, p in zip(gold, pred, strict=True)
    )


def _equal_unordered(gold: Sequence[Value], pred: Sequence[Value], rules: ComparisonRules) -> bool:
    """Whether each item has its own partner; a repeated item counts once."""
    if len(gold) > MAX_UNORDERED_ITEMS or len(pred) > MAX_UNORDERED_ITEMS:
        return _equal_ordered(gold, pred, rules)
    unmatched = list(dict.fromkeys(pred))
    for item in dict.fromkeys(gold):
        for partner in unmatched:
            if equivalent(item, partner, rules=rules):
                unmatched.remove(partner)
                break
        else:
            return False
    return not unmatched


def _equal_ratios(gold: ValueList, pred: ValueList) -> bool:
    """Whether the parts of two ratios are proportional."""
    gold_first, *gold_others = map(to_number, gold.items)
    pred_first, *pred_others = map(to_number, pred.items)
    others = zip(gold_others, pred_others, strict=True)
    return all(numeric.is_near(gold_first * p, pred_first * g) for g, p in others)


def _equal_matrices(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare entry by entry. A tuple may equal a matrix of one row or one column."""
    sides = [_matrix_rows(side) for side in (gold, pred)]
    are_matrices = isinstance(gold, Matrix) and isinstance(pred, Matrix)
    if min(len(rows) for rows in sides) == 1 and not are_matrices:
        flat = [[item for row in rows for item in row] for rows in sides]
        is_line = all(len(rows) == 1 or all(len(row) == 1 for row in rows) for rows in sides)
        return is_line and _equal_ordered(flat[0], flat[1], rules)
    shapes = [[len(row) for row in rows] for rows in sides]
    return shapes[0] == shapes[1] and all(
        _equal_ordered(g, p, rules) for g, p in zip(*sides, strict=True)
    )


def _matrix_rows(value: Value) -> Sequence[Sequence[Value]]:
    if isinstance(value, Matrix):
        return value.rows
    if isinstance(value, ValueList) and value.brackets in ("()", "[]"):
        rows = [i.items for i in value.items if isinstance(i, ValueList) and i.brackets == "[]"]
        return rows if len(rows) == len(value.items) else [value.items]
    raise ParseError("not a matrix")


def _equal_unions(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    try:
        return _equal_real_sets(gold, pred)
    except ParseError:
        if isinstance(gold, SetUnion) and isinstance(pred, SetUnion) and gold.minus == pred.minus:
            return _equal_unordered(gold.items, pred.items, rules)
        raise


# --- relations ------------------------------------------------------------------------------------


def _equal_relations(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare equations, memberships and inequalities with each other or with plain values."""
    gold_kind, pred_kind = _relation_kind(gold), _relation_kind(pred)
    if gold_kind == "=" and not isinstance(pred, Relation):
        return _equation_equals_value(gold, pred, rules, is_gold=True)
    if pred_kind == "=" and not isinstance(gold, Relation):
        return _equation_equals_value(pred, gold, rules, is_gold=False)
    if gold_kind == pred_kind == "=":
        assert isinstance(gold, Relation) and isinstance(pred, Relation)
        return _equal_equations(gold, pred, rules)
    if "\\in" in (gold_kind, pred_kind):
        return equivalent(_set_in_membership(gold), _set_in_membership(pred), rules=rules)
    try:
        return _equal_real_sets(gold, pred)
    except ParseError:
        if isinstance(gold, Relation) and isinstance(pred, Relation):
            return _equal_inequalities(gold, pred)
        raise


def _relation_kind(value: Value) -> str:
    """Return "=" for equations, "\\in" for memberships, "<" for inequalities, "" for the others."""
    if not isinstance(value, Relation):
        return ""
    if set(value.signs) == {"="}:
        return "="
    return "\\in" if value.signs[-1] == "\\in" else "<"


def _set_in_membership(value: Value) -> Value:
    """Return the set in "x \\in set"; other values unchanged."""
    if not isinstance(value, Relation):
        return value
    if value.sides[-1] == "R":
        return ALL_REALS
    return parse_value(value.sides[-1]) if value.signs[-1] == "\\in" else value


def _equation_equals_value(
    equation: Value, plain: Value, rules: ComparisonRules, *, is_gold: bool
) -> bool:
    """Compare x = 5 with 5; `is_gold` if the equation is the reference answer."""
    assert isinstance(equation, Relation)
    first, *middle, last = equation.sides
    is_name = _is_label if is_gold else _may_repeat_question
    if is_name(first):
        sides = [parse_value(last)]
    elif not middle and _is_label(last):
        sides = [parse_value(first)]
    elif any(map(_is_label, equation.sides[:-1])):
        sides = [parse_value(last)]
    else:
        sides = _values_in_chained_equation(equation)
    pairs = [(side, plain) if is_gold else (plain, side) for side in sides]
    return any(equivalent(gold, pred, rules=rules) for gold, pred in pairs)


def _values_in_chained_equation(equation: Relation) -> list[Value]:
    """Return both numbers of 3\\sqrt{2} = 4.243; only the last one of a false 3 + 4 = 8."""
    sides = [parse_value(equation.sides[0]), parse_value(equation.sides[-1])]
    if any(not isinstance(side, Expression) or side.symbols for side in sides):
        return []
    rules = ComparisonRules(tolerance=CHAIN_TOLERANCE)
    return sides if equivalent(sides[1], sides[0], rules=rules) else sides[1:]


def _is_label(text: str) -> bool:
    """Whether a side of an equation only names the result: x, f(x), a_{n}, AB, V_1:V_2, (p,q)."""
    if not text:
        return True
    bare = _ARGUMENT_LIST.sub(
        "", _SUBSCRIPT.sub("", without_spaces(text).replace("^{-1}", "").replace("§", ""))
    )
    if latex.FUNCTIONS & set(re.findall(r"\\([a-z]+)", text)) - {"max", "min"}:
        return False
    if re.fullmatch(r"[\[|(]?[A-Z]{1,5}'*[\]|)]?", bare):
        return True
    if re.fullmatch(r"\((?:\\?[A-Za-z]+,?)+\)", bare):
        return True
    if _NAMED_QUANTITY.fullmatch(bare):
        return not re.search(r"(?<![\\A-Za-z])[a-z]{2,}", bare) or len(bare) > 3
    ratio = re.split(r":|/", bare) if "\\frac" not in bare else re.findall(r"\{([^{}]*)\}", bare)
    return len(ratio) > 1 and all(map(_RATIO_PART.fullmatch, ratio))


def _may_repeat_question(text: str) -> bool:
    """Whether the left side of a prediction may repeat the question: it has symbols, no number."""
    if _is_label(text):
        return True
    bare = re.sub(r"\^\{?-?\d+\}?", "", _ARGUMENT_LIST.sub("", _SUBSCRIPT.sub("", text)))
    return not re.search(r"\d", bare) and re.search(r"[A-Za-z]", bare) is not None


def _equal_equations(gold: Relation, pred: Relation, rules: ComparisonRules) -> bool:
    """Whether the equations give the same name the same value, or are equal up to a factor."""
    names = [without_spaces(side.sides[0]) for side in (gold, pred)]
    are_symbols = all(re.fullmatch(r"\\?[A-Za-z]+'*", _SUBSCRIPT.sub("", name)) for name in names)
    are_labels = _is_label(gold.sides[0]) and _is_label(pred.sides[0]) and not are_symbols
    if (names[0] == names[1] or are_labels) and equivalent(
        parse_value(gold.sides[-1]), parse_value(pred.sides[-1]), rules=rules
    ):
        return True
    differences = [_difference(side.sides[0], side.sides[-1]) for side in (gold, pred)]
    if numeric.constant_ratio(*differences) is not None or _equal_functions(gold, pred):
        return True
    return _is_solution_of(gold, differences[1]) or _is_solution_of(pred, differences[0])


def _equal_functions(gold: Relation, pred: Relation) -> bool:
    """Whether two equations define one function: f(t) = t + 1 and f(x) = x + 1."""
    left_sides = [
        _FUNCTION_AND_ARGUMENT.fullmatch(without_spaces(side.sides[0])) for side in (gold, pred)
    ]
    if not left_sides[0] or not left_sides[1] or left_sides[0].group(1) != left_sides[1].group(1):
        return False
    gold_body, pred_body = (latex.parse(side.sides[-1]) for side in (gold, pred))
    gold_argument, pred_argument = left_sides[0].group(2), left_sides[1].group(2)
    if gold_argument in latex.symbols(pred_body):
        return False
    return numeric.agree(gold_body, latex.renamed(pred_body, {pred_argument: gold_argument}))


def _is_solution_of(explicit: Relation, other: Node) -> bool:
    """Whether y = g(x) is the only solution of `other` = 0, which is linear in y."""
    name = explicit.sides[0].strip()
    if not re.fullmatch("[a-zA-Z]", name) or len(explicit.sides) != 2:
        return False
    body = latex.parse(explicit.sides[1])
    names = latex.symbols(body) | latex.symbols(other) - {name}
    if name in latex.symbols(body) or not names:
        return False
    return all(
        numeric.is_only_root(other, name, numeric.evaluate(body, env), env)
        for env in numeric.sample_points(names, negative=False)
    )


def _difference(left: str, right: str) -> Node:
    return Node("sub", (latex.parse(left), latex.parse(right)))


def _equal_sides(gold: Relation, pred: Relation) -> bool:
    sides = zip(gold.sides, pred.sides, strict=False)
    return gold.signs == pred.signs and all(
        numeric.agree(latex.parse(g), latex.parse(p)) for g, p in sides
    )


def _equal_inequalities(gold: Relation, pred: Relation) -> bool:
    """Whether two inequalities have equal sides, or are equal up to a factor."""
    flipped = Relation(pred.sides[::-1], tuple(FLIPPED[sign] for sign in pred.signs[::-1]))
    if _equal_sides(gold, pred) or _equal_sides(gold, flipped):
        return True
    if len(gold.signs) != 1 or len(pred.signs) != 1:
        raise ParseError("chain of inequalities")
    factor = numeric.constant_ratio(_difference(*gold.sides), _difference(*pred.sides))
    if factor is None or isinstance(factor, complex):
        return False
    return gold.signs[0] == (pred.signs[0] if factor > 0 else FLIPPED[pred.signs[0]])
