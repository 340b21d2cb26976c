r"""Whether two values are the same answer, by kind of value.

Example: `equivalent(parse_value("x \\ge 5"), parse_value("[5,\\infty)"), rules=ComparisonRules())`
is True.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import get_args

from slowthink.grading.answers import numeric, real_sets
from slowthink.grading.answers.canonical import (
    Canonical,
    ClockTime,
    Congruence,
    equal_canonical,
)
from slowthink.grading.answers.list_kinds import (
    are_inequalities,
    base_name,
    counts_up,
    equal_ratios,
    equal_vectors,
    is_progression,
    joining_word,
    may_differ_in_brackets,
    names_given,
    needs_same_word,
    relations_in,
    units_given,
)
from slowthink.grading.answers.lists import BOTH
from slowthink.grading.answers.nodes import ParseError
from slowthink.grading.answers.normalise import without_spaces
from slowthink.grading.answers.relations import (
    as_congruence,
    difference,
    equal_functions,
    equal_inequalities,
    have_same_letters,
    is_label,
    is_natural,
    is_ratio_of_angle,
    is_solution_of,
    matched_points,
    may_repeat_question,
    name_others,
    relation_kind,
    without_subscripts,
)
from slowthink.grading.answers.statements import Statement, equal_statements
from slowthink.grading.answers.terms import ComparisonRules, equal_expressions
from slowthink.grading.answers.values import (
    ALL_REALS,
    FLIPPED,
    Dots,
    Expression,
    Labelled,
    Matrix,
    NumberInBase,
    Quantifier,
    Relation,
    Value,
    ValueList,
    WordAnswer,
    parse_value,
)

MAX_UNORDERED_ITEMS = 60
"""Longest list whose items may be in any order; a longer list is compared in order."""
_UNKNOWNS = frozenset(("x", "y", "z", "t", "r", "k", "m", "n", "u", "\\lambda", "\\theta", "s"))
"""Letters whose values x_1 and x_2 are solutions, in any order; a_1 and a_2 are terms."""
CHAIN_TOLERANCE = 0.01
"""Relative tolerance between the sides of a chained equation of numbers: 3\\sqrt{2} = 4.24."""

_Compare = Callable[[Value, Value, ComparisonRules], bool]


def equivalent(gold: Value, pred: Value, *, rules: ComparisonRules) -> bool:
    """Whether a prediction equals the reference answer. Raises ParseError if no rule can decide."""
    for kinds, compare in _COMPARISONS:
        if isinstance(gold, kinds) or isinstance(pred, kinds):
            return compare(gold, pred, rules)
    if isinstance(gold, Expression) and isinstance(pred, Expression):
        return equal_expressions(gold, pred, rules)
    return False


def _equivalent_or_unknown(gold: Value, pred: Value) -> bool:
    """Whether two values are known to be equal."""
    try:
        return equivalent(gold, pred, rules=ComparisonRules())
    except ParseError:
        return gold == pred


def _is_empty(value: Value) -> bool:
    """Whether a value is the empty set, also in words: "no solution"."""
    if isinstance(value, WordAnswer):
        return value.key in (
            "nosolution",
            "norealsolutions",
            "nosolutions",
            "emptyset",
            "none",
            "空集",
        )
    return isinstance(value, ValueList) and not value.items


def _equal_in_base(gold: Value, pred: Value, _: ComparisonRules) -> bool:
    """Compare if a side states its base. The other side may omit the base, or be decimal."""
    if isinstance(gold, NumberInBase) and isinstance(pred, NumberInBase):
        return gold == pred or (gold.value is not None and gold.value == pred.value)
    in_base, other = (gold, pred) if isinstance(gold, NumberInBase) else (pred, gold)
    if not isinstance(in_base, NumberInBase) or not isinstance(other, Expression):
        return False
    return other.text == in_base.digits or numeric.evaluate(other.node) == in_base.value


# --- values of one canonical form -----------------------------------------------------------------


def _equal_canonical(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare with the same kind; a congruence also with n = 5k+1, a time with its ratio."""
    if isinstance(gold, Congruence) != isinstance(pred, Congruence):
        if isinstance(pred, Congruence) and _is_residue(gold, pred):
            return True
        gold, pred = (as_congruence(side) or side for side in (gold, pred))
    if isinstance(gold, Canonical) and isinstance(pred, Canonical):
        return equal_canonical(gold, pred)
    if "=" in (relation_kind(gold), relation_kind(pred)):
        return _equal_relations(gold, pred, rules)
    time, other = (gold, pred) if isinstance(gold, ClockTime) else (pred, gold)
    if (
        not isinstance(time, ClockTime)
        or not time.may_be_ratio
        or not isinstance(other, Expression)
    ):
        return False
    is_ratio = ":" in other.text and time.minutes % 60 > 0
    return is_ratio and numeric.evaluate(other.node) == Fraction(*divmod(time.minutes, 60))


