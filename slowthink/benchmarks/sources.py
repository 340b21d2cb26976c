"""A set's rows as they lie in a file or on the hub, with the facts that say which ones they were.

RawRows(name="aime24.jsonl", rows=[Row(line=1, values={"question": …}), …],
        facts={"path": "aime24.jsonl", "sha256": "5f0c…", "num_rows": 30, …})
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.benchmarks.table import Benchmark
from slowthink.errors import ConfigError, DataError
from slowthink.rows import BadRow, Row, read_rows

_COMMIT = re.compile(r"[0-9a-f]{40}")
_COMMIT_IN_PATH = re.compile(rf"[/\\]({_COMMIT.pattern})[/\\]")


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """All rows of a set, not yet understood."""

    name: str
    """Of the file or the hub's set; part of the rows' addresses."""
    rows: list[Row | BadRow]
    facts: dict[str, Any]
    """Which rows they are: path and sha256, or hub id, config, split and revision; num_rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all readable rows, in order of appearance."""
        found = [key for row in self.rows if isinstance(row, Row) for key in row.values]
        return tuple(dict.fromkeys(found))


def file_rows(path: str | Path, *, setting: str) -> RawRows:
    """Rows of a file. Raises DataError where it is missing, empty or of another kind."""
    path = Path(path)
    rows = list(read_rows(path, setting=f"{setting}.path"))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"path": str(path), "sha256": digest, "num_rows": len(rows)}
    return RawRows(name=path.name, rows=rows, facts=facts)


def hub_rows(benchmark: Benchmark, *, revision: str | None, setting: str) -> RawRows:
    """Rows of a set on the hub, or in the local cache of it; HF_ENDPOINT names a mirror.

    Raises ConfigError where there is no hub id or `datasets` is not installed, and DataError where
    the set cannot be had.
    """
    hub_id = _hub_id(benchmark, setting)
    asked = revision or benchmark.revision
    found = _newest(hub_id, asked)
    data = _load(benchmark, revision=found or asked, setting=setting)
    loaded = _cached_revision(data) or found or asked
    if asked and _COMMIT.fullmatch(asked) and loaded != asked:
        raise DataError(
            f"{setting}.revision: {hub_id} is cached at {loaded}; expected {asked}, and the hub is "
            f"out of reach. Go online, or take the cached one: --set {setting}.revision={loaded}"
        )
    facts = {
        "hub_id": hub_id,
        "hub_config": benchmark.hub_config,
        "split": benchmark.split,
        "revision": loaded,
        "num_rows": len(data),
    }
    rows: list[Row | BadRow] = [Row(number, dict(row)) for number, row in enumerate(data, start=1)]
    return RawRows(name=hub_id, rows=rows, facts=facts)


def _hub_id(benchmark: Benchmark, setting: str) -> str:
    if benchmark.hub_id is None:
        raise ConfigError(
            f"{setting}: {benchmark.title} has no known set on the hub; expected a file of it "
            f"(see {benchmark.origin}). Name one: --set {setting}.path=FILE"
        )
    return benchmark.hub_id


def _load(benchmark: Benchmark, *, revision: str | None, setting: str) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise ConfigError(
            f"{setting}: `datasets` is not installed; expected it, to load {benchmark.hub_id} from "
            f"the hub. Run: pip install datasets, or name a file: --set {setting}.path=FILE"
        ) from None
    try:
        return load_dataset(
            benchmark.hub_id, benchmark.hub_config, split=benchmark.split, revision=revision
        )
    except (*_hub_errors(), DatasetsError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise DataError(
            f"{setting}: {benchmark.hub_id} could not be loaded ({type(error).__name__}: "
            f"{first[:200]}); expected the hub, a mirror in HF_ENDPOINT, or a cached copy. Accept "
            f"the set's terms there if it has any, or name a file: --set {setting}.path=FILE"
        ) from None


def _newest(hub_id: str, revision: str | None) -> str | None:
    """The commit that a revision, or the newest state, is now; None where the hub is not reached.

    Asked before loading, so that what is recorded is what is loaded.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        return None
    try:
        return HfApi().dataset_info(hub_id, revision=revision).sha
    except _hub_errors():
        return None


def _hub_errors() -> tuple[type[Exception], ...]:
    """What a hub out of reach, a gate or a wrong name raises, over the versions of its client."""
    import huggingface_hub.errors as errors

    return (OSError, ValueError, RuntimeError, getattr(errors, "HTTPError", OSError))


def _cached_revision(data: Any) -> str | None:
    """The commit in the path of a cached copy; None where it has none."""
    files = [str(one["filename"]) for one in data.cache_files]
    found = [match.group(1) for file in files if (match := _COMMIT_IN_PATH.search(file))]
    return found[0] if found else None
