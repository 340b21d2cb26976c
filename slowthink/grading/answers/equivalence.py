r"""Whether two values are the same answer, kind by kind.

One real record: `equivalent(read("x \\ge 5"), read("[5,\\infty)"), rules=Rules())` is True.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from slowthink.grading.answers import latex, numeric
from slowthink.grading.answers import real_sets as reals
from slowthink.grading.answers.latex import Node, ParseError
from slowthink.grading.answers.normalise import without_spaces
from slowthink.grading.answers.units import Unit, conversion_factor, stated_unit
from slowthink.grading.answers.values import (
    ALL_REALS,
    Expression,
    Matrix,
    NumberInBase,
    Relation,
    SetUnion,
    Value,
    ValueList,
    WordAnswer,
    parse_value,
)

MAX_MATCHED = 60
"""Items of an unordered list that are matched with each other."""
LOOSE = 2e-4
"""Relative tolerance where a decimal stands for a root within an expression."""


@dataclass(frozen=True, slots=True)
class ComparisonRules:
    """What the problem says about comparing."""

    tolerance: float | None = None
    unit: str | None = None
    is_ordered: bool = False
    is_rounded: bool = False
    asks_percent: bool = False


def equivalent(gold: Value, pred: Value, *, rules: ComparisonRules) -> bool:
    """Whether an answer is the key. Raises ParseError where no rule can say."""
    if isinstance(gold, Relation) or isinstance(pred, Relation):
        return _relations(gold, pred, rules)
    if isinstance(gold, WordAnswer) or isinstance(pred, WordAnswer):
        return gold == pred or {_emptiness(gold), _emptiness(pred)} == {True}
    if isinstance(gold, Matrix) or isinstance(pred, Matrix):
        return _matrices(gold, pred, rules)
    if isinstance(gold, SetUnion) or isinstance(pred, SetUnion):
        return _unions(gold, pred, rules)
    if isinstance(gold, NumberInBase) or isinstance(pred, NumberInBase):
        return _based(gold, pred)
    if isinstance(gold, ValueList) or isinstance(pred, ValueList):
        return _groups(gold, pred, rules)
    return _expressions(gold, pred, rules)


def _emptiness(value: Value) -> bool:
    """Whether a value says that there is no solution."""
    if isinstance(value, WordAnswer):
        return value.key in ("nosolution", "norealsolutions", "nosolutions", "emptyset", "none")
    return isinstance(value, ValueList) and not value.items


# --- numbers and terms ----------------------------------------------------------------------------


def _expressions(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    if rules.unit and gold.unit is None and not gold.symbols:
        gold = replace(gold, unit=stated_unit(rules.unit))
    gold_unit, pred_unit = gold.unit, pred.unit
    if "percent" in {u.dimension for u in (gold_unit, pred_unit) if u}:
        return _percent(gold, pred, rules)
    if (gold_unit is None) != (pred_unit is None) and (gold.symbols or pred.symbols):
        return _terms(_with_symbol(gold), _with_symbol(pred), rules) or (
            gold.symbols == pred.symbols and _terms(gold, pred, rules)
        )
    factor = conversion_factor(gold_unit, pred_unit)
    if _is_degree(gold.unit) != _is_degree(pred.unit):
        if (gold.unit is None or pred.unit is None) and _terms(gold, pred, rules):
            return True
        sides = (_radians(gold), _radians(pred))
        names = latex.operations(gold.node) | latex.operations(pred.node)
        return bool(names & _ANGLES) and _terms(*sides, rules)
    if factor is None:
        return False
    if factor == 1:
        return _terms(gold, pred, rules)
    scaled = Expression(Node("mul", (pred.node, latex.number(factor))), "")
    return _terms(gold, scaled, rules)


def _with_symbol(value: Expression) -> Expression:
    """The unit as a factor: 0.64 N is 0.64N where the other side wrote the unit as a symbol."""
    if value.unit is None:
        return value
    return Expression(Node("mul", (value.node, Node("sym", name=value.unit.name))), value.text)


_ANGLES = frozenset(("pi", "arcsin", "arccos", "arctan", "arccot", "asin", "acos", "atan"))
"""What shows that a number without a unit is an angle in radians."""


def _is_degree(unit: Unit | None) -> bool:
    return unit is not None and unit.dimension == "angle"


def _radians(value: Expression) -> Expression:
    if not _is_degree(value.unit):
        return value
    return Expression(Node("mul", (value.node, Node("div", (Node("pi"), latex.number(180))))), "")


def _percent(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """10% is 10% or, since the key says percent, 10 or 0.1; for a key of 0.1, 10% is right."""
    if gold.unit and pred.unit:
        return gold.unit.dimension == pred.unit.dimension and _terms(gold, pred, rules)
    hundredth = latex.number(Fraction(1, 100))
    if gold.unit:
        ratio = Expression(Node("mul", (gold.node, hundredth)), "")
        return _terms(gold, pred, rules) or _terms(ratio, pred, rules)
    ratio = Expression(Node("mul", (pred.node, hundredth)), "")
    if _terms(gold, ratio, rules):
        return True
    return _terms(gold, pred, rules) and (
        rules.asks_percent or abs(numeric.evaluate(gold.node)) >= 1
    )


def _terms(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    """Whether two terms have the same value, for all values of their symbols.

    A logarithm without a base may be natural or decimal.
    """
    return _same_terms(gold, pred, rules) or (
        "log" in latex.operations(gold.node) | latex.operations(pred.node)
        and _same_terms(_decimal_logs(gold), _decimal_logs(pred), rules)
    )


def _decimal_logs(value: Expression) -> Expression:
    return replace(value, node=latex.renamed(value.node, {"log": "lg"}))


def _same_terms(gold: Expression, pred: Expression, rules: ComparisonRules) -> bool:
    if latex.symbols(gold.node) or latex.symbols(pred.node):
        loose = numeric.has_long_decimal(gold.text) != numeric.has_long_decimal(pred.text)
        return numeric.agree(gold.node, pred.node, relative=LOOSE if loose else numeric.CLOSE)
    return numeric.same_constant(
        numeric.evaluate_key(gold.node),
        numeric.evaluate(pred.node),
        gold_decimal=numeric.parse_decimal(gold.text),
        pred_decimal=numeric.parse_decimal(pred.text),
        tolerance=rules.tolerance,
        rounded=rules.is_rounded,
    )


def _based(gold: Value, pred: Value) -> bool:
    """Digits in a base: the base may be left out, but not be another one."""
    if isinstance(gold, NumberInBase) and isinstance(pred, NumberInBase):
        return gold == pred or (gold.value is not None and gold.value == pred.value)
    based, other = (gold, pred) if isinstance(gold, NumberInBase) else (pred, gold)
    if not isinstance(based, NumberInBase) or not isinstance(other, Expression):
        return False
    return other.text == based.digits or numeric.evaluate(other.node) == based.value


# --- several values -------------------------------------------------------------------------------


def _groups(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    if not isinstance(gold, ValueList) or not isinstance(pred, ValueList):
        single, group = (gold, pred) if isinstance(pred, ValueList) else (pred, gold)
        assert isinstance(group, ValueList)
        return (
            group.brackets in ("{}", "")
            and len(group.items) == 1
            and equivalent(group.items[0], single, rules=rules)
        )
    kinds = {gold.brackets, pred.brackets}
    if kinds <= {"", "{}"}:
        return _lists(gold, pred, rules)
    if len(gold.items) != len(pred.items):
        return False
    if len(kinds) > 1 and (_is_inequalities(gold) or _is_inequalities(pred)):
        return reals.equal(reals.of_value(gold), reals.of_value(pred))
    if len(kinds) > 1 and not _alike(gold, pred):
        return False
    if kinds == {":"}:
        return _ratios(gold, pred)
    return _in_order(gold.items, pred.items, rules)


def _is_inequalities(value: ValueList) -> bool:
    """Whether a list is conditions such as x > 0, x < 1, which may stand for an interval."""
    return value.brackets == "" and all(_sign(item) == "<" for item in value.items)


def _alike(gold: ValueList, pred: ValueList) -> bool:
    """Whether groups in different brackets may mean the same: an interval never does."""
    kinds = {gold.brackets, pred.brackets}
    if kinds & {"[)", "(]", "{}", ":"}:
        return False
    if "" in kinds:
        bare = gold if gold.brackets == "" else pred
        return len(gold.items) > 2 or all(isinstance(item, Relation) for item in bare.items)
    return len(gold.items) > 2


def _lists(gold: ValueList, pred: ValueList, rules: ComparisonRules) -> bool:
    """Lists in any order, unless the question asks for one or only one side names its values."""
    if rules.is_ordered and gold.brackets == pred.brackets == "":
        return _in_order(gold.items, pred.items, rules)
    named_sides = [any(isinstance(item, Relation) for item in side.items) for side in (gold, pred)]
    if named_sides[0] != named_sides[1]:
        return _in_order(gold.items, pred.items, rules)
    return _in_any_order(gold.items, pred.items, rules)


def _in_order(gold: Sequence[Value], pred: Sequence[Value], rules: ComparisonRules) -> bool:
    return len(gold) == len(pred) and all(
        equivalent(g, p, rules=rules) for g, p in zip(gold, pred, strict=True)
    )


def _in_any_order(gold: Sequence[Value], pred: Sequence[Value], rules: ComparisonRules) -> bool:
    """Whether each item has its own partner; an item said twice counts once."""
    if len(gold) > MAX_MATCHED or len(pred) > MAX_MATCHED:
        return _in_order(gold, pred, rules)
    left = list(_distinct(pred, rules))
    for item in _distinct(gold, rules):
        partner = next((i for i, p in enumerate(left) if equivalent(item, p, rules=rules)), None)
        if partner is None:
            return False
        left.pop(partner)
    return not left


def _distinct(items: Sequence[Value], rules: ComparisonRules) -> list[Value]:
    found: list[Value] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _ratios(gold: ValueList, pred: ValueList) -> bool:
    pairs = zip(gold.items, pred.items, strict=True)
    values = [
        [numeric.evaluate(s.node) for s in pair if isinstance(s, Expression)] for pair in pairs
    ]
    g, p = zip(*values, strict=True)
    return all(numeric.near(g[0] * b, p[0] * a) for a, b in zip(g[1:], p[1:], strict=True))


def _matrices(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Entry by entry; a single row or column is also a tuple."""
    sides = [_rows(side) for side in (gold, pred)]
    if min(len(rows) for rows in sides) == 1 and not all(
        isinstance(side, Matrix) for side in (gold, pred)
    ):
        flat = [[item for row in rows for item in row] for rows in sides]
        is_line = all(len(rows) == 1 or all(len(row) == 1 for row in rows) for rows in sides)
        return is_line and _in_order(flat[0], flat[1], rules)
    shapes = [[len(row) for row in rows] for rows in sides]
    return shapes[0] == shapes[1] and all(
        _in_order(g, p, rules) for g, p in zip(*sides, strict=True)
    )