def _is_residue(number: Value, stated: Congruence) -> bool:
    """Whether a key is the number of "3 (mod 7)", where the modulus is only said beside it."""
    return (
        isinstance(number, Expression)
        and not stated.subject
        and stated.residues == frozenset((numeric.evaluate(number.node),))
    )


def _equal_labelled(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare parts by their labels; a bare list has its parts in order."""
    sides = [side.values if isinstance(side, Labelled) else None for side in (gold, pred)]
    if isinstance(gold, Labelled) and isinstance(pred, Labelled):
        return gold.numbers == pred.numbers and _equal_ordered(gold.values, pred.values, rules)
    labelled, bare = (gold, pred) if isinstance(gold, Labelled) else (pred, gold)
    if not isinstance(labelled, Labelled) or not isinstance(bare, ValueList):
        return False
    if bare.brackets or labelled.numbers[0] != 1:
        return False
    first, second = (side if side is not None else bare.items for side in sides)
    return _equal_ordered(first, second, rules)


def _equal_in_name(gold: Value, pred: Value, _: ComparisonRules) -> bool:
    return gold == pred


def _equal_words(gold: Value, pred: Value, _: ComparisonRules) -> bool:
    if (
        isinstance(gold, WordAnswer)
        and isinstance(pred, WordAnswer)
        and (gold.key in (pred.key, pred.predicate) or gold.predicate == pred.key)
    ):
        return True
    return _is_empty(gold) and _is_empty(pred)


def _equal_logic(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare as sets of reals, else by truth tables; x = 5 also with what implies it."""
    statement, other = (gold, pred) if isinstance(gold, Statement) else (pred, gold)
    assert isinstance(statement, Statement)
    conclusion = statement.parts[-1]
    if not isinstance(other, Statement) and statement.op in ("implies", "iff"):
        if not isinstance(conclusion, Relation) or isinstance(other, WordAnswer):
            return False
        is_gold = statement is gold
        pair = (conclusion, other) if is_gold else (other, conclusion)
        return equivalent(*pair, rules=rules)
    try:
        return _equal_real_sets(gold, pred)
    except ParseError:
        sides = [_as_statement(side) for side in (gold, pred)]
        return equal_statements(sides[0], sides[1], equal=_equivalent_or_unknown)


def _as_statement(value: Value) -> Value:
    """Return the list "p or q" as a statement."""
    if isinstance(value, ValueList) and not value.brackets:
        return Statement(value.word or "and", tuple(map(_as_statement, value.items)))
    return value


# --- several values -------------------------------------------------------------------------------


def _equal_value_lists(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    if not isinstance(gold, ValueList) or not isinstance(pred, ValueList):
        if "cases" in (getattr(gold, "brackets", ""), getattr(pred, "brackets", "")):
            cases, other = (gold, pred) if isinstance(gold, ValueList) else (pred, gold)
            assert isinstance(cases, ValueList)
            return isinstance(other, Expression) and real_sets.equal_cases(cases, other)
        if (vector := equal_vectors(gold, pred)) is not None:
            return vector
        single, values = (gold, pred) if isinstance(pred, ValueList) else (pred, gold)
        assert isinstance(values, ValueList)
        if values.brackets == "" and len(values.items) > 1:
            first, *conditions = values.items
            are_natural = all(is_natural(condition, first) for condition in conditions)
            return are_natural and equivalent(first, single, rules=rules)
        if values.brackets not in ("{}", "") or len(values.items) != 1:
            return False
        return equivalent(values.items[0], single, rules=rules)
    brackets = {gold.brackets, pred.brackets}
    if brackets == {"cases"}:
        return _equal_unordered(gold.items, pred.items, rules)
    if brackets <= {"", "{}"}:
        return _equal_bare_lists(gold, pred, rules)
    if any(isinstance(item, Dots) for item in (*gold.items, *pred.items)):
        return len(brackets) == 1 and _equal_dotted(gold.items, pred.items, rules)
    if len(gold.items) != len(pred.items):
        return False
    if len(brackets) > 1 and (are_inequalities(gold) or are_inequalities(pred)):
        return _equal_real_sets(gold, pred)
    if len(brackets) > 1 and not may_differ_in_brackets(gold, pred):
        return False
    if brackets == {":"}:
        return equal_ratios(gold, pred)
    return _equal_ordered(gold.items, pred.items, rules)


def _equal_real_sets(gold: Value, pred: Value) -> bool:
    return real_sets.equal_sets(real_sets.to_real_set(gold), real_sets.to_real_set(pred))


def _equal_dotted(gold: Sequence[Value], pred: Sequence[Value], rules: ComparisonRules) -> bool:
    """Compare what is written before and after the dots; one side may write out more terms of an
    arithmetic or geometric sequence."""
    before, after = [], []
    for items in (gold, pred):
        positions = [i for i, item in enumerate(items) if isinstance(item, Dots)]
        if len(positions) != 1:
            return _equal_ordered(gold, pred, rules) and len(positions) > 1
        before.append(list(items[: positions[0]]))
        after.append(items[positions[0] + 1 :])
    if not _equal_ordered(after[0], after[1], rules):
        return False
    shorter, longer = sorted(before, key=len)
    common = len(shorter)
    if not _equal_ordered(before[0][:common], before[1][:common], rules):
        return False
    if len(longer) == common or (common >= 2 and is_progression(longer)):
        return True
    return common == 1 and len(after[0]) > 0 and counts_up(longer)


def _equal_bare_lists(gold: ValueList, pred: ValueList, rules: ComparisonRules) -> bool:
    """Compare in any order, unless the question asks for an order or only one side names values."""
    if any(isinstance(item, Dots) for item in (*gold.items, *pred.items)):
        return gold.brackets == pred.brackets and _equal_dotted(gold.items, pred.items, rules)
    are_statements = needs_same_word(gold) and needs_same_word(pred)
    if {gold.joined, pred.joined} == {"or", BOTH} or (
        are_statements and joining_word(gold) != joining_word(pred)
    ):
        return are_inequalities(gold) and are_inequalities(pred) and _equal_real_sets(gold, pred)
    if base_name(gold) in _UNKNOWNS and base_name(gold) == base_name(pred):
        sides = [
            tuple(parse_value(r.sides[-1]) for r in relations_in(side)) for side in (gold, pred)
        ]
        return _equal_unordered(sides[0], sides[1], rules)
    if rules.is_ordered and gold.brackets == pred.brackets == "":
        return _equal_ordered(gold.items, pred.items, rules)
    names = [{without_subscripts(name) for name in names_given(side)} for side in (gold, pred)]
    kinds = [units_given(side) for side in (gold, pred)]
    is_ordered = any(bool(a) != bool(b) and max(len(a), len(b)) > 1 for a, b in (names, kinds))
    is_ordered |= any(isinstance(item, Quantifier) for item in gold.items)
    compare = _equal_ordered if is_ordered else _equal_unordered
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
            if _is_set(item) == _is_set(partner) and equivalent(item, partner, rules=rules):
                unmatched.remove(partner)
                break
        else:
            return False
    return not unmatched


def _is_set(value: Value) -> bool:
    return isinstance(value, ValueList) and value.brackets == "{}"


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


# --- relations ------------------------------------------------------------------------------------


def _equal_relations(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare equations, memberships and inequalities with each other or with plain values."""
    gold_kind, pred_kind = relation_kind(gold), relation_kind(pred)
    if gold_kind == "=" and not isinstance(pred, Relation):
        return _equation_equals_value(gold, pred, rules, is_gold=True)
    if pred_kind == "=" and not isinstance(gold, Relation):
        return _equation_equals_value(pred, gold, rules, is_gold=False)
    if gold_kind == pred_kind == "=":
        assert isinstance(gold, Relation) and isinstance(pred, Relation)
        return _equal_equations(gold, pred, rules)
    if "named" in (gold_kind, pred_kind):
        return _equal_named_relations(gold, pred, rules)
    if "\\in" in (gold_kind, pred_kind):
        return _same_member(gold, pred) and equivalent(
            _set_in_membership(gold), _set_in_membership(pred), rules=rules
        )
    try:
        return _equal_real_sets(gold, pred)
    except ParseError:
        if isinstance(gold, Relation) and isinstance(pred, Relation):
            return equal_inequalities(gold, pred)
        if isinstance(gold, ValueList) or isinstance(pred, ValueList):
            return _equal_value_lists(gold, pred, rules)
        return False


def _same_member(gold: Value, pred: Value) -> bool:
    """Whether two memberships are of the same letter; a set alone is of any."""
    if not isinstance(gold, Relation) or not isinstance(pred, Relation):
        return True
    names = {gold.sides[0].replace(" ", ""), pred.sides[0].replace(" ", "")}
    return len(names) == 1 or gold.signs != pred.signs


def _equal_named_relations(gold: Value, pred: Value, rules: ComparisonRules) -> bool:
    """Compare A \\subseteq B, a \\perp b, x \\to 2 by their sign, from either side."""
    if not isinstance(gold, Relation) or not isinstance(pred, Relation):
        relation, plain = (gold, pred) if isinstance(gold, Relation) else (pred, gold)
        assert isinstance(relation, Relation)
        if relation.signs != ("\\to",) or not isinstance(plain, Expression):
            return False
        return _equal_texts(relation.sides[-1], plain.text, rules)
    if gold.signs == pred.signs and gold.signs[0] in ("\\cong", "\\sim"):
        return matched_points(gold) == matched_points(pred)
    if gold.signs == pred.signs and _equal_side_texts(gold.sides, pred.sides, rules):
        return True
    if any(sign not in FLIPPED for sign in pred.signs):
        return False
    flipped = tuple(FLIPPED[sign] for sign in pred.signs[::-1])
    return gold.signs == flipped and _equal_side_texts(gold.sides, pred.sides[::-1], rules)


def _equal_side_texts(gold: Sequence[str], pred: Sequence[str], rules: ComparisonRules) -> bool:
    return len(gold) == len(pred) and all(map(lambda g, p: _equal_texts(g, p, rules), gold, pred))


def _equal_by_name(
    names: Sequence[str], sides: tuple[Relation, Relation], rules: ComparisonRules
) -> bool:
    """Compare (a,b) = (1,2) with (b,a) = (2,1) letter by letter."""
    values = [parse_value(side.sides[-1]) for side in sides]
    given = [
        dict(zip(re.findall(r"\w", name), value.items, strict=False))
        for name, value in zip(names, values, strict=True)
        if isinstance(value, ValueList)
    ]
    return len(given) == 2 and all(
        name in given[1] and equivalent(value, given[1][name], rules=rules)
        for name, value in given[0].items()
    )


def _equal_texts(gold: str, pred: str, rules: ComparisonRules) -> bool:
    """Whether two sides are the same text, or known to be the same value."""
    if without_spaces(gold).replace("{", "").replace("}", "") == without_spaces(pred).replace(
        "{", ""
    ).replace("}", ""):
        return True
    try:
        return equivalent(parse_value(gold), parse_value(pred), rules=rules)
    except ParseError:
        return False


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
    is_name = is_label if is_gold else may_repeat_question
    if is_name(first) or first.startswith("\\lim") or is_ratio_of_angle(first):
        sides = [parse_value(last)]
    elif not middle and is_label(last):
        sides = [parse_value(first)]
    elif any(map(is_label, equation.sides[:-1])):
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


def _equal_equations(gold: Relation, pred: Relation, rules: ComparisonRules) -> bool:
    """Whether the equations give the same name the same value, or are equal up to a factor."""
    names = [without_spaces(side.sides[0]) for side in (gold, pred)]
    are_symbols = all(re.fullmatch(r"\\?[A-Za-z]+'*", without_subscripts(name)) for name in names)
    are_labels = is_label(gold.sides[0]) and is_label(pred.sides[0]) and not are_symbols
    if are_labels and names[0] != names[1] and have_same_letters(*names):
        return _equal_by_name(names, (gold, pred), rules)
    if are_labels and name_others(*names):
        return equal_functions(gold, pred)
    if (names[0] == names[1] or are_labels) and equivalent(
        parse_value(gold.sides[-1]), parse_value(pred.sides[-1]), rules=rules
    ):
        return True
    differences = [difference(side.sides[0], side.sides[-1]) for side in (gold, pred)]
    if numeric.constant_ratio(*differences) is not None or equal_functions(gold, pred):
        return True
    return is_solution_of(gold, differences[1]) or is_solution_of(pred, differences[0])


_COMPARISONS: tuple[tuple[tuple[type, ...], _Compare], ...] = (
    ((Labelled,), _equal_labelled),
    ((Statement,), _equal_logic),
    (get_args(Canonical), _equal_canonical),
    ((Quantifier, Dots), _equal_in_name),
    ((Relation,), _equal_relations),
    ((WordAnswer,), _equal_words),
    ((Matrix,), _equal_matrices),
    ((NumberInBase,), _equal_in_base),
    ((ValueList,), _equal_value_lists),
)
"""Comparison by kind of value; the first kind that is on either side decides."""
