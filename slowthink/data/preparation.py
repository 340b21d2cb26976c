"""Changes made to a published set's row before it becomes a problem; each returns what it changed.

PREPARE["options_appended"]({"question": "Which?", "options": ["(A) 1", "(B) 2"]}, published, 0)
    returns "options appended", and the question is now "Which?\\n(A) 1\\n(B) 2"
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slowthink.data.registry import PublishedSet
from slowthink.data.rows import UnusableValue, text_list, text_value
from slowthink.grading.answers.choice import LETTERS
from slowthink.records import item_seed

Values = dict[str, Any]


def option_texts(values: Mapping[str, Any], published: PublishedSet) -> list[str]:
    """The right option, then the wrong ones. Raises UnusableValue where two are equal."""
    names = (published.correct_option or "", *published.incorrect_options)
    options = [text_value(values.get(name), name).strip() for name in names]
    if len(set(options)) < len(options):
        raise UnusableValue("two options are equal")
    return options


def shuffle_options(options: Sequence[str], *, seed: int) -> tuple[list[str], str]:
    """The options in an order drawn by seed, and the letter of the one that was first."""
    order = list(range(len(options)))
    random.Random(seed).shuffle(order)
    return [options[index] for index in order], LETTERS[order.index(0)]


def _options_drawn(values: Values, published: PublishedSet, seed: int) -> str:
    """Appends options in an order drawn by seed and question; the answer becomes a letter."""
    options = option_texts(values, published)
    question = _question(values, published)
    options, letter = shuffle_options(options, seed=item_seed(seed, "options", question))
    lines = [f"({mark}) {option}" for mark, option in zip(LETTERS, options, strict=False)]
    values[published.columns.question] = "\n".join([question, "Answer Choices:", *lines])
    values[published.columns.answer or "answer"] = letter
    return "options shuffled and appended, answer is a letter"


def _options_appended(values: Values, published: PublishedSet, seed: int) -> str | None:
    """Appends options, each on its own line; those without a letter are given one."""
    options = text_list(values.get("options"), "options")
    if not options:
        return None
    lines = [
        option if re.match(r"\s*\(?[A-Z][).:]", option) else f"({chr(65 + number)}) {option}"
        for number, option in enumerate(options)
    ]
    values[published.columns.question] = "\n".join([_question(values, published), *lines])
    return "options appended"


def _question(values: Values, published: PublishedSet) -> str:
    column = published.columns.question
    question = text_value(values.get(column), column)
    if not question.strip():
        raise UnusableValue(f"`{column}` is missing or empty")
    return question


def _prepend(values: Values, published: PublishedSet, column: str) -> str | None:
    text = values.get(column)
    if not isinstance(text, str) or not text.strip():
        return None
    values[published.columns.question] = f"{text.strip()}\n\n{_question(values, published)}"
    return f"{column} put before the question"


def _join(values: Values, column: str | None) -> str | None:
    parts = values.get(column or "")
    if not isinstance(parts, list) or column is None:
        return None
    values[column] = ", ".join(text_list(parts, column))
    return f"{column}: {len(parts)} joined" if len(parts) > 1 else None


def _take_first(values: Values, column: str | None) -> str | None:
    parts = values.get(column or "")
    if not isinstance(parts, list) or column is None:
        return None
    values[column] = parts[0] if parts else None
    return f"{column}: first of {len(parts)}" if len(parts) > 1 else None


def _answer_mark_removed(values: Values, published: PublishedSet, seed: int) -> str | None:
    question, mark, _ = _question(values, published).partition("\n\nAnswer:")
    values[published.columns.question] = question
    return "`Answer:` removed from the question" if mark else None


def _optimum_asked(values: Values, published: PublishedSet, seed: int) -> str | None:
    """Turns SciEval's `Optimal solvent:` into a question, as s1 does."""
    question = _question(values, published)
    asked = re.sub(r"\nOptimal (solvent|ligand|reactant):", r"\nWhat is the optimal \1?", question)
    values[published.columns.question] = asked
    return "made a question" if asked != question else None


def _clue_alone(values: Values, published: PublishedSet, seed: int) -> str:
    _, mark, clue = _question(values, published).partition("### Clue: ")
    if not mark:
        raise UnusableValue("holds no `### Clue: `")
    values[published.columns.question] = (
        f"Solve this crossword clue; the number of letters stands in brackets.\n\n{clue.strip()}"
    )
    return "clue put after an instruction"


PREPARE: dict[str, Callable[[Values, PublishedSet, int], str | None]] = {
    "answer_first": lambda values, published, _: _take_first(values, published.columns.answer),
    "answer_joined": lambda values, published, _: _join(values, published.columns.answer),
    "answer_mark_removed": _answer_mark_removed,
    "clue_alone": _clue_alone,
    "context_first": lambda values, published, _: _prepend(values, published, "context"),
    "optimum_asked": _optimum_asked,
    "options_appended": _options_appended,
    "options_drawn": _options_drawn,
    "passage_first": lambda values, published, _: _prepend(values, published, "passage"),
    "solution_first": lambda values, published, _: _take_first(values, published.columns.solution),
}
"""By name: a change of a row's values in place, given the set and the recipe's seed. Returns the
change in words for the lineage, None where there was nothing to change."""