def _rows(value: Value) -> Sequence[Sequence[Value]]:
    if isinstance(value, Matrix):
        return value.rows
    if isinstance(value, ValueList) and value.brackets in ("()", "[]"):
        rows = [i.items for i in value.items if isinstance(i, ValueList) and i.brackets == "[]"]
        return rows if len(rows) == len(value.items) else [value.items]
    raise ParseError("no matrix")


def _unions(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    try:
        return reals.equal(reals.of_value(gold), reals.of_value(pred))
    except ParseError:
        if isinstance(gold, SetUnion) and isinstance(pred, SetUnion) and gold.minus == pred.minus:
            return _in_any_order(gold.items, pred.items, rules)
        raise


# --- relations ------------------------------------------------------------------------------------


def _relations(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Equations, memberships and inequalities, against each other or against plain values."""
    gold_sign, pred_sign = _sign(gold), _sign(pred)
    if gold_sign == "=" and not isinstance(pred, Relation):
        return _against_value(gold, pred, rules, is_gold=True)
    if pred_sign == "=" and not isinstance(gold, Relation):
        return _against_value(pred, gold, rules, is_gold=False)
    if gold_sign == pred_sign == "=":
        assert isinstance(gold, Relation) and isinstance(pred, Relation)
        return _equations(gold, pred, rules)
    if "\\in" in (gold_sign, pred_sign):
        return equivalent(_members(gold), _members(pred), rules=rules)
    try:
        return reals.equal(reals.of_value(gold), reals.of_value(pred))
    except ParseError:
        if isinstance(gold, Relation) and isinstance(pred, Relation):
            return _inequalities(gold, pred)
        raise


def _sign(value: Value) -> str:
    """ "=" for equations, "\\in" for memberships, "<" for anything with an inequality."""
    if not isinstance(value, Relation):
        return ""
    if set(value.signs) == {"="}:
        return "="
    return "\\in" if value.signs[-1] == "\\in" else "<"


def _members(value: Value) -> Value:
    """The set in "x in set"."""
    if isinstance(value, Relation) and value.sides[-1] == "R":
        return ALL_REALS
    return (
        parse_value(value.sides[-1])
        if isinstance(value, Relation) and value.signs[-1] == "\\in"
        else value
    )


def _against_value(relation: Value, plain: Value, rules: ComparisonRules, *, is_gold: bool) -> bool:
    """x = 5 against 5: the equation names the value."""
    assert isinstance(relation, Relation)
    label = relation.sides[0]
    ok = is_label(label) if is_gold else restates(label)
    ends = [relation.sides[-1]]
    if not ok and is_label(relation.sides[-1]) and len(relation.sides) == 2:
        ok, ends = True, [label]
    if len(relation.sides) > 2 and not ok:
        ok = any(is_label(side) for side in relation.sides[:-1])
    if not ok:
        return _any_side(relation, plain, rules, is_gold=is_gold)
    value = parse_value(ends[0])
    return (
        equivalent(value, plain, rules=rules) if is_gold else equivalent(plain, value, rules=rules)
    )


def _any_side(relation: Relation, plain: Value, rules: ComparisonRules, *, is_gold: bool) -> bool:
    """A chain of numbers, 3\\sqrt{2} = 4.243, says each; a false one, 3 + 4 = 8, its last."""
    sides = [parse_value(relation.sides[0]), parse_value(relation.sides[-1])]
    if any(not isinstance(side, Expression) or side.symbols for side in sides):
        return False
    if not equivalent(sides[1], sides[0], rules=ComparisonRules(tolerance=_ROUNDING)):
        sides = sides[1:]
    return any(
        equivalent(side, plain, rules=rules) if is_gold else equivalent(plain, side, rules=rules)
        for side in sides
    )


_ROUNDING = 0.01
"""How far the members of a chain of numbers may lie apart, relatively: 3\\sqrt{2} = 4.24."""
_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\\?\w+)")
_CALL = re.compile(r"(?<=[A-Za-z'}])\([^()]*\)")
_NAME = re.compile(r"(?:\\?[A-Za-z]+'*|\\text\{[^{}]*\})")


def is_label(text: str) -> bool:
    """Whether a side only names what is found: x, f(x), a_{n}, AB, V_1:V_2, (p,q)."""
    if not text:
        return True
    bare = _CALL.sub(
        "", _SUBSCRIPT.sub("", without_spaces(text).replace("^{-1}", "").replace("§", ""))
    )
    if latex.FUNCTIONS & set(re.findall(r"\\([a-z]+)", text)) - {"max", "min"}:
        return False
    if re.fullmatch(r"[\[|(]?[A-Z]{1,5}'*[\]|)]?", bare):
        return True
    if re.fullmatch(r"\((?:\\?[A-Za-z]+,?)+\)", bare):
        return True
    if re.fullmatch(
        r"(?:\\(?:angle|triangle|max|min|sup|inf|Delta|arg|deg|dim|det)|\\text\{[^{}]*\})*\\?[A-Za-z]*'*",
        bare,
    ):
        return len(re.findall(r"(?<![\\A-Za-z])[a-z]{2,}", bare)) == 0 or len(bare) > 3
    ratio = re.split(r":|/", bare) if "\\frac" not in bare else re.findall(r"\{([^{}]*)\}", bare)
    side = r"[\[|]?[A-Z]+'*[\]|]?|\\?partial[a-zA-Z]?|d?[a-z]"
    return len(ratio) > 1 and all(re.fullmatch(side, part) for part in ratio)


def restates(text: str) -> bool:
    """Whether an answer's left side may repeat the question: symbols, but no number of its own."""
    if is_label(text):
        return True
    bare = re.sub(r"\^\{?-?\d+\}?", "", _CALL.sub("", _SUBSCRIPT.sub("", text)))
    return not re.search(r"\d", bare) and re.search(r"[A-Za-z]", bare) is not None


def _equations(gold: Relation, pred: Relation, rules: ComparisonRules) -> bool:
    """Same name and same value, or the same equation up to a factor."""
    names = [without_spaces(side.sides[0]) for side in (gold, pred)]
    plain = [
        re.fullmatch(r"\\?[A-Za-z]+'*", _SUBSCRIPT.sub("", name)) is not None for name in names
    ]
    labels = is_label(gold.sides[0]) and is_label(pred.sides[0]) and not all(plain)
    if (names[0] == names[1] or labels) and equivalent(
        parse_value(gold.sides[-1]), parse_value(pred.sides[-1]), rules=rules
    ):
        return True
    ends = [_difference(side.sides[0], side.sides[-1]) for side in (gold, pred)]
    if numeric.proportional(*ends) is not None or _same_function(gold, pred):
        return True
    return _solves(gold, ends[1]) or _solves(pred, ends[0])


def _same_function(gold: Relation, pred: Relation) -> bool:
    """f(t) = t + 1 and f(x) = x + 1: the argument may have any name."""
    heads = [_HEAD.fullmatch(without_spaces(side.sides[0])) for side in (gold, pred)]
    if not heads[0] or not heads[1] or heads[0].group(1) != heads[1].group(1):
        return False
    bodies = [latex.parse(side.sides[-1]) for side in (gold, pred)]
    ours, theirs = (head.group(2) for head in heads if head)
    if ours in latex.symbols(bodies[1]):
        return False
    return numeric.agree(bodies[0], latex.renamed(bodies[1], {theirs: ours}))


_HEAD = re.compile(r"(\\?[A-Za-z]+)\(([a-z])\)")


def _solves(explicit: Relation, other: Node) -> bool:
    """Whether y = g(x) is the one solution of another equation that is linear in y."""
    name = explicit.sides[0].strip()
    if not re.fullmatch("[a-zA-Z]", name) or len(explicit.sides) != 2:
        return False
    body = latex.parse(explicit.sides[1])
    names = latex.symbols(body) | latex.symbols(other) - {name}
    if name in latex.symbols(body) or not names:
        return False
    return all(
        numeric.is_only_root(other, name, numeric.evaluate(body, env), env)
        for env in numeric.points(names, negative=False)
    )


def _difference(left: str, right: str) -> Node:
    return Node("sub", (latex.parse(left), latex.parse(right)))


_TURNED = {
    "<": ">",
    ">": "<",
    "\\le": "\\ge",
    "\\ge": "\\le",
    "\\ne": "\\ne",
    "=": "=",
    "\\in": "\\in",
}


def _side_by_side(gold: Relation, pred: Relation) -> bool:
    sides = zip(gold.sides, pred.sides, strict=False)
    return gold.signs == pred.signs and all(
        numeric.agree(latex.parse(g), latex.parse(p)) for g, p in sides
    )


def _inequalities(gold: Relation, pred: Relation) -> bool:
    """Two inequalities: side by side the same, or the same up to a factor."""
    turned = Relation(pred.sides[::-1], tuple(_TURNED[sign] for sign in pred.signs[::-1]))
    if _side_by_side(gold, pred) or _side_by_side(gold, turned):
        return True
    if len(gold.signs) != 1 or len(pred.signs) != 1:
        raise ParseError("chain of inequalities")
    factor = numeric.proportional(_difference(*gold.sides), _difference(*pred.sides))
    if factor is None or isinstance(factor, complex):
        return False
    return gold.signs[0] == (pred.signs[0] if factor > 0 else _TURNED[pred.signs[0]])
