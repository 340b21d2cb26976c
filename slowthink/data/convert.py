"""Converts a benchmark's row to a problem: maps its columns, reads extras, shuffles options.

Beside question and answer, a row or its `meta` may have: solution, choices, domain (or subject),
language, unit, tolerance (relative) or error (absolute, as in OlympiadBench), and choice_answer,
the letter of an answer that is given as the option's text:

    {"question": "… A. 1 B. 2", "answer": "2", "meta": {"choice_answer": "B", "language": "zh"}}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from slowthink.data.preparation import option_texts, shuffle_options
from slowthink.data.problems import Columns, Origin, make_problem
from slowthink.data.registry import PublishedSet
from slowthink.data.rows import SourceRow, optional_text, parse_number, text_value
from slowthink.grading.answers.latex import LimitExceeded, ParseError
from slowthink.grading.answers.normalise import normalise
from slowthink.grading.answers.values import number_of, parse_value
from slowthink.records import Problem, Split, item_seed, problem_id

MAX_META_CHARS = 20_000
"""Other columns are kept up to this length each; images and the like are not."""
DOMAINS = ("domain", "subject", "subfield")
LANGUAGES = {"english": "en", "chinese": "zh"}
_PROBLEM_COLUMNS = {"id", "tolerance", "error", "unit", "language", "choices", "meta", *DOMAINS}
"""Columns that become fields of the problem."""


@dataclass(frozen=True, kw_only=True)
class RowConverter:
    """Converts the rows of one benchmark."""

    published: PublishedSet
    columns: Columns
    """Of these rows: a file's may differ from the hub's."""
    seed: int

    def shuffles(self, columns: Collection[str]) -> bool:
        """Whether rows with these columns have their options shuffled."""
        return self.published.correct_option in columns

    def convert(self, row: SourceRow) -> Problem:
        """The row as a held-out problem. Raises UnusableValue where a value cannot be used."""
        values = _with_meta(row.values)
        mapped = SourceRow(row.line, self._mapped(values))
        origin = Origin(
            name=self.published.name,
            licence=self.published.licence,
            language=self._language(values),
        )
        problem = make_problem(mapped, Columns(choices="choices", domain="domain"), origin)
        return replace(
            problem,
            split=Split.HELDOUT,
            tolerance=_tolerance(values, problem.answer),
            unit=optional_text(values.get("unit"), "unit"),
            answer_type=_text(values.get("answer_type")),
            meta=json.dumps(self._other_columns(values), ensure_ascii=False, sort_keys=True),
        )

    def _mapped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The row under our own column names."""
        names, mark = self.columns, self.published.answer_mark
        question = self._question(values)
        choices = values.get(names.choices or "choices")
        answer = _joined(values.get(names.answer or "answer"), names.answer or "answer", ", ")
        solution = _joined(values.get(names.solution or "solution"), "solution", "\n")
        if self.shuffles(values):
            choices, answer = self._shuffled(question, values)
        elif mark and isinstance(answer, str) and mark in answer:
            worked, _, answer = answer.rpartition(mark)
            solution = solution or worked
        return {
            "id": values.get("id"),
            "question": question,
            "answer": answer,
            "solution": solution,
            "choices": choices if isinstance(choices, list) or names.choices else None,
            "domain": next(filter(None, (_text(values.get(name)) for name in DOMAINS)), None),
        }

    def _question(self, values: Mapping[str, Any]) -> Any:
        """The question, after its context where it has one."""
        question, column = values.get(self.columns.question), self.published.context
        context = optional_text(values.get(column), column) if column else None
        if context and isinstance(question, str) and question.strip():
            return f"{context}\n{question}"
        return question

    def _shuffled(self, question: Any, values: Mapping[str, Any]) -> tuple[list[str], str]:
        """The options in an order drawn by seed and question, and the right one's letter."""
        options = option_texts(values, self.published)
        question_id = problem_id(text_value(question, self.columns.question))
        seed = item_seed(self.seed, "options", self.published.name, question_id)
        return shuffle_options(options, seed=seed)

    def _language(self, values: Mapping[str, Any]) -> str:
        language = _text(values.get("language"))
        return LANGUAGES.get(language.lower(), language) if language else self.published.language

    def _other_columns(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The remaining columns that are text, numbers or lists of them."""
        names, published = self.columns, self.published
        used = {names.question, names.answer, names.solution, names.choices, published.context}
        used |= _PROBLEM_COLUMNS | {"answer", "solution"}
        used |= {published.correct_option, *published.incorrect_options}
        return {
            key: value
            for key, value in values.items()
            if key not in used and value is not None and _is_plain(value)
        }


def _with_meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row's columns, and those of its `meta` (an object, or JSON text) that it has not."""
    meta = values.get("meta")
    if isinstance(meta, str) and meta.lstrip().startswith("{"):
        with suppress(ValueError):
            meta = json.loads(meta)
    own = {key: value for key, value in values.items() if value is not None}
    return {**(meta if isinstance(meta, dict) else {}), **own}


def _joined(value: Any, column: str, separator: str) -> Any:
    """A list as one text; any other value unchanged."""
    if not isinstance(value, list):
        return value
    parts = [optional_text(part, column) for part in value]
    return separator.join(part for part in parts if part) or None


def _text(value: Any) -> str | None:
    """A text, or the first of a list of them; None for anything else."""
    if isinstance(value, list) and value:
        value = value[0]
    return (value.strip() or None) if isinstance(value, str) else None


def _is_plain(value: Any) -> bool:
    try:
        return len(json.dumps(value, ensure_ascii=False)) <= MAX_META_CHARS
    except (TypeError, ValueError):
        return False


def _tolerance(values: Mapping[str, Any], answer: str | None) -> float | None:
    """The relative tolerance; an absolute error is divided by the answer's magnitude."""
    relative = parse_number(values.get("tolerance"))
    if relative is not None and relative >= 0:
        return relative or None
    error, magnitude = parse_number(values.get("error")), _magnitude(answer)
    return error / magnitude if error and error > 0 and magnitude else None


def _magnitude(answer: str | None) -> float | None:
    """Absolute value of an answer that is one number; None for any other."""
    try:
        number = number_of(parse_value(normalise(answer or "")))
        return abs(float(number)) if not isinstance(number, complex) else None
    except (ParseError, LimitExceeded, ArithmeticError, ValueError, RecursionError):
        return None
