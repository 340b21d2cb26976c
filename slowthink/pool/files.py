"""Problems from the user's files: columns mapped, answers found, broken rows set aside.

gsm8k.jsonl:812, step read: `answer` is a list; expected a string
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from slowthink.errors import ConfigError, DataError
from slowthink.problems import (
    Columns,
    Item,
    Origin,
    SourceRows,
    problem_of,
    read_problems,
    reasons,
)
from slowthink.recipe import FileSource
from slowthink.records import Dropped, Problem, Split, item_seed
from slowthink.rows import Row, ValueProblem, read_rows


def file_problems(source: FileSource, *, seed: int, setting: str) -> SourceRows:
    """Problems of a file, with their splits; `setting` is the source's recipe key, for messages.

    Raises DataError where the file, or a named column, is missing, or no row can be used.
    """
    found = _read(source, setting)
    if not found.items:
        raise DataError(
            f"{source.path}: none of {found.num_rows} rows can be used "
            f"({reasons(found.dropped)}); expected problems. "
            f"Mend the file, or name another: --set {setting}.path=PATH"
        )
    return _hold_out(_take(found, source, seed), source, seed, setting)


def _read(source: FileSource, setting: str) -> SourceRows:
    rows = read_rows(source.path, setting=f"{setting}.path")
    found = read_problems(rows, name=Path(source.path).name, convert=_converter(source))
    _check_columns(source, found.columns, setting)
    return found


def _check_columns(source: FileSource, columns: list[str], setting: str) -> None:
    """Raises DataError where a column that the source names is in no row."""
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


def _converter(source: FileSource) -> Callable[[Row], Problem]:
    """Makes a problem of a row; refuses the second row of an id."""
    seen: dict[str, int] = {}
    columns = Columns(
        question=source.question_field,
        answer=source.answer_field,
        solution=source.solution_field,
        choices=source.choices_field,
        domain=source.domain_field,
    )
    origin = Origin(
        name=source.name or Path(source.path).stem,
        licence=source.licence,
        language=source.language,
    )

    def convert(row: Row) -> Problem:
        problem = problem_of(row, columns, origin)
        row_id = row.values.get("id")
        if row_id is not None and seen.setdefault(str(row_id), row.line) != row.line:
            raise ValueProblem("duplicate `id`")
        return problem

    return convert


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
