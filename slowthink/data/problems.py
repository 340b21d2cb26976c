"""Rows of files and Hub datasets as problems, for pools and benchmarks alike.

A row {"id": "q7", "question": "What is 6 + 1?", "answer": "7"} of `test.jsonl` becomes

    LocatedProblem(location="test.jsonl:8", problem=Problem(id="p-9b…",
    question="What is 6 + 1?", answer="7", source="test", source_row="q7",
    meta='{"lineage":{"origin":"test.jsonl","revision":null,"changes":[]}}', …))
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from slowthink.data.column_names import choose_column
from slowthink.data.language import question_language
from slowthink.data.rows import (
    BadRow,
    SourceRow,
    UnusableValue,
    as_evidence,
    json_evidence,
    optional_text,
    strip_spaces,
    text_list,
    text_value,
)
from slowthink.errors import DataError
from slowthink.grading.boxes import last_box
from slowthink.grading.keys import read_key, split_key
from slowthink.records import Dropped, Problem, Split, duplicate_key, item_seed, problem_id

ANSWER_FROM_BOX = "answer from the solution's last box"
ANSWER_AFTER_MARK = "answer after ####"
NO_ANSWER = "no answer: %s"
PEEKED_ROWS = 100
"""Rows that are read before the columns are known."""


@dataclass(frozen=True)
class LocatedProblem:
    """A problem and the location of its row."""

    location: str
    """file:line"""
    problem: Problem


@dataclass
class SourceProblems:
    """Problems of one source, and its rows that were dropped."""

    items: list[LocatedProblem] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    num_rows: int = 0
    columns: list[str] = field(default_factory=list)
    """Column names of all readable rows, in order of appearance."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Where the rows are from: path and sha256, or hub id, configuration, split and revision."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a row's columns. None: the rows have no such column."""

    question: str = "question"
    answer: str | None = "answer"
    """If it is absent or empty, the solution's last box is the answer (`answer_derived`)."""
    solution: str | None = "solution"
    choices: str | None = None
    domain: str | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Provenance shared by all rows of a source."""

    name: str
    licence: str | None = None
    language: str = "en"
    dataset_id: str | None = None
    """The Hub dataset, or another public name. None: as `name`."""
    revision: str | None = None
    """Of a Hub dataset. None: unknown."""


def peek_columns(
    rows: Iterable[SourceRow | BadRow],
) -> tuple[list[str], Iterator[SourceRow | BadRow]]:
    """The columns of the first 100 rows, in order of appearance, and all rows."""
    rows = iter(rows)
    first = list(itertools.islice(rows, PEEKED_ROWS))
    readable = [row.values for row in first if isinstance(row, SourceRow)]
    return list(dict.fromkeys(key for values in readable for key in values)), itertools.chain(
        first, rows
    )


def guess_columns(columns: Columns, names: Collection[str]) -> tuple[Columns, dict[str, str]]:
    """The columns, with usual names of question, answer and solution in place of default names
    that the rows lack; and what was guessed, by role."""
    roles = ("question", "answer", "solution")
    chosen = {role: choose_column(getattr(columns, role), names, role) for role in roles}
    guessed = {role: str(name) for role, name in chosen.items() if name != getattr(columns, role)}
    return replace(columns, **guessed), guessed


def read_problems(
    rows: Iterable[SourceRow | BadRow], *, name: str, convert: Callable[[SourceRow], Problem]
) -> SourceProblems:
    """The converted rows; rows that cannot be used are dropped with their location and reason.

    `name` is the file or dataset in the locations.
    """
    source, columns = SourceProblems(), dict[str, None]()
    for row in rows:
        source.num_rows += 1
        location = f"{name}:{row.line}"
        try:
            if isinstance(row, BadRow):
                raise UnusableValue(row.reason)
            columns.update(dict.fromkeys(row.values))
            source.items.append(LocatedProblem(location, convert(row)))
        except UnusableValue as error:
            source.dropped.append(unusable_row(row, location, str(error)))
    source.columns = list(columns)
    return source


def unusable_row(row: SourceRow | BadRow, location: str, reason: str) -> Dropped:
    """The record of a row dropped at step `read`."""
    evidence = row.evidence if isinstance(row, BadRow) else json_evidence(row.values)
    return Dropped(id=location, step="read", reason=reason, evidence=evidence)


def make_problem(
    row: SourceRow, columns: Columns, origin: Origin, *, changes: tuple[str, ...] = ()
) -> Problem:
    """The row as a problem of the training split; `changes` are those already made to the row.

    Raises UnusableValue if a value cannot be used.
    """
    values = row.values
    question = _question(values.get(columns.question), columns.question)
    choices = _convert_cell(values, columns.choices, text_list) or ()
    answer = _convert_cell(values, columns.answer, optional_text)
    solution = _convert_cell(values, columns.solution, optional_text)
    if answer is not None:
        answer, worked, change = _split_answer(answer)
        solution, changes = solution or worked, (*changes, *change)
    boxed = last_box(solution) if answer is None and solution is not None else None
    if boxed is not None:
        changes = (*changes, ANSWER_FROM_BOX)
    return Problem(
        id=problem_id(question, choices),
        duplicate_key=duplicate_key(question, choices),
        question=question,
        choices=choices,
        answer=boxed if answer is None else answer,
        answer_derived=boxed is not None,
        solution=solution,
        source=origin.name,
        source_row=_row_id(row),
        licence=origin.licence,
        language=question_language(values, question, default=origin.language),
        domain=_convert_cell(values, columns.domain, optional_text),
        meta=lineage_json(origin, changes),
    )


def _split_answer(text: str) -> tuple[str | None, str | None, tuple[str, ...]]:
    """The reference answer in an answer column, the solution before it, and the change made.

    GSM8K's column has the solution too; other sets write "notfound" where they have no answer.
    """
    if read_key(text) is None:
        return None, None, (NO_ANSWER % as_evidence(text),)
    answer, solution = split_key(text)
    return answer, solution, () if answer == text else (ANSWER_AFTER_MARK,)


@lru_cache(maxsize=64)
def lineage_json(origin: Origin, changes: tuple[str, ...]) -> str:
    """A problem's meta: origin and revision of its row, and the changes made to it."""
    values = {
        "origin": origin.dataset_id or origin.name,
        "revision": origin.revision,
        "changes": changes,
    }
    return json.dumps({"lineage": values}, ensure_ascii=False, separators=(",", ":"))


