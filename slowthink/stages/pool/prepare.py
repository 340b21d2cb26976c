"""What is done to a row of the catalogue before it is a problem; each says what it changed.

PREPARE["options_appended"]({"question": "Which?", "options": ["(A) 1", "(B) 2"]}, context)
    → "options appended", and the question is "Which?\\n(A) 1\\n(B) 2"
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slowthink.data.catalogue import CatalogueSet
from slowthink.data.rows import UnusableValue, text_list, text_value
from slowthink.records import item_seed

Values = dict[str, Any]


@dataclass(frozen=True)
class PreparationContext:
    """What a change may depend on."""

    entry: CatalogueSet
    seed: int


def _question(values: Values, context: PreparationContext) -> str:
    column = context.entry.question
    question = text_value(values.get(column), column)
    if not question.strip():
        raise UnusableValue(f"`{column}` is missing or empty")
    return question


def _before(values: Values, context: PreparationContext, column: str) -> str | None:
    text = values.get(column)
    if not isinstance(text, str) or not text.strip():
        return None
    values[context.entry.question] = f"{text.strip()}\n\n{_question(values, context)}"
    return f"{column} put before the question"


def _options_appended(values: Values, context: PreparationContext) -> str | None:
    """Options go on lines of their own, with letters where they have none."""
    options = text_list(values.get("options"), "options")
    if not options:
        return None
    lines = [
        option if re.match(r"\s*\(?[A-Z][).:]", option) else f"({chr(65 + number)}) {option}"
        for number, option in enumerate(options)
    ]
    values[context.entry.question] = "\n".join([_question(values, context), *lines])
    return "options appended"


def _options_drawn(values: Values, context: PreparationContext) -> str:
    """GPQA's four options in an order drawn by seed and question; the answer is a letter."""
    names = ("Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)))
    options = [text_value(values.get(name), name).strip() for name in names]
    if len(set(options)) < len(options):
        raise UnusableValue("two options are equal")
    question = _question(values, context)
    order = list(range(len(options)))
    random.Random(item_seed(context.seed, "options", question)).shuffle(order)
    lines = [f"({chr(65 + place)}) {options[index]}" for place, index in enumerate(order)]
    values[context.entry.question] = "\n".join([question, "Answer Choices:", *lines])
    values[context.entry.answer or "answer"] = chr(65 + order.index(0))
    return "options shuffled and appended, answer is a letter"


def _joined(values: Values, column: str | None, between: str) -> str | None:
    found = values.get(column or "")
    if not isinstance(found, list) or column is None:
        return None
    values[column] = between.join(text_list(found, column))
    return f"{column}: {len(found)} joined" if len(found) > 1 else None


def _first(values: Values, column: str | None) -> str | None:
    found = values.get(column or "")
    if not isinstance(found, list) or column is None:
        return None
    values[column] = found[0] if found else None
    return f"{column}: first of {len(found)}" if len(found) > 1 else None


def _answer_mark_removed(values: Values, context: PreparationContext) -> str | None:
    question, mark, _ = _question(values, context).partition("\n\nAnswer:")
    values[context.entry.question] = question
    return "`Answer:` removed from the question" if mark else None


def _optimum_asked(values: Values, context: PreparationContext) -> str | None:
    """SciEval's `Optimal solvent:` becomes a question, as in s1."""
    question = _question(values, context)
    asked = re.sub(r"\nOptimal (solvent|ligand|reactant):", r"\nWhat is the optimal \1?", question)
    values[context.entry.question] = asked
    return "made a question" if asked != question else None


def _clue_alone(values: Values, context: PreparationContext) -> str:
    _, mark, clue = _question(values, context).partition("### Clue: ")
    if not mark:
        raise UnusableValue("holds no `### Clue: `")
    values[context.entry.question] = (
        f"Solve this crossword clue; the number of letters stands in brackets.\n\n{clue.strip()}"
    )
    return "clue put after an instruction"


PREPARE: dict[str, Callable[[Values, PreparationContext], str | None]] = {
    "answer_first": lambda values, context: _first(values, context.entry.answer),
    "answer_joined": lambda values, context: _joined(values, context.entry.answer, ", "),
    "answer_mark_removed": _answer_mark_removed,
    "clue_alone": _clue_alone,
    "context_first": lambda values, context: _before(values, context, "context"),
    "optimum_asked": _optimum_asked,
    "options_appended": _options_appended,
    "options_drawn": _options_drawn,
    "passage_first": lambda values, context: _before(values, context, "passage"),
    "solution_first": lambda values, context: _first(values, context.entry.solution),
}
