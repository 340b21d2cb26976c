r"""Equations and inequalities as formulas: names, factors, solutions, what a condition says.

Example: `2x-y+1=0` and `y=2x+1` differ by a factor; `x \ne 0` is natural beside `\frac{1}{x}`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from slowthink.grading.answers import latex, nodes, numeric, real_sets
from slowthink.grading.answers.canonical import Congruence, read_canonical
from slowthink.grading.answers.nodes import Node, ParseError
from slowthink.grading.answers.normalise import without_spaces
from slowthink.grading.answers.values import (
    FLIPPED,
    Expression,
    Relation,
    Value,
    parse_value,
    to_number,
)

_INDICES = "nmk"
_FIRST_INDICES = ((">", 0), ("\\ge", 0), ("\\ge", 1))
"""Conditions that only say that an index is a natural number."""
_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\\?\w+)")
_ARGUMENT_LIST = re.compile(r"(?<=[A-Za-z'}])\([^()]*\)")
_NAMED_QUANTITY = re.compile(
    r"(?:m?\\(?:angle|triangle|max|min|sup|inf|Delta|arg|deg|dim|det)|\\text\{[^{}]*\})*"
    r"\\?[A-Za-z]*'*"
)
_RATIO_OF_ANGLE = re.compile(
    r"\\(?:sin|cos|tan|cot)\s*\(?\s*(?:\\angle\s*[A-Z]{1,3}|[A-Z]|\\(?:alpha|beta|theta|gamma))\s*\)?"
)
_RATIO_PART = re.compile(r"[\[|]?[A-Z]+'*[\]|]?|\\?partial[a-zA-Z]?|d?[a-z]")
_FIGURE = re.compile(r"\W*(?:\\[a-z]+\s*|\\?text\{[^{}]*\}|[a-z]{3,}\s)*\s*(?:[A-Z]'*\s*){2,}")
_ARGUMENT = re.compile(r"(?<=[A-Za-z'])\(.+\)$")
_FUNCTION_AND_ARGUMENT = re.compile(r"(\\?[A-Za-z]+)\(([a-z])\)")


def relation_kind(value: Value) -> str:
    """Return "=" for equations, "\\in" for memberships, "<" for inequalities, "named" for other
    signs, "" for other values."""
    if not isinstance(value, Relation):
        return ""
    if set(value.signs) == {"="}:
        return "="
    if value.signs[-1] == "\\in":
        return "\\in"
    return "named" if not set(value.signs) <= real_sets.ORDER_SIGNS else "<"


def matched_points(relation: Relation) -> frozenset[frozenset[str] | str]:
    """The points that correspond in ABC \\cong DEF, from either side."""
    points = [re.findall(r"[A-Z]'*", side) for side in relation.sides]
    are_figures = all(map(_FIGURE.fullmatch, relation.sides))
    if not are_figures or len(points) != 2 or len(points[0]) != len(points[1]):
        return frozenset((without_spaces("".join(relation.sides)),))
    return frozenset(map(frozenset, zip(*points, strict=True)))


def without_subscripts(text: str) -> str:
    """Return a name without its subscripts."""
    return _SUBSCRIPT.sub("", text)


def is_label(text: str) -> bool:
    """Whether a side of an equation only names the result: x, f(x), a_{n}, AB, V_1:V_2, (p,q)."""
    if not text:
        return True
    bare = _ARGUMENT_LIST.sub(
        "",
        _SUBSCRIPT.sub(
            "", without_spaces(text).replace("^{-1}", "").replace("^*", "").replace("§", "")
        ),
    )
    commands = set(re.findall(r"\\([a-z]+)", text))
    if (latex.FUNCTIONS | nodes.UNEVALUATED) & commands - {"max", "min"}:
        return False
    if re.fullmatch("[一-鿿]{1,6}", bare):
        return True
    if re.fullmatch(r"[\[|(]?[A-Z]{1,5}'*[\]|)]?", bare):
        return True
    if re.fullmatch(r"\((?:\\?[A-Za-z]+,?)+\)", bare):
        return True
    if _NAMED_QUANTITY.fullmatch(bare):
        return not re.search(r"(?<![\\A-Za-z])[a-z]{2,}", bare) or len(bare) > 3
    ratio = re.split(r":|/", bare) if "\\frac" not in bare else re.findall(r"\{([^{}]*)\}", bare)
    return len(ratio) > 1 and all(map(_RATIO_PART.fullmatch, ratio))


def is_ratio_of_angle(text: str) -> bool:
    """Whether a side names a trigonometric function of one angle: \\cos A, \\tan\\angle ABC."""
    return _RATIO_OF_ANGLE.fullmatch(text.strip()) is not None


def may_repeat_question(text: str) -> bool:
    """Whether the left side of a prediction may repeat the question: it has symbols, no number."""
    if is_label(text):
        return True
    bare = re.sub(r"\^\{?-?\d+\}?", "", _ARGUMENT_LIST.sub("", _SUBSCRIPT.sub("", text)))
    return not re.search(r"\d", bare) and re.search(r"[A-Za-z]", bare) is not None


def have_same_letters(gold: str, pred: str) -> bool:
    """Whether two names, (a,b) and (b,a), have the same letters in another order."""
    return gold[:1] == "(" and sorted(re.findall(r"\w", gold)) == sorted(re.findall(r"\w", pred))


def name_others(gold: str, pred: str) -> bool:
    """Whether two names are of other points, \\angle BAC and \\angle ABC, or of other arguments, or
    if one is the derivative or the inverse: f'(x) and f(x), dy/dx and dx/dy."""
    figures = [read_canonical(name.replace("§", " ")) for name in (gold, pred)]
    if all(figures):
        return figures[0] != figures[1]
    if all(re.fullmatch("[一-鿿]{1,6}", name) and "答案" not in name for name in (gold, pred)):
        return not (gold in pred or pred in gold)
    bare = [name.replace("'", "").replace("^{-1}", "") for name in (gold, pred)]
    ratios = [
        re.findall("[a-zA-Z]+", name) for name in (gold, pred) if re.search("[/:]|frac", name)
    ]
    is_turned = (
        len(ratios) == 2 and ratios[0] != ratios[1] and sorted(ratios[0]) == sorted(ratios[1])
    )
    is_size = len({name.strip("|") for name in (gold, pred)}) == 1 and len(gold + pred) == 4
    if (gold != pred and (bare[0] == bare[1] or is_size)) or is_turned:
        return True
    points = [set(re.findall(r"[A-Z]", name)) for name in (gold, pred)]
    calls = [_FUNCTION_AND_ARGUMENT.fullmatch(name) for name in (gold, pred)]
    arguments = [m.group() for name in (gold, pred) if (m := _ARGUMENT.search(name))]
    is_other_call = all(calls) or (len(arguments) == 2 and arguments[0] != arguments[1])
    return gold != pred and (is_other_call or (all(points) and points[0] != points[1]))


