"""Converts a benchmark's row to a problem: maps columns, reads optional ones, shuffles options.

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

from slowthink.data.language import question_language, stated_language
from slowthink.data.preparation import option_texts, shuffle_options
from slowthink.data.problems import Columns, Origin, make_problem
from slowthink.data.registry import PublishedDataset
from slowthink.data.rows import SourceRow, optional_text, parse_number, text_value
from slowthink.grading.answers.nodes import LimitExceeded, ParseError
from slowthink.grading.answers.normalise import normalise
from slowthink.grading.answers.values import parse_value, to_number
from slowthink.records import Problem, Split, item_seed, problem_id

MAX_META_CHARS = 20_000
"""Other columns are kept in `meta` up to this length each, as JSON; longer ones are left out."""
DOMAIN_COLUMNS = ("domain", "subject", "subfield")
_PROBLEM_COLUMNS = {
    "id", "tolerance", "error", "unit", "language", "choices", "meta", *DOMAIN_COLUMNS,
}  # fmt: skip
"""Columns that become fields of the problem."""


@dataclass(frozen=True, kw_only=True)
class RowConverter:
    """Converts the rows of one benchmark."""

    published: PublishedDataset
    columns: Columns
    """Columns of these rows: those of a file may differ from the hub's."""
    seed: int

    def shuffles(self, columns: Collection[str]) -> bool:
        """Whether rows with these columns have their options shuffled."""
        return self.published.correct_option in columns

    def convert(self, row: SourceRow) -> Problem:
        """The row as a held-out problem. Raises UnusableValue if a value cannot be used."""
        values = _merge_meta(row.values)
        mapped = SourceRow(row.line, self._mapped(values))
        names = self.columns
        columns = Columns(
            question=names.question, answer=names.answer or "answer",
            solution=names.solution or "solution", choices=names.choices or "choices",
            domain="domain",
        )  # fmt: skip
        origin = Origin(
            name=self.published.name,
            licence=self.published.licence,
        )
        problem = make_problem(mapped, columns, origin)
        return replace(
            problem,
            split=Split.HELDOUT,
            language=self._language(values, problem.question),
            tolerance=_relative_tolerance(values, problem.answer),
            unit=optional_text(values.get("unit"), "unit"),
            answer_type=_first_text(values.get("answer_type")),
            meta=json.dumps(self._other_columns(values), ensure_ascii=False, sort_keys=True),
        )

    def _mapped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parts of a problem under the row's own column names, which messages name."""
        names = self.columns
        question = self._question(values)
        domains = (_first_text(values.get(name)) for name in DOMAIN_COLUMNS)
        choices = values.get(names.choices or "choices")
        answer = _join_list(values.get(names.answer or "answer"), names.answer or "answer", ", ")
        solution = _join_list(values.get(names.solution or "solution"), "solution", "\n")
        if self.shuffles(values):
            choices, answer = self._shuffled_options(question, values)
        is_list = isinstance(choices, list)
        return {
            "id": values.get("id"),
            "domain": next(filter(None, domains), None),
            names.choices or "choices": choices if is_list or names.choices else None,
            names.solution or "solution": solution,
            names.answer or "answer": answer,
            names.question: question,
        }

    def _question(self, values: Mapping[str, Any]) -> Any:
        """The question, after its context if it has one."""
        question, column = values.get(self.columns.question), self.published.context
        context = optional_text(values.get(column), column) if column else None
        if context and isinstance(question, str) and question.strip():
            return f"{context}\n{question}"
        return question

    def _shuffled_options(self, question: Any, values: Mapping[str, Any]) -> tuple[list[str], str]:
        """The options in random order by seed and question, and the right one's letter."""
        options = option_texts(values, self.published)
        question_id = problem_id(text_value(question, self.columns.question))
        seed = item_seed(self.seed, "options", self.published.name, question_id)
        return shuffle_options(options, seed=seed)

    def _language(self, values: Mapping[str, Any], question: str) -> str:
        """As the row states; a user's own file also by script, a published set as it is listed."""
        if self.published.hub_id:
            return stated_language(values) or self.published.language
        return question_language(values, question, default=self.published.language)

    def _other_columns(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The remaining columns that are text, numbers or lists of them."""
        names, published = self.columns, self.published
        used = {names.question, names.answer, names.solution, names.choices, published.context}
        used |= _PROBLEM_COLUMNS | {"answer", "solution"}
        used |= {published.correct_option, *published.incorrect_options}
        return {
            key: value
            for key, value in values.items()
            if key not in used and value is not None and _fits_in_meta(value)
        }


def _merge_meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row's columns; missing ones are filled from its `meta` (an object, or JSON text)."""
    meta = values.get("meta")
    if isinstance(meta, str) and meta.lstrip().startswith("{"):
        with suppress(ValueError):
            meta = json.loads(meta)
    present = {key: value for key, value in values.items() if value is not None}
    return {**(meta if isinstance(meta, dict) else {}), **present}


def _join_list(value: Any, column: str, separator: str) -> Any:
    """A list as one text; any other value unchanged."""
    if not isinstance(value, list):
        return value
    parts = [optional_text(part, column) for part in value]
    return separator.join(part for part in parts if part) or None


def _first_text(value: Any) -> str | None:
    """A text, or the first of a list of them; None for anything else."""
    if isinstance(value, list) and value:
        value = value[0]
    return (value.strip() or None) if isinstance(value, str) else None


def _fits_in_meta(value: Any) -> bool:
    try:
        return len(json.dumps(value, ensure_ascii=False)) <= MAX_META_CHARS
    except (TypeError, ValueError):
        return False


def _relative_tolerance(values: Mapping[str, Any], answer: str | None) -> float | None:
    """The relative tolerance; an absolute error is divided by the answer's magnitude."""
    relative = parse_number(values.get("tolerance"))
    if relative is not None and relative >= 0:
        return relative or None
    error, magnitude = parse_number(values.get("error")), _magnitude(answer)
    return error / magnitude if error and error > 0 and magnitude else None


def _magnitude(answer: str | None) -> float | None:
    """Absolute value of an answer that is one number; None for any other."""
    try:
        number = to_number(parse_value(normalise(answer or "")))
        return abs(float(number)) if not isinstance(number, complex) else None
    except (ParseError, LimitExceeded, ArithmeticError, ValueError, RecursionError):
        return None
