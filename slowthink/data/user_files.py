"""A user's file of rows, read whole and written back with the user's own columns and ids.

file = read_user_file("mine.csv")          # or .jsonl, .json, .parquet, or - for JSONL on stdin
questions = [text_value(row.values[file.column("question")], …) for row in file.rows]
write_rows("out.jsonl", [row.values for row in file.rows])
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from slowthink.data.column_names import USUAL_NAMES, guess_column
from slowthink.data.rows import (
    STDIN,
    BadRow,
    SourceRow,
    UnusableValue,
    as_evidence,
    optional_text,
    read_rows,
)
from slowthink.errors import ConfigError, DataError
from slowthink.serialise import replacing

WRITTEN_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass
class UserFile:
    """The rows of a file, its columns, and what was guessed about them."""

    path: str
    name: str
    """For messages: the file's name."""
    rows: list[SourceRow]
    bad_rows: list[BadRow]
    columns: list[str]
    """Of all readable rows, in order of appearance."""
    num_rows: int
    """All rows of the file, unreadable ones included."""
    guessed: dict[str, str] = field(default_factory=dict)
    """Columns that were guessed, by role."""

    def column(self, role: str, given: str | None = None) -> str | None:
        """The column of a role: the given one, else the default's or a guessed one; None if none.

        Raises ConfigError if the given column is in no row.
        """
        if given is not None and given not in self.columns:
            raise ConfigError(
                f"{self.name}: no column `{given}`; the columns are {self._columns_text()}. "
                f"Name one of them: --{role}-field COLUMN"
            )
        name = given or guess_column(self.columns, role)
        if given is None and name is not None and name != USUAL_NAMES[role][0]:
            self.guessed[role] = name
        return name

    def require_column(self, role: str, given: str | None = None) -> str:
        """As `column`. Raises DataError if there is none."""
        name = self.column(role, given)
        if name is None:
            raise DataError(
                f"{self.name}: no column for the {role}; the columns are {self._columns_text()}. "
                f"Expected `{USUAL_NAMES[role][0]}` or a usual name of it. "
                f"Name the right one: --{role}-field COLUMN{self._chat_hint()}"
            )
        return name

    def row_id(self, row: SourceRow) -> str:
        """The row's own id, else FILE:LINE."""
        value = row.values.get(guess_column(self.columns, "id") or "id")
        has_id = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        return str(value) if has_id else f"{self.name}:{row.line}"

    def mark_bad(self, row: SourceRow, reason: str) -> None:
        """Add a readable row that a command cannot use to the bad rows."""
        evidence = json.dumps(row.values, ensure_ascii=False, default=str)
        self.bad_rows.append(BadRow(row.line, reason, as_evidence(evidence)))

    def texts(self, column: str) -> list[tuple[SourceRow, str]]:
        """The rows that have a text in this column, with it; the others become bad rows."""
        usable = []
        for row in self.rows:
            try:
                usable.append((row, _text(row.values.get(column), column)))
            except UnusableValue as error:
                self.mark_bad(row, str(error))
        return usable

    def _chat_hint(self) -> str:
        is_chat = not {"conversations", "messages", "conversation"}.isdisjoint(self.columns)
        return ". To train on chats: slowthink run own-chains" if is_chat else ""

    def _columns_text(self) -> str:
        return as_evidence(", ".join(self.columns))


def read_user_file(path: str | Path) -> UserFile:
    """All rows of a file. Raises DataError as `read_rows`, and if no row can be read."""
    rows: list[SourceRow] = []
    bad_rows: list[BadRow] = []
    for row in read_rows(path, setting=None):
        (rows if isinstance(row, SourceRow) else bad_rows).append(row)  # type: ignore[arg-type]
    name = "stdin" if str(path) == STDIN else Path(path).name
    if not rows:
        first = bad_rows[0]
        raise DataError(
            f"{name}:{first.line}: {first.reason} ({first.evidence:.80}); expected rows, and none "
            "of the file can be read. Fix the file."
        )
    columns = dict.fromkeys(key for row in rows for key in row.values)
    return UserFile(
        path=str(path), name=name, rows=rows, bad_rows=bad_rows, columns=list(columns),
        num_rows=len(rows) + len(bad_rows),
    )  # fmt: skip


def _text(value: Any, column: str) -> str:
    text = optional_text(value, column)
    if text is None:
        raise UnusableValue(f"`{column}` is missing or empty")
    return text


def with_columns(
    values: Mapping[str, Any], added: Mapping[str, Any], taken: Collection[str]
) -> dict[str, Any]:
    """A user's row and our columns; one whose name the user's file has is named slowthink_NAME."""
    ours = {f"slowthink_{key}" if key in taken else key: value for key, value in added.items()}
    return {**values, **ours}


# --- writing --------------------------------------------------------------------------------------


def check_output_path(path: Path, *, suffixes: Collection[str], or_else: str = "") -> None:
    """Raise ConfigError if a file of these kinds cannot be written there."""
    if path.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{path}: a `{path.suffix}` file; expected {', '.join(suffixes)}{or_else}. "
            "Name another."
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(
            f"{path}: no such folder; expected one to write into. Make it: "
            f"mkdir -p {path.absolute().parent}"
        )


def check_output(path: Path | None, *, source: str | Path) -> None:
    """Raise ConfigError before any work if rows cannot be written there."""
    if path is None or str(path) == STDIN:
        return
    check_output_path(path, suffixes=WRITTEN_SUFFIXES, or_else=", or - for JSONL on stdout")
    if str(source) != STDIN and path.exists() and path.resolve() == Path(source).resolve():
        raise ConfigError(
            f"{path}: is the input; expected another file. Name one, nothing is lost."
        )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows by the file's suffix, as a whole or not at all; to `-` as JSONL on stdout.

    Raises DataError if Parquet cannot hold a column's values.
    """
    if str(path) == STDIN:
        _write_jsonl(sys.stdout, rows)
        return
    with replacing(path) as partial:
        _write_file(partial, path, rows)


def _write_file(partial: Path, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        _write_parquet(partial, path, rows)
        return
    # In JSON, the escape of half a surrogate pair is the text that was read.
    with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        if suffix == ".csv":
            _write_csv(file, rows)
        elif suffix == ".json":
            json.dump(list(rows), file, ensure_ascii=False, indent=1)
        else:
            _write_jsonl(file, rows)


def _write_jsonl(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _write_csv(file: TextIO, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])


def _csv_cell(value: Any) -> Any:
    is_nested = isinstance(value, list | dict | bool)
    return json.dumps(value, ensure_ascii=False, default=str) if is_nested else value


def _write_parquet(partial: Path, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(key for row in rows for key in row))
    try:
        columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    except (pa.ArrowException, OverflowError, ValueError) as error:
        raise DataError(
            f"{path}: a column has values that Parquet cannot hold ({as_evidence(str(error))}); "
            "expected one type a column. Write JSONL: --out FILE.jsonl"
        ) from None
    pq.write_table(pa.table(columns), partial, compression="zstd")
