"""Files of a run's samples, one per arm, benchmark, protocol, temperature and budget."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from slowthink.data.tables import read_records
from slowthink.errors import DataError
from slowthink.records import Problem, group_by
from slowthink.serialise import write_atomic
from slowthink.stage_rows import EvaluationRow

Choices = dict[str, tuple[str, ...]]
"""Answer options by problem id."""

FILE_FIELDS = (
    "arm", "benchmark", "protocol", "temperature", "max_thinking_tokens", "waits", "forced",
)  # fmt: skip
"""Rows that are equal in these fields are written into one file."""


def write_samples(
    root: Path,
    target: Path,
    *,
    name: Callable[[EvaluationRow], str],
    text: Callable[[Sequence[EvaluationRow], Choices], str],
) -> dict[str, Any]:
    """Write the files. `name`: path of the file with a row; `text`: what the file holds.

    Returns `out`, `num_samples` and `files` (path, arm, benchmark, protocol, num_problems,
    num_samples). Raises DataError if the run is not evaluated, or a file exists already.
    """
    rows = read_records(root / "evaluate", EvaluationRow)
    choices = _read_choices(root)
    groups: dict[Path, list[EvaluationRow]] = {}
    for group in group_by_file(rows):
        path = target / name(group[0])
        while path in groups:  # names that differ only in characters that a path cannot contain
            path = path.with_stem(path.stem + "~")
        groups[path] = group
    for path in groups:
        if path.exists():
            raise DataError(
                f"{path}: the file exists already; expected a new one. "
                "Name another folder: --out DIR, or move the old file away."
            )
    for path, group in groups.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text(group, choices))
    return {
        "out": str(target),
        "num_samples": len(rows),
        "files": [_file_info(path, group) for path, group in groups.items()],
    }


def group_by_file(rows: Iterable[EvaluationRow]) -> list[list[EvaluationRow]]:
    """The rows of each file, in order of problem and sample."""
    groups = group_by(rows, attrgetter(*FILE_FIELDS))
    by_sample = attrgetter("problem_id", "sample")
    return [sorted(groups[key], key=by_sample) for key in sorted(groups)]


def sample_text(row: EvaluationRow) -> str:
    """All text generated or forced after the prompt."""
    return "".join(text for _, text in json.loads(row.segments))


def safe_name(name: str) -> str:
    """The name with only characters that are safe in one part of a path."""
    return re.sub(r"[^\w.,=+-]+", "-", name).lstrip(".") or "-"


def _read_choices(root: Path) -> Choices:
    """Answer options by problem id, from the run's pool."""
    if not (root / "pool" / "data.parquet").exists():
        return {}
    return {p.id: p.choices for p in read_records(root / "pool", Problem) if p.choices}


def _file_info(path: Path, rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    first = rows[0]
    return {
        "path": str(path), "arm": first.arm, "benchmark": first.benchmark,
        "protocol": first.protocol, "num_problems": len({row.problem_id for row in rows}),
        "num_samples": len(rows),
    }  # fmt: skip
