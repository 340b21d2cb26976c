"""Rows of a file, read one at a time in bounded memory; a broken row is a value, not an error.

JSONL, CSV, Parquet, and JSON (a list of objects, read as a whole). The stages that import problems
or chains read their files here, and drop each `BadRow` with its line, reason and evidence:

    BadRow(line=812, reason="not valid JSON", evidence='{"question": "What is')
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slowthink.data.encodings import csv_encoding
from slowthink.errors import DataError

MAX_LINE_BYTES = 8_000_000
"""A longer line is dropped unread; the longest published chains have some 200,000 bytes."""
EVIDENCE_CHARS = 200
STDIN = "-"
"""Name of the standard input, and where rows are written of the standard output."""
OTHER_DELIMITERS = (";", "\t", "|")
"""What separates the columns of files that are named .csv and have no commas."""
_BARE_RETURN = re.compile(r"(?<=\r)(?!\n)")
_STRIPPED_CONTROL = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")


@dataclass(frozen=True)
class SourceRow:
    """One readable row."""

    line: int
    """Line in the file; row number from 1 if the file has no lines."""
    values: dict[str, Any]


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be read."""

    line: int
    reason: str
    evidence: str = ""


class UnusableValue(ValueError):
    """A value of a row cannot be used; the message is the reason."""


def read_rows(path: str | Path, *, setting: str | None) -> Iterator[SourceRow | BadRow]:
    """All rows of a file, in order; of `-`, the JSONL lines of stdin.

    `setting` is the recipe key of the path, for messages; None: it is a command's argument. Raises
    DataError if the file is missing, of an unsupported type, unreadable or empty.
    """
    path = Path(path)
    hint = "" if setting is None else f": --set {setting}=PATH"
    if str(path) == STDIN:
        yield from _require_rows(path, _jsonl_rows(sys.stdin.buffer), hint)
        return
    reader = READERS.get(path.suffix.lower())
    if not path.is_file():
        seen = "is a folder" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {seen}; expected {', '.join(READERS)}. Name one{hint}")
    if reader is None:
        raise DataError(
            f"{path}: a `{path.suffix}` file; expected {', '.join(READERS)}. "
            f"Convert it, or name another{hint}"
        )
    _check_first_bytes(path, hint)
    yield from _require_rows(path, reader(path), hint)


def _require_rows(
    path: Path, rows: Iterator[SourceRow | BadRow], hint: str
) -> Iterator[SourceRow | BadRow]:
    """The rows. Raises DataError if there are none."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{path}: no rows; expected at least one. Name another{hint}")


def _check_first_bytes(path: Path, hint: str) -> None:
    with path.open("rb") as file:
        head = file.read(32)
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(
                f"{path}: is {kind}; expected {path.suffix} in UTF-8. "
                f"Unpack or convert it, or name another{hint}"
            )


def estimate_rows(path: str | Path, *, setting: str) -> int:
    """Number of rows of a file or a stage's folder: lines of JSONL that are not blank, rows of CSV,
    which may span lines, and the footer of Parquet. For plans only."""
    path = Path(path)
    if (path / "data.parquet").is_file():
        path = path / "data.parquet"
    if not path.is_file():
        seen = "is another folder" if path.is_dir() else "no such file"
        raise DataError(
            f"{path}: {seen}; expected a file of rows, or a stage's folder such as "
            f"runs/quickstart/pool. Name another: --set {setting}=PATH"
        )
    if path.suffix.lower() == ".parquet":
        return int(_open_parquet(path).metadata.num_rows)
    if path.suffix.lower() in (".json", ".csv"):
        return sum(1 for _ in READERS[path.suffix.lower()](path))
    with path.open("rb") as file:
        lines = (data for _, data in _read_lines(file))
        return sum(isinstance(data, BadRow) or not data.isspace() for data in lines)


def json_evidence(value: object) -> str:
    """Any value as evidence, in JSON."""
    try:
        return as_evidence(json.dumps(value, ensure_ascii=False, default=str))
    except (RecursionError, ValueError, TypeError):
        return f"{_json_type_name(value)}, nested too deep or not printable"


def as_evidence(text: str) -> str:
    """The first 200 characters of a text, safe to write as UTF-8."""
    return text[:EVIDENCE_CHARS].encode("utf-8", "backslashreplace").decode()[:EVIDENCE_CHARS]


# --- values ---------------------------------------------------------------------------------------


def text_value(value: object, column: str) -> str:
    """The value as a string. Raises UnusableValue for another type, a NUL or broken text."""
    if not isinstance(value, str):
        raise UnusableValue(f"`{column}` is {_json_type_name(value)}; expected a string")
    if "\x00" in value:
        raise UnusableValue(f"`{column}` holds a NUL byte")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnusableValue(f"`{column}` is not valid UTF-8") from None
    return value


def optional_text(value: object, column: str) -> str | None:
    """The value as a string without outer whitespace; None if it is absent, empty or NaN.

    Raises UnusableValue for a boolean, an infinite number, and as `text_value`.
    """
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value in (float("inf"), float("-inf")):
            raise UnusableValue(f"`{column}` is not a finite number")
        return None if value != value else str(value)
    return strip_spaces(text_value(value, column)) or None


def strip_spaces(text: str) -> str:
    """The text without outer whitespace; control characters that Python strips too are kept.

    `\\frac` written with one backslash too few starts with a form feed: it must not become `rac`.
    """
    stripped = text.strip()
    if len(stripped) != len(text) and _STRIPPED_CONTROL.search(text):
        return text.strip(" \t\r\n")
    return stripped


def text_list(value: object, column: str) -> tuple[str, ...]:
    """The value as strings; () if absent. Raises UnusableValue unless it is a list of strings."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnusableValue(f"`{column}` is {_json_type_name(value)}; expected a list of strings")
    return tuple(text_value(item, column) for item in value)


