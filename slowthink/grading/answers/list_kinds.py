"""What the items of a list tell about it: their names and units, the word between them, its order.

Example: the items of "x = 1, x = 2" are values of one name, those of "a = 1, b = 2" are not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from slowthink.grading.answers import numeric
from slowthink.grading.answers.relations import relation_kind, without_subscripts
from slowthink.grading.answers.values import (
    Expression,
    Relation,
    Value,
    ValueList,
    WordAnswer,
    to_number,
)


def names_given(values: ValueList) -> set[str]:
    return {item.sides[0] for item in values.items if isinstance(item, Relation)}


def units_given(values: ValueList) -> set[str]:
    return {i.unit.name for i in values.items if isinstance(i, Expression) and i.unit}


def relations_in(values: ValueList) -> list[Relation]:
    return [item for item in values.items if isinstance(item, Relation)]


def base_name(values: ValueList) -> str:
    """The letter that all items give a value: x of x = 2, x = 3 and of x_1 = 2, x_2 = 3."""
    names = {without_subscripts(name) for name in names_given(values)}
    is_named = len(relations_in(values)) == len(values.items) and len(names) == 1
    are_equations = all(relation_kind(item) == "=" for item in values.items)
    return names.pop() if is_named and are_equations and len(values.items) > 1 else ""


def joining_word(values: ValueList) -> str:
    """The word that joins statements; commas mean "and", or of bare letters nothing."""
    return values.word or "and"


def needs_same_word(values: ValueList) -> bool:
    """Whether "and" and "or" between the items differ: they are statements, not values."""
    if all(isinstance(item, Expression) for item in values.items):
        return values.joined != "" and all(
            item.node.op == "sym" for item in values.items if isinstance(item, Expression)
        )
    if all(isinstance(item, WordAnswer) for item in values.items):
        return values.joined != ""
    kinds = {relation_kind(item) for item in values.items}
    return "" not in kinds and (kinds != {"="} or len(names_given(values)) > 1)


def are_inequalities(values: ValueList) -> bool:
    """Whether all items are inequalities, such as x > 0, x < 1, which may describe an interval."""
    return values.brackets == "" and all(relation_kind(item) == "<" for item in values.items)


def may_differ_in_brackets(gold: ValueList, pred: ValueList) -> bool:
    """Whether lists in different brackets may be the same tuple. Intervals never are."""
    brackets = {gold.brackets, pred.brackets}
    if brackets & {"[)", "(]", "{}", ":"}:
        return False
    bare = gold if gold.brackets == "" else pred
    are_relations = "" in brackets and all(isinstance(item, Relation) for item in bare.items)
    return len(gold.items) > 2 or are_relations


def counts_up(items: Sequence[Value]) -> bool:
    """Whether items are k, k+1, … or a_k, a_{k+1}, …"""
    texts = [item.text if isinstance(item, Expression) else "" for item in items]
    parts = [re.fullmatch(r"([a-zA-Z]_\{?)?(\d{1,9})\}?", text) for text in texts]
    first = parts[0]
    return first is not None and all(
        part and part.group(1) == first.group(1) and int(part.group(2)) == int(first.group(2)) + i
        for i, part in enumerate(parts)
    )


def is_progression(items: Sequence[Value]) -> bool:
    numbers = [to_number(item) for item in items]
    differences = {b - a for a, b in itertools.pairwise(numbers)}
    ratios = {b / a for a, b in itertools.pairwise(numbers) if a}
    return len(differences) == 1 or (len(ratios) == 1 and 0 not in numbers)


def equal_vectors(gold: Value, pred: Value) -> bool | None:
    """Compare 3i - 2j with (3, -2); None for other values."""
    sum_, values = (gold, pred) if isinstance(gold, Expression) else (pred, gold)
    if not isinstance(sum_, Expression) or not isinstance(values, ValueList):
        return None
    if values.brackets != "()" or "j" not in sum_.symbols or not sum_.symbols <= {"j", "k"}:
        return None
    found = numeric.components(sum_.node, ("i", "j", "k")[: len(values.items)])
    return found is not None and all(
        numeric.is_near(a, to_number(b)) for a, b in zip(found, values.items, strict=True)
    )


def equal_ratios(gold: ValueList, pred: ValueList) -> bool:
    """Whether the parts of two ratios are proportional."""
    gold_first, *gold_others = map(to_number, gold.items)
    pred_first, *pred_others = map(to_number, pred.items)
    others = zip(gold_others, pred_others, strict=True)
    return all(numeric.is_near(gold_first * p, pred_first * g) for g, p in others)
