"""Changes to a published dataset's row before it becomes a problem; each returns a description.

PREPARE["options_appended"]({"question": "Which?", "options": ["(A) 1", "(B) 2"]}, published, 0)
    returns "options appended", and the question is now "Which?\\n(A) 1\\n(B) 2"
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slowthink.data.registry import PublishedDataset
from slowthink.data.rows import UnusableValue, text_list, text_value
from slowthink.grading.answers.choice import LETTERS
from slowthink.records import item_seed

Values = dict[str, Any]


def option_texts(values: Mapping[str, Any], published: PublishedDataset) -> list[str]:
    """The right option, then the wrong ones. Raises UnusableValue if two are equal."""
    names = (published.correct_option or "", *published.incorrect_options)
    options = [text_value(values.get(name), name).strip() for name in names]
    if len(set(options)) < len(options):
        raise UnusableValue("two options are equal")
    return options


def shuffle_options(options: Sequence[str], *, seed: int) -> tuple[list[str], str]:
    """The options in random order by seed, and the new letter of the one that was first."""
    order = list(range(len(options)))
    random.Random(seed).shuffle(order)
    return [options[index] for index in order], LETTERS[order.index(0)]


def _append_shuffled_options(values: Values, published: PublishedDataset, seed: int) -> str:
    """Append options in random order by seed and question; the answer becomes a letter."""
    options = option_texts(values, published)
    question = _require_question(values, published)
    options, letter = shuffle_options(options, seed=item_seed(seed, "options", question))
    lines = [f"({label}) {option}" for label, option in zip(LETTERS, options, strict=False)]
    values[published.columns.question] = "\n".join([question, "Answer Choices:", *lines])
    values[published.columns.answer or "answer"] = letter
    return "options shuffled and appended, answer is a letter"


def _append_options(values: Values, published: PublishedDataset, seed: int) -> str | None:
    """Append options, each on its own line; those without a letter get one."""
    options = text_list(values.get("options"), "options")
    if not options:
        return None
    lines = [
        option if re.match(r"\s*\(?[A-Z][).:]", option) else f"({chr(65 + index)}) {option}"
        for index, option in enumerate(options)
    ]
    values[published.columns.question] = "\n".join([_require_question(values, published), *lines])
    return "options appended"


def _require_question(values: Values, published: PublishedDataset) -> str:
    column = published.columns.question
    question = text_value(values.get(column), column)
    if not question.strip():
        raise UnusableValue(f"`{column}` is missing or empty")
    return question


def _prepend(values: Values, published: PublishedDataset, column: str) -> str | None:
    text = values.get(column)
    if not isinstance(text, str) or not text.strip():
        return None
    values[published.columns.question] = f"{text.strip()}\n\n{_require_question(values, published)}"
    return f"{column} put before the question"


def _join_list(values: Values, column: str | None) -> str | None:
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


def _remove_answer_mark(values: Values, published: PublishedDataset, seed: int) -> str | None:
    question, mark, _ = _require_question(values, published).partition("\n\nAnswer:")
    values[published.columns.question] = question
    return "`Answer:` removed from the question" if mark else None


def _ask_for_optimum(values: Values, published: PublishedDataset, seed: int) -> str | None:
    """Turn SciEval's `Optimal solvent:` into a question, as s1 does."""
    question = _require_question(values, published)
    edited = re.sub(r"\nOptimal (solvent|ligand|reactant):", r"\nWhat is the optimal \1?", question)
    values[published.columns.question] = edited
    return "made a question" if edited != question else None


def _keep_clue(values: Values, published: PublishedDataset, seed: int) -> str:
    _, mark, clue = _require_question(values, published).partition("### Clue: ")
    if not mark:
        raise UnusableValue("holds no `### Clue: `")
    values[published.columns.question] = (
        f"Solve this crossword clue; the number of letters stands in brackets.\n\n{clue.strip()}"
    )
    return "clue put after an instruction"


PREPARE: dict[str, Callable[[Values, PublishedDataset, int], str | None]] = {
    "answer_first": lambda values, published, _: _take_first(values, published.columns.answer),
    "answer_joined": lambda values, published, _: _join_list(values, published.columns.answer),
    "answer_mark_removed": _remove_answer_mark,
    "clue_alone": _keep_clue,
    "context_first": lambda values, published, _: _prepend(values, published, "context"),
    "optimum_asked": _ask_for_optimum,
    "options_appended": _append_options,
    "options_drawn": _append_shuffled_options,
    "passage_first": lambda values, published, _: _prepend(values, published, "passage"),
    "solution_first": lambda values, published, _: _take_first(values, published.columns.solution),
}
"""Each changes a row's values in place, given the dataset and the recipe's seed. Returns a
description of the change for the lineage; None if nothing was changed."""
