"""Files of answers to grade: rows of a reference answer and a prediction (`slowthink grade`).

Example row: {"gold": "1/2", "pred": "0.5", "equal": true}. Instead of "pred" it may have
"response", a text that contains an answer. For a judge, "solution" may take the place of "gold".
Where a file lacks these columns, usual names of them are guessed (`answer`, 答案, `prediction`, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.column_names import USUAL_NAMES, guess_column
from slowthink.data.rows import SourceRow, UnusableValue
from slowthink.data.stored.columns import parse_label
from slowthink.data.user_files import UserFile, read_user_file, with_columns
from slowthink.errors import DataError
from slowthink.grading.files import PairFile, PairRow, grade_rows, summarize_grades
from slowthink.grading.grader import Grader
from slowthink.records import Grade

DEFAULT_COLUMNS = ("gold", "pred", "response", "question", "solution")
_ROLES = {"gold": "answer"}
"""Role of a default column in the table of usual names, if it is not the column's own name."""
_EXPECTED = 'expected {"gold": "…", "pred": "…"} or "response" instead of "pred"'


@dataclass(frozen=True)
class GradableFile:
    """A user's file and its usable rows as pairs, in the same order as `lines`."""

    table: UserFile
    pairs: PairFile
    lines: tuple[SourceRow, ...]
    """The row of each pair."""

    def graded_rows(self, grades: list[Grade]) -> list[dict[str, Any]]:
        """All readable rows with `verdict`, `extracted` and `method`; a row that cannot be used has
        `error` instead."""
        by_line = {row.line: grade for row, grade in zip(self.lines, grades, strict=True)}
        errors = {row.line: row.reason for row in self.table.bad_rows}
        rows = []
        for row in self.table.rows:
            added = _grade_columns(by_line.get(row.line), errors.get(row.line))
            rows.append(with_columns(row.values, added, self.table.columns))
        return rows


def _grade_columns(grade: Grade | None, error: str | None) -> dict[str, Any]:
    if grade is None:
        return {"verdict": None, "extracted": None, "method": None, "error": error}
    return {"verdict": grade.verdict.value, "extracted": grade.extracted, "method": grade.method}


def read_pairs(path: str | Path) -> PairFile:
    """The rows of a file. Raises DataError if none can be used."""
    return open_pairs(path).pairs


def open_pairs(
    path: str | Path, *, columns: Mapping[str, str | None] | None = None
) -> GradableFile:
    """A file to grade; `columns` names those that are not to be guessed, by their default name.

    Raises ConfigError if a named column is in no row, and DataError if no row can be used.
    """
    return pairs_in(read_user_file(path), columns=columns)


def pairs_in(table: UserFile, *, columns: Mapping[str, str | None] | None = None) -> GradableFile:
    """The rows of a user's file as pairs; as `open_pairs`."""
    names = _choose_columns(table, columns or {})
    pairs = PairFile([], [])
    lines = []
    for row in table.rows:
        try:
            pairs.rows.append(_parse_row(row, names))
            lines.append(row)
        except UnusableValue as error:
            table.mark_bad(row, str(error))
    bad_rows = sorted(table.bad_rows, key=lambda row: row.line)
    pairs.errors.extend(
        f"{table.path}:{row.line}: {row.reason}; {_EXPECTED}. Fix the row" for row in bad_rows
    )
    if not pairs.rows:
        raise DataError(f"{pairs.errors[0]}. Nothing was graded.")
    return GradableFile(table, pairs, tuple(lines))


def _choose_columns(table: UserFile, given: Mapping[str, str | None]) -> dict[str, str]:
    """Column by default name: the given one, else the default's, else a guessed one."""
    names = {}
    for default in DEFAULT_COLUMNS:
        if given.get(default) is not None:
            names[default] = table.column(default, given[default]) or default
        elif default not in table.columns and (guess := _guess(table, default, names)):
            names[default] = table.guessed[default] = guess
        else:
            names[default] = default
    return names


def _guess(table: UserFile, default: str, names: Mapping[str, str]) -> str | None:
    """A usual name of the column. Where there are solutions only, they are the reference; where
    there are predictions, no response is needed."""
    if default == "response" and names["pred"] in table.columns:
        return None
    role = _ROLES.get(default, default)
    return guess_column(table.columns, role) if role in USUAL_NAMES else None


def _parse_row(row: SourceRow, names: Mapping[str, str]) -> PairRow:
    """The row as a pair. Raises UnusableValue if it has no reference or nothing to grade."""
    values = row.values
    present = {default for default, name in names.items() if name in values}
    if not present & {"gold", "solution"} or not present & {"pred", "response"}:
        raise UnusableValue(f"has {', '.join(values):.80}")
    for default in present:
        value = values[names[default]]
        if not isinstance(value, str | int | float | None):
            raise UnusableValue(f"`{names[default]}` is a {type(value).__name__}, not text")
    texts = {
        default: None if values.get(name) is None else str(values[name])
        for default, name in names.items()
    }
    return PairRow(
        line_number=row.line,
        gold=texts["gold"] or "",
        pred=texts["pred"],
        response=texts["response"],
        question=texts["question"] or "",
        equal=_label(values.get("equal")),
        choices=_choices(values.get("choices")),
        is_contested=values.get("contested") is True,
        solution=texts["solution"],
    )


def _label(value: Any) -> bool | None:
    """A row's known label; a CSV has it as text."""
    return parse_label(value) if isinstance(value, str) else None if value is None else bool(value)


def _choices(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def grade_file(path: str | Path, *, mode: str = "strict", num_workers: int = 1) -> dict[str, Any]:
    """The result of `slowthink grade`: n, verdicts, agreement, disagreements, speed.

    `agreement` is over rows that have `equal`, are not `contested` and whose verdict counts; None
    if there are none. `num_bad_rows` counts unusable rows, `bad_rows` has the first ten errors.
    Raises DataError if no row can be used.
    """
    pairs = read_pairs(path)
    with Grader(mode, num_workers=num_workers) as grader:
        return summarize_grades(pairs, grade_rows(pairs, grader), mode=mode)