def _row_id(row: SourceRow) -> str:
    """The row's own `id`, else its line."""
    value = row.values.get("id")
    if isinstance(value, str):
        return text_value(value, "id")
    return str(value if isinstance(value, int) and not isinstance(value, bool) else row.line)


def _question(value: object, column: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableValue(f"`{column}` is missing or empty")
    return strip_spaces(text_value(value, column))


def _convert_cell(values: dict[str, Any], column: str | None, convert: Any) -> Any:
    return None if column is None else convert(values.get(column), column)


def require_problems(source: SourceProblems, name: str, setting: str) -> None:
    """Raises DataError if no row of the source can be used."""
    if not source.items:
        reasons = "; ".join(sorted({drop.reason for drop in source.dropped})[:3])
        seen = f"none of {source.num_rows} rows can be used ({reasons})" if reasons else "no rows"
        raise DataError(
            f"{name}: {seen}; expected problems. "
            f"Fix the file, or name another: --set {setting}.path=FILE"
        )


def require_columns(
    required: Mapping[str, str | None], columns: Collection[str], name: str, setting: str
) -> None:
    """Raises DataError if a required column is in no row; `required` is by the setting's field."""
    for field_name, column in required.items():
        if column is not None and columns and column not in columns:
            raise DataError(
                f"{name}: no column `{column}`; the columns are {as_evidence(', '.join(columns))}. "
                f"Name the right one: --set {setting}.{field_name}=COLUMN"
            )


def keep_first(items: Sequence[LocatedProblem]) -> tuple[list[LocatedProblem], list[Dropped]]:
    """The first of equal questions, held-out before training problems; and the others, dropped."""
    kept: dict[str, LocatedProblem] = {}
    dropped = []
    for split in (Split.HELDOUT, Split.TRAIN):
        for item in items:
            if item.problem.split is not split:
                continue
            first = kept.setdefault(item.problem.duplicate_key, item)
            if first is not item:
                dropped.append(_drop_duplicate(item, first))
    return list(kept.values()), dropped


def _drop_duplicate(item: LocatedProblem, first: LocatedProblem) -> Dropped:
    problem, kept = item.problem, first.problem
    if problem.split is Split.TRAIN and kept.split is Split.HELDOUT:
        reason = "equal to a held-out problem"
    elif problem.answer == kept.answer:
        reason = "duplicate question"
    else:
        reason = "duplicate question, other answer"
    evidence = as_evidence(f"{first.location} is kept: {problem.question}")
    return Dropped(id=item.location, step="equal questions", reason=reason, evidence=evidence)


def shuffle_problems(
    items: Iterable[LocatedProblem], seed: int, *salt: str
) -> list[LocatedProblem]:
    """The problems in random order by seed, independent of their order in the file."""
    return sorted(items, key=lambda item: (item_seed(seed, *salt, item.problem.id), item.location))


def keep_chosen(
    items: Sequence[LocatedProblem], chosen: Iterable[LocatedProblem]
) -> tuple[list[LocatedProblem], list[Dropped]]:
    """The chosen problems in the order of `items`; and the others, dropped."""
    locations = {item.location for item in chosen}
    dropped = [
        Dropped(id=item.location, step="take", reason="not drawn (max_problems)")
        for item in items
        if item.location not in locations
    ]
    return [item for item in items if item.location in locations], dropped