def equal_functions(gold: Relation, pred: Relation) -> bool:
    """Whether two equations define one function: f(t) = t + 1 and f(x) = x + 1."""
    left_sides = [
        _FUNCTION_AND_ARGUMENT.fullmatch(without_spaces(side.sides[0])) for side in (gold, pred)
    ]
    if not left_sides[0] or not left_sides[1] or left_sides[0].group(1) != left_sides[1].group(1):
        return False
    gold_body, pred_body = (latex.parse(side.sides[-1]) for side in (gold, pred))
    gold_argument, pred_argument = left_sides[0].group(2), left_sides[1].group(2)
    if gold_argument in nodes.symbols(pred_body):
        return False
    return numeric.agree(gold_body, nodes.renamed(pred_body, {pred_argument: gold_argument}))


def is_solution_of(explicit: Relation, other: Node) -> bool:
    """Whether y = g(x) is the only solution of `other` = 0, which is linear in y."""
    name = explicit.sides[0].strip()
    if not re.fullmatch("[a-zA-Z]", name) or len(explicit.sides) != 2:
        return False
    body = latex.parse(explicit.sides[1])
    names = nodes.symbols(body) | nodes.symbols(other) - {name}
    if name in nodes.symbols(body) or not names:
        return False
    return all(
        numeric.is_only_root(other, name, numeric.evaluate(body, env), env)
        for env in numeric.sample_points(
            names, negative="abs" in nodes.operations(body) | nodes.operations(other)
        )
    )


