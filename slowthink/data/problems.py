"""Rows of the user's files as problems, in one place for the pool and the benchmarks.

A row {"id": "q7", "question": "What is 6 + 1?", "answer": "7"} of `test.jsonl` becomes

    Item(address="test.jsonl:8", problem=Problem(id="p-9b…", question="What is 6 + 1?", answer="7",
    source="test", source_row="q7",
    meta='{"lineage":{"origin":"test.jsonl","revision":null,"changes":[]}}', …))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from slowthink.data.rows import (
    BadRow,
    SourceRow,
    UnusableValue,
    cut,
    optional_text,
    shown,
    stripped,
    text_list,
    text_value,
)
from slowthink.grading.extract import last_box
from slowthink.records import Dropped, Problem, Split, duplicate_key, problem_id

FROM_BOX = "answer from the solution's last box"


@dataclass(frozen=True)
class Item:
    """A problem and where it came from."""

    address: str
    """file:line."""
    problem: Problem


@dataclass
class SourceRows:
    """What one source gave."""

    items: list[Item] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    num_rows: int = 0
    columns: list[str] = field(default_factory=list)
    """Of all rows that could be read, in order of appearance."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Which rows they were: path and sha256, or hub id, configuration, split and revision."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where a row says what. None: nowhere."""

    question: str = "question"
    answer: str | None = "answer"
    """Where it is absent or empty, the solution's last box is taken (marked derived)."""
    solution: str | None = "solution"
    choices: str | None = None
    domain: str | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is true of every row of a source."""

    name: str
    licence: str | None = None
    language: str = "en"
    place: str | None = None
    """The file's name, or the hub's set. None: as `name`."""
    revision: str | None = None
    """Of a hub's set. None: not known."""


def read_problems(
    rows: Iterable[SourceRow | BadRow], *, name: str, convert: Callable[[SourceRow], Problem]
) -> SourceRows:
    """Each row as a problem, or set aside with its address and reason; `name` is the file's."""
    found, columns = SourceRows(), dict[str, None]()
    for row in rows:
        found.num_rows += 1
        if isinstance(row, SourceRow):
            columns.update(dict.fromkeys(row.values))
        item = row if isinstance(row, BadRow) else _item(row, name, convert)
        if isinstance(item, Item):
            found.items.append(item)
        else:
            address = f"{name}:{item.line}"
            found.dropped.append(
                Dropped(id=address, step="read", reason=item.reason, evidence=item.evidence)
            )
    found.columns = list(columns)
    return found


def _item(row: SourceRow, name: str, convert: Callable[[SourceRow], Problem]) -> Item | BadRow:
    try:
        return Item(f"{name}:{row.line}", convert(row))
    except UnusableValue as error:
        return BadRow(row.line, str(error), shown(row.values))


def problem_of(
    row: SourceRow, columns: Columns, origin: Origin, *, changes: Sequence[str] = ()
) -> Problem:
    """The row as a problem to train on; `changes` are those already made to it.

    Raises ValueProblem where a value cannot be used.
    """
    values = row.values
    question = _question(values.get(columns.question), columns.question)
    choices = _cell(values, columns.choices, text_list) or ()
    answer = _cell(values, columns.answer, optional_text)
    solution = _cell(values, columns.solution, optional_text)
    boxed = last_box(solution) if answer is None and solution is not None else None
    if boxed is not None:
        changes = (*changes, FROM_BOX)
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
        language=origin.language,
        domain=_cell(values, columns.domain, optional_text),
        meta=lineage(origin, changes),
    )


def lineage(origin: Origin, changes: Sequence[str]) -> str:
    """A problem's meta: whence its row comes, beside source, source_row and licence."""
    if not changes:
        return _unchanged(origin)
    return _lineage(origin, changes)


@lru_cache(maxsize=64)
def _unchanged(origin: Origin) -> str:
    return _lineage(origin, ())


def _lineage(origin: Origin, changes: Sequence[str]) -> str:
    found = {
        "origin": origin.place or origin.name,
        "revision": origin.revision,
        "changes": list(changes),
    }
    return json.dumps({"lineage": found}, ensure_ascii=False, separators=(",", ":"))


def _row_id(row: SourceRow) -> str:
    """The row's own `id`, else its line."""
    found = row.values.get("id")
    if isinstance(found, str):
        return text_value(found, "id")
    return str(found if isinstance(found, int) and not isinstance(found, bool) else row.line)


def _question(value: object, column: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableValue(f"`{column}` is missing or empty")
    return stripped(text_value(value, column))


def _cell(values: dict[str, Any], column: str | None, convert: Any) -> Any:
    return None if column is None else convert(values.get(column), column)


def reasons(dropped: Iterable[Dropped]) -> str:
    """The first three kinds of reason why rows were set aside, for a message."""
    return "; ".join(sorted({drop.reason for drop in dropped})[:3])


def keep_first(items: Sequence[Item]) -> tuple[list[Item], list[Dropped]]:
    """The first of equal questions, held-out before training ones; and the others, with why."""
    kept: dict[str, Item] = {}
    dropped = []
    for split in (Split.HELDOUT, Split.TRAIN):
        for item in items:
            if item.problem.split is not split:
                continue
            first = kept.setdefault(item.problem.duplicate_key, item)
            if first is not item:
                dropped.append(_equal(item, first))
    return list(kept.values()), dropped


def _equal(item: Item, first: Item) -> Dropped:
    problem, other = item.problem, first.problem
    if problem.split is Split.TRAIN and other.split is Split.HELDOUT:
        reason = "equal to a held-out problem"
    elif problem.answer == other.answer:
        reason = "duplicate question"
    else:
        reason = "duplicate question, other answer"
    evidence = cut(f"{first.address} is kept: {problem.question}")
    return Dropped(id=item.address, step="equal questions", reason=reason, evidence=evidence)
