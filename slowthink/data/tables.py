"""Tables of records: Parquet out, Parquet or JSONL in, one record a row.

write_records(folder / "data.parquet", traces, Trace); read_records(folder, Trace)
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from slowthink.errors import DataError
from slowthink.serialise import arrow_schema, from_plain, plain

R = TypeVar("R")


def write_records(path: Path, records: Iterable[Any], cls: type) -> None:
    """Write records as Parquet, sorted by id (a trace's problem's id), else in the given order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [plain(record) for record in records]
    if rows and ("id" in rows[0] or "problem" in rows[0]):
        rows.sort(key=_id_of)
        if any(_id_of(row) == _id_of(following) for row, following in itertools.pairwise(rows)):
            rows.sort(key=lambda row: (_id_of(row), json.dumps(row, sort_keys=True)))
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(cls)), path, compression="zstd")


def _id_of(row: dict[str, Any]) -> str:
    row_id: str = row.get("id") or row["problem"]["id"]
    return row_id


def read_records(path: Path, cls: type[R]) -> list[R]:
    """Records from a stage's folder, a Parquet file, or a JSONL file in the same form."""
    if path.is_dir():
        path = path / "data.parquet"
    if not path.exists():
        raise DataError(
            f"{path}: no such file; expected {cls.__name__} rows. "
            "Name another, or run the stage before."
        )
    try:
        return [from_plain(cls, row) for row in _read_rows(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: rows are not {cls.__name__} rows ({type(error).__name__}: {error})."
        ) from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
