"""A benchmark's row as a problem: its columns mapped, its extras read, its options shuffled.

Beside question and answer, a row or its `meta` may hold: solution, choices, domain (or subject),
language, unit, tolerance (relative) or error (absolute, as OlympiadBench has it), and
choice_answer, the letter of an answer that is given as the option's text:

    {"question": "… A. 1 B. 2", "answer": "2", "meta": {"choice_answer": "B", "language": "zh"}}
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slowthink.data.benchmarks.table import Benchmark
from slowthink.data.problems import Columns, Origin, problem_of
from slowthink.data.rows import SourceRow, UnusableValue, optional_text, text_value
from slowthink.grading.answers.choice import LETTERS
from slowthink.grading.answers.latex import LimitExceeded, ParseError
from slowthink.grading.answers.normalise import clean
from slowthink.grading.answers.values import number_of, parse_value
from slowthink.records import Problem, Split, item_seed, problem_id

MAX_META_CHARS = 20_000
"""What else a row says is kept up to this length a column; images and the like are not."""
DOMAINS = ("domain", "subject", "subfield")
LANGUAGES = {"english": "en", "chinese": "zh"}
_READ = {"id", "tolerance", "error", "unit", "language", "choices", "meta", *DOMAINS}
"""Columns that become fields of the problem."""


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How the rows of one set are read."""

    name: str
    """The set's."""
    columns: Columns
    seed: int
    context: str | None = None
    answer_mark: str | None = None
    correct_option: str | None = None
    incorrect_options: tuple[str, ...] = ()
    language: str = "en"
    licence: str | None = None

    @classmethod
    def of(
        cls, name: str, benchmark: Benchmark | None, *, columns: Columns, seed: int
    ) -> RowReader:
        """The reading of a set in the table, or of one's own."""
        if benchmark is None:
            return cls(name=name, columns=columns, seed=seed)
        return cls(
            name=name,
            columns=columns,
            seed=seed,
            context=benchmark.context,
            answer_mark=benchmark.answer_mark,
            correct_option=benchmark.correct_option,
            incorrect_options=benchmark.incorrect_options,
            language=benchmark.language,
            licence=benchmark.licence,
        )

    def is_shuffled(self, columns: tuple[str, ...]) -> bool:
        """Whether these columns hold options to be shuffled."""
        return self.correct_option is not None and self.correct_option in columns

    def problem(self, row: SourceRow) -> Problem:
        """The row as a held-out problem. Raises ValueProblem where a value cannot be used."""
        values = _with_meta(row.values)
        plain = self._plain(values)
        names = Columns(choices="choices", domain="domain")
        origin = Origin(name=self.name, licence=self.licence, language=self._language(values))
        problem = problem_of(SourceRow(row.line, plain), names, origin)
        return replace(
            problem,
            split=Split.HELDOUT,
            tolerance=_tolerance(values, problem.answer),
            unit=optional_text(values.get("unit"), "unit"),
            answer_type=_text(values.get("answer_type")),
            meta=json.dumps(self._rest(values), ensure_ascii=False, sort_keys=True),
        )

    def _plain(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The row under the usual names."""
        names = self.columns
        question = self._question(values)
        choices = values.get(names.choices or "choices")
        answer = _joined(values.get(names.answer or "answer"), names.answer or "answer", ", ")
        solution = _joined(values.get(names.solution or "solution"), "solution", "\n")
        if self.is_shuffled(tuple(values)):
            choices, answer = self._shuffled(question, values)
        elif self.answer_mark and isinstance(answer, str) and self.answer_mark in answer:
            worked, _, answer = answer.rpartition(self.answer_mark)
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
        question = values.get(self.columns.question)
        context = optional_text(values.get(self.context), self.context) if self.context else None
        if context and isinstance(question, str) and question.strip():
            return f"{context}\n{question}"
        return question

    def _shuffled(self, question: Any, values: Mapping[str, Any]) -> tuple[list[str], str]:
        """The options in an order drawn by seed and question, and the right one's letter."""
        names = (self.correct_option or "", *self.incorrect_options)
        options = [text_value(values.get(name), name).strip() for name in names]
        if len(set(options)) < len(options):
            raise UnusableValue("two options are equal")
        asked = problem_id(text_value(question, self.columns.question))
        order = list(range(len(options)))
        random.Random(item_seed(self.seed, "options", self.name, asked)).shuffle(order)
        return [options[index] for index in order], LETTERS[order.index(0)]

    def _language(self, values: Mapping[str, Any]) -> str:
        language = _text(values.get("language"))
        return LANGUAGES.get(language.lower(), language) if language else self.language

    def _rest(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What else the row says, as far as it is text, numbers or lists of them."""
        names = self.columns
        used = {names.question, names.answer, names.solution, names.choices, self.context}
        used |= _READ | {self.correct_option, *self.incorrect_options, "answer", "solution"}
        left = {key: value for key, value in values.items() if key not in used}
        return {key: value for key, value in left.items() if value is not None and _is_plain(value)}


def _with_meta(values: Mapping[str, Any]) -> dict[str, Any]:
    """The row's columns, and beneath them what its `meta` (an object, or JSON text) says."""
    meta = values.get("meta")
    if isinstance(meta, str) and meta.lstrip().startswith("{"):
        try:
            meta = json.loads(meta)
        except ValueError:
            meta = None
    own = {key: value for key, value in values.items() if value is not None}
    return {**(meta if isinstance(meta, dict) else {}), **own}


def _joined(value: Any, column: str, between: str) -> Any:
    """Several values as one text; anything else as it is."""
    if not isinstance(value, list):
        return value
    parts = [optional_text(part, column) for part in value]
    return between.join(part for part in parts if part) or None


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


# --- tolerances -----------------------------------------------------------------------------------


def _tolerance(values: Mapping[str, Any], answer: str | None) -> float | None:
    """The relative tolerance; one given as an absolute error is divided by the key."""
    relative = _number(values.get("tolerance"))
    if relative is not None:
        return relative or None
    error, size = _number(values.get("error")), _size(answer)
    return error / size if error and size else None


def _number(value: Any) -> float | None:
    """A number of 0 or more; None for anything else."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _size(answer: str | None) -> float | None:
    """The magnitude of a key that is one number; None for any other."""
    try:
        number = number_of(parse_value(clean(answer or "")))
        return abs(float(number)) if not isinstance(number, complex) else None
    except (ParseError, LimitExceeded, ArithmeticError, ValueError, RecursionError):
        return None
