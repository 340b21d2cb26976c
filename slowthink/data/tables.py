"""Tables of records: written as Parquet, read from Parquet or JSONL, one record per row.

write_records(folder / "data.parquet", traces, Trace); read_records(folder, Trace)
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from slowthink.data.manifests import check_table
from slowthink.errors import DataError
from slowthink.serialise import arrow_schema, from_plain, plain

R = TypeVar("R")

ATTEMPTS_TABLE = "attempts.parquet"
"""In the folder of stage filter: `stage_rows.Attempt` rows of its difficulty steps."""
UNFINISHED_STAGES = {
    "pool": "has no pool yet",
    "filter": "has not been filtered yet",
    "trace": "has no traces yet",
    "select": "has no training set yet",
    "train": "has not been trained yet",
    "evaluate": "has not been evaluated yet",
}
"""What a run folder lacks if a stage is not finished."""


def write_records(path: Path, records: Iterable[Any], cls: type) -> None:
    """Write records as Parquet, sorted by id, else in the given order. Traces are sorted by their
    problem's id; those of one problem keep their order, which says which is preferred."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [plain(record) for record in records]
    if rows and ("id" in rows[0] or "problem" in rows[0]):
        rows.sort(key=_row_id)
        if "id" in rows[0] and any(
            _row_id(row) == _row_id(following) for row, following in itertools.pairwise(rows)
        ):
            rows.sort(key=lambda row: (_row_id(row), json.dumps(row, sort_keys=True)))
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(cls)), path, compression="zstd")


class RecordWriter:
    """Writes a Parquet table batch by batch, in the given order; a context manager."""

    def __init__(self, path: Path, cls: type) -> None:
        import pyarrow.parquet as pq

        self._schema = arrow_schema(cls)
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, records: Sequence[Any]) -> None:
        """Add records as one row group."""
        import pyarrow as pa

        rows = [plain(record) for record in records]
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))


def _row_id(row: dict[str, Any]) -> str:
    row_id: str = row.get("id") or row["problem"]["id"]
    return row_id


def read_records(path: Path, cls: type[R]) -> list[R]:
    """Records from a stage's folder, a Parquet file, or a JSONL file with the same columns."""
    table = path / "data.parquet" if path.is_dir() else path
    if not table.exists():
        if path.name in UNFINISHED_STAGES:
            raise missing_stage(path.parent, path.name)
        raise DataError(
            f"{path}: no such file; expected a table of {cls.__name__} rows. "
            "Name a Parquet or JSONL file, or a stage's folder such as runs/quickstart/pool."
        )
    if path.is_dir():
        check_table(path)
    try:
        return [from_plain(cls, row) for row in _read_rows(table)]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
        problem = f"{type(error).__name__}: {str(error)[:200]}"
        raise DataError(
            f"{table}: cannot be read as {cls.__name__} rows ({problem}); expected a complete "
            "Parquet or JSONL file with their columns. Write it again, or name another."
        ) from error


def missing_stage(root: Path, stage: str) -> DataError:
    """The error for a run folder in which this stage is not finished."""
    source = root if (root / "recipe.yaml").is_file() else f"RECIPE --out {root}"
    return DataError(f"{root} {UNFINISHED_STAGES[stage]}. Run: slowthink {stage} {source}")


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
