"""Problems from the user's files: columns mapped, answers found, broken rows set aside.

gsm8k.jsonl:812, step read: `answer` is a list; expected a string
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, DataError
from slowthink.grading.extract import last_box
from slowthink.recipe import FileSource
from slowthink.records import Dropped, Problem, Split, duplicate_key, item_seed, problem_id
from slowthink.rows import (
    BadRow,
    Row,
    ValueProblem,
    cut,
    optional_text,
    read_rows,
    text_list,
    text_value,
)


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


def file_problems(source: FileSource, *, seed: int, setting: str) -> SourceRows:
    """Problems of a file, with their splits; `setting` is the source's recipe key, for messages.

    Raises DataError where the file, or a named column, is missing, or no row can be used.
    """
    found = _read(source, setting)
    if not found.items:
        raise DataError(
            f"{source.path}: none of {found.num_rows} rows can be used "
            f"({_reasons(found.dropped)}); expected problems. "
            f"Mend the file, or name another: --set {setting}.path=PATH"
        )
    return _hold_out(_take(found, source, seed), source, seed, setting)


def _read(source: FileSource, setting: str) -> SourceRows:
    name = Path(source.path).name
    found, columns, seen = SourceRows(), dict[str, None](), dict[str, int]()
    for row in read_rows(source.path, setting=f"{setting}.path"):
        found.num_rows += 1
        if isinstance(row, Row):
            columns.update(dict.fromkeys(row.values))
        item = row if isinstance(row, BadRow) else _problem(row, source, seen)
        if isinstance(item, Item):
            found.items.append(item)
        else:
            address = f"{name}:{item.line}"
            found.dropped.append(
                Dropped(id=address, step="read", reason=item.reason, evidence=item.evidence)
            )
    _check_columns(source, columns, setting)
    return found


def _check_columns(source: FileSource, columns: Iterable[str], setting: str) -> None:
    """Raises DataError where a column that the source names is in no row."""
    columns = list(columns)
    wanted = {
        "question_field": source.question_field,
        "choices_field": source.choices_field,
        "domain_field": source.domain_field,
    }
    if source.solution_field not in columns:
        wanted["answer_field"] = source.answer_field
    for key, column in wanted.items():
        if column is not None and columns and column not in columns:
            raise DataError(
                f"{source.path}: no column `{column}`; the columns are {', '.join(columns)}. "
                f"Name the right one: --set {setting}.{key}=COLUMN"
            )


def _problem(row: Row, source: FileSource, seen: dict[str, int]) -> Item | BadRow:
    """The row as a problem, or what is wrong with it; `seen` are the file's ids so far."""
    try:
        problem = _to_problem(row, source)
        row_id = row.values.get("id")
        if row_id is not None and seen.setdefault(str(row_id), row.line) != row.line:
            raise ValueProblem("duplicate `id`")
    except ValueProblem as error:
        return BadRow(row.line, str(error), cut(_show(row.values)))
    return Item(f"{Path(source.path).name}:{row.line}", problem)


def _show(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, default=str)


def _to_problem(row: Row, source: FileSource) -> Problem:
    values = row.values
    question = _question(values.get(source.question_field), source.question_field)
    choices = _cell(values, source.choices_field, text_list) or ()
    answer = _cell(values, source.answer_field, optional_text)
    solution = _cell(values, source.solution_field, optional_text)
    boxed = last_box(solution) if answer is None and solution is not None else None
    row_id = values.get("id")
    return Problem(
        id=problem_id(question, choices),
        duplicate_key=duplicate_key(question, choices),
        question=question,
        choices=choices,
        answer=boxed if answer is None else answer,
        answer_derived=boxed is not None,
        solution=solution,
        source=source.name or Path(source.path).stem,
        source_row=str(row_id) if isinstance(row_id, (str, int)) else str(row.line),
        licence=source.licence,
        language=source.language,
        domain=_cell(values, source.domain_field, optional_text),
    )


def _question(value: object, column: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueProblem(f"`{column}` is missing or empty")
    return text_value(value, column).strip()


def _cell(values: dict[str, Any], column: str | None, convert: Any) -> Any:
    return None if column is None else convert(values.get(column), column)


# --- which rows -----------------------------------------------------------------------------------


def _drawn(items: list[Item], number: int, *, seed: int, purpose: str) -> set[str]:
    """Addresses of `number` items drawn by seed, whatever their order in the file."""
    ranked = sorted(
        items, key=lambda item: (item_seed(seed, purpose, item.problem.id), item.address)
    )
    return {item.address for item in ranked[:number]}


def _take(found: SourceRows, source: FileSource, seed: int) -> SourceRows:
    """At most `max_problems`, drawn by seed."""
    if source.max_problems is None or len(found.items) <= source.max_problems:
        return found
    taken = _drawn(found.items, source.max_problems, seed=seed, purpose="take")
    left = [
        Dropped(id=item.address, step="take", reason="not drawn (max_problems)")
        for item in found.items
        if item.address not in taken
    ]
    items = [item for item in found.items if item.address in taken]
    return replace(found, items=items, dropped=found.dropped + left)


def _hold_out(found: SourceRows, source: FileSource, seed: int, setting: str) -> SourceRows:
    """The same, with `num_heldout` problems, or all of a held-out file, marked as held out."""
    distinct = list({item.problem.duplicate_key: item for item in reversed(found.items)}.values())
    if source.split == "train" and source.num_heldout >= max(1, len(distinct)):
        raise ConfigError(
            f"{setting}.num_heldout: {source.num_heldout} of {len(distinct)} problems would be "
            f"held out; expected fewer than there are. Lower it, or --set {setting}.split=heldout"
        )
    if source.split == "heldout":
        held = {item.address for item in found.items}
    else:
        held = _drawn(distinct, source.num_heldout, seed=seed, purpose="heldout")
    items = [
        replace(item, problem=replace(item.problem, split=Split.HELDOUT))
        if item.address in held
        else item
        for item in found.items
    ]
    return replace(found, items=items)


def _reasons(dropped: list[Dropped]) -> str:
    reasons = sorted({drop.reason for drop in dropped})
    return "; ".join(reasons[:3])