def difference(left: str, right: str) -> Node:
    return Node("sub", (latex.parse(left), latex.parse(right)))


def _equal_sides(gold: Relation, pred: Relation) -> bool:
    sides = zip(gold.sides, pred.sides, strict=False)
    return gold.signs == pred.signs and all(
        numeric.agree(latex.parse(g), latex.parse(p)) for g, p in sides
    )


def equal_inequalities(gold: Relation, pred: Relation) -> bool:
    """Whether two inequalities have equal sides, or are equal up to a factor."""
    flipped = Relation(pred.sides[::-1], tuple(FLIPPED[sign] for sign in pred.signs[::-1]))
    if _equal_sides(gold, pred) or _equal_sides(gold, flipped):
        return True
    if len(gold.signs) != 1 or len(pred.signs) != 1:
        raise ParseError("chain of inequalities")
    factor = numeric.constant_ratio(difference(*gold.sides), difference(*pred.sides))
    if factor is None or isinstance(factor, complex):
        return False
    return gold.signs[0] == (pred.signs[0] if factor > 0 else FLIPPED[pred.signs[0]])


def is_natural(condition: Value, value: Value) -> bool:
    """Whether a condition only says where a formula has a value: x \\ne 0 beside 1/x."""
    if not isinstance(condition, Relation) or not isinstance(value, Relation | Expression):
        return False
    if len(condition.signs) != 1 or not re.fullmatch(r"[a-z]", condition.sides[0]):
        return False
    node = value.node if isinstance(value, Expression) else latex.parse(value.sides[-1])
    name, sign = condition.sides[0], condition.signs[0]
    if name not in nodes.symbols(node) or sign not in ("\\ne", ">", "\\ge", "<", "\\le"):
        return False
    bound = to_number(parse_value(condition.sides[1]))
    if name in _INDICES and (sign, bound) in _FIRST_INDICES:
        return True
    side = {"\\ne": (0,), ">": (-0.5, -1, -2), "\\ge": (-0.5, -1, -2)}.get(sign, (0.5, 1, 2))
    env = dict.fromkeys(nodes.symbols(node), 1.37)
    return all(_is_undefined(node, {**env, name: bound + shift}) for shift in side)


def _is_undefined(node: Node, env: dict[str, float]) -> bool:
    try:
        return isinstance(numeric.evaluate(node, env), complex)
    except ParseError:
        return True


def as_congruence(value: Value) -> Congruence | None:
    """Return n = 5k+1, with an integer k, as a congruence; None for other values."""
    subject, node = "", value.node if isinstance(value, Expression) else None
    if isinstance(value, Relation) and value.signs == ("=",):
        subject, node = value.sides[0], latex.parse(value.sides[1])
    if node is None or len(names := nodes.symbols(node)) != 1:
        return None
    (name,) = names
    at = [numeric.evaluate(node, {name: Fraction(k)}) for k in (0, 1, 2, -3)]  # type: ignore[dict-item]
    step = at[1] - at[0]
    if any(not isinstance(v, Fraction) or v.denominator != 1 for v in at) or not step:
        return None
    if at[2] - at[0] != 2 * step or at[3] - at[0] != -3 * step or subject == name:
        return None
    modulus = abs(int(step))
    return Congruence(subject, frozenset((int(at[0]) % modulus,)), modulus)