def parse_number(value: Any) -> float | None:
    """A finite number, or a text of one; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _json_type_name(value: object) -> str:
    names = {
        type(None): "empty", bool: "a boolean", int: "a number", float: "a number", str: "a string",
        list: "a list", dict: "an object", bytes: "bytes",
    }  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")


# --- readers --------------------------------------------------------------------------------------


def _read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | BadRow]]:
    """(line number, line); a line above the limit is skipped block by block, in bounded memory."""
    line = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if len(data) <= MAX_LINE_BYTES:
            yield line, data
            continue
        num_bytes, block = len(data), data
        while not block.endswith(b"\n") and (block := file.readline(1 << 20)):
            num_bytes += len(block)
        reason = f"a line above {MAX_LINE_BYTES:,} bytes"
        head = data[:EVIDENCE_CHARS].decode("utf-8", "replace")
        yield line, BadRow(line, reason, as_evidence(f"{num_bytes:,} bytes: {head}"))


def _read_jsonl(path: Path) -> Iterator[SourceRow | BadRow]:
    with path.open("rb") as file:
        yield from _jsonl_rows(file)


def _jsonl_rows(file: BinaryIO) -> Iterator[SourceRow | BadRow]:
    for line, data in _read_lines(file):
        if isinstance(data, BadRow):
            yield data
        elif data.strip():
            yield _json_row(line, data)


def _json_row(line: int, data: bytes) -> SourceRow | BadRow:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - 40) : error.start + 40]
        return BadRow(
            line, "not valid UTF-8", as_evidence(around.decode("utf-8", "backslashreplace"))
        )
    try:
        value = _decode_json(text)
    except _DuplicateKey:
        return BadRow(line, "names a key twice", as_evidence(text))
    except (ValueError, RecursionError):
        reason = "holds a NUL byte" if "\x00" in text else "not valid JSON"
        return BadRow(line, reason, as_evidence(text.replace("\x00", "\\x00")))
    return _object_row(line, value)


class _DuplicateKey(ValueError):
    """An object has two values under one key."""


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _DuplicateKey
    return values


_decode_json = json.JSONDecoder(object_pairs_hook=_object_without_repeats).decode


def _object_row(line: int, value: object) -> SourceRow | BadRow:
    if isinstance(value, dict):
        return SourceRow(line, value)
    return BadRow(
        line, f"the row is {_json_type_name(value)}; expected an object", json_evidence(value)
    )


def _read_json(path: Path) -> Iterator[SourceRow | BadRow]:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not valid JSON ({error}); expected a list of objects. "
            "Fix the file; if it has one object per line, it is JSONL: name it .jsonl"
        ) from None
    if not isinstance(values, list):
        raise DataError(
            f"{path}: contains {_json_type_name(values)}; expected a list of objects. "
            "Put the rows in a list, or write JSONL."
        )
    for line, value in enumerate(values, start=1):
        yield _object_row(line, value)


def _read_csv(path: Path) -> Iterator[SourceRow | BadRow]:
    """Rows below a header line; a row that spans several lines has the number of the last."""
    csv.field_size_limit(MAX_LINE_BYTES)
    long_lines: list[BadRow] = []
    encoding = csv_encoding(path)
    with path.open("rb") as file:
        reader = csv.reader(_csv_lines(file, long_lines, encoding), strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise _not_csv(path, f"not CSV ({as_evidence(str(error))})") from None
        if header is None:
            return
        _check_header(path, header, is_too_long=bool(long_lines))
        _check_column_names(path, header)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield BadRow(reader.line_num, "not valid CSV", as_evidence(str(error)))
                continue
            yield from long_lines
            long_lines.clear()
            if cells is None:
                return
            if cells:
                yield _csv_row(reader.line_num, header, cells)


def _check_header(path: Path, header: list[str], *, is_too_long: bool) -> None:
    """Raises DataError if the first line of a CSV file cannot be one of column names."""
    text = ",".join(header)
    if is_too_long:
        raise _not_csv(path, f"its first line is above {MAX_LINE_BYTES:,} bytes")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) - 0xDC00
            raise _not_csv(path, f"not UTF-8 text (byte {byte:#x} in its first line)") from None
    if "\x00" in text:
        raise _not_csv(path, "binary, not text (a NUL byte in its first line)")
    delimiter = next((mark for mark in OTHER_DELIMITERS if mark in text), None)
    if len(header) == 1 and delimiter is not None:
        raise DataError(
            f"{path}: its only column is {as_evidence(text)!r}; expected columns separated by "
            f"commas. If the delimiter is {delimiter!r}, save the file with commas; else rename "
            "the column."
        )


def _not_csv(path: Path, seen: str) -> DataError:
    return DataError(
        f"{path}: {seen}; expected CSV in UTF-8 with a line of column names. Convert it: in a "
        "spreadsheet, save as CSV UTF-8."
    )


def _check_column_names(path: Path, columns: list[str]) -> None:
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path}: two columns are named `{as_evidence(repeated[0])}`; expected distinct names. "
            "Rename one of them."
        )


def _csv_lines(file: BinaryIO, long_lines: list[BadRow], encoding: str) -> Iterator[str]:
    """Lines for the CSV parser, "" for one that is too long. They end with a line feed or, in a
    file whose first line has a bare carriage return (old Mac spreadsheets), with that too."""
    split = False
    for line, data in _read_lines(file):
        if isinstance(data, BadRow):
            long_lines.append(data)
            yield ""
            continue
        text = data.decode(encoding, "surrogateescape")
        split = split or (line == 1 and "\r" in text.rstrip("\r\n"))
        yield from filter(None, _BARE_RETURN.split(text)) if split else (text,)


def _csv_row(line: int, header: list[str], cells: list[str]) -> SourceRow | BadRow:
    text = ",".join(cells)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # a byte of another encoding, or it would be written as \udce9
            data = text.encode("utf-8", "surrogateescape")
            evidence = as_evidence(data.decode("utf-8", "backslashreplace"))
            return BadRow(line, "not valid UTF-8: convert the file", evidence)
    if len(cells) != len(header):
        reason = f"has {len(cells)} cells; expected {len(header)}, as the header"
        return BadRow(line, reason, as_evidence(text))
    return SourceRow(line, dict(zip(header, cells, strict=True)))


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from None


def _not_parquet(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: not a Parquet file ({as_evidence(str(error))}); expected a complete one. "
        "Write it again."
    )


def _read_parquet(path: Path) -> Iterator[SourceRow | BadRow]:
    import pyarrow as pa

    file, num_read = _open_parquet(path), 0
    _check_column_names(path, file.schema_arrow.names)
    try:
        for batch in file.iter_batches(batch_size=1024):
            yield from _batch_rows(batch, first_line=num_read + 1)
            num_read += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from None


def _batch_rows(batch: Any, *, first_line: int) -> list[SourceRow | BadRow]:
    """The batch's rows; converted one by one if a value has no Python equivalent."""
    try:
        return [SourceRow(line, row) for line, row in enumerate(batch.to_pylist(), first_line)]
    except (ValueError, OverflowError):
        return [_parquet_row(first_line + i, batch.slice(i, 1)) for i in range(batch.num_rows)]


def _parquet_row(line: int, row: Any) -> SourceRow | BadRow:
    try:
        return SourceRow(line, row.to_pylist()[0])
    except UnicodeDecodeError as error:
        return BadRow(line, "not valid UTF-8", as_evidence(str(error)))
    except (ValueError, OverflowError) as error:
        return BadRow(line, "a value is out of range", as_evidence(str(error)))


SIGNATURES = {
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"ARROW1": "an Arrow file",
    b"SQLite format 3": "a database",
    b"%PDF": "a PDF",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer, not the file",
}
"""First bytes of files that are often passed by mistake."""

READERS: dict[str, Callable[[Path], Iterator[SourceRow | BadRow]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
