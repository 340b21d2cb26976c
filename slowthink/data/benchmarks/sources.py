"""A set's rows as they lie in a file or on the hub, with the facts that say which ones they were.

RawRows(name="aime24.jsonl", rows=[Row(line=1, values={"question": …}), …],
        facts={"path": "aime24.jsonl", "sha256": "5f0c…", "num_rows": 30, …})
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.benchmarks.table import Benchmark
from slowthink.data.hub import HubSet, OpenSet, open_file, open_set
from slowthink.data.rows import BadRow, SourceRow
from slowthink.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RawRows:
    """All rows of a set, not yet understood."""

    name: str
    """Of the file or the hub's set; part of the rows' addresses."""
    rows: list[SourceRow | BadRow]
    facts: dict[str, Any]
    """Which rows they are: path and sha256, or hub id, config, split and revision; num_rows."""

    @classmethod
    def of(cls, found: OpenSet) -> RawRows:
        """All rows at once."""
        rows = list(found.rows)
        return cls(name=found.name, rows=rows, facts=found.facts | {"num_rows": len(rows)})

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all readable rows, in order of appearance."""
        found = [key for row in self.rows if isinstance(row, SourceRow) for key in row.values]
        return tuple(dict.fromkeys(found))


def file_rows(path: str | Path, *, setting: str) -> RawRows:
    """Rows of a file. Raises DataError where it is missing, empty or of another kind."""
    return RawRows.of(open_file(path, setting=f"{setting}.path"))


def hub_rows(benchmark: Benchmark, *, revision: str | None, setting: str) -> RawRows:
    """Rows of a set on the hub, or in the local cache of it; HF_ENDPOINT names a mirror.

    Raises ConfigError where there is no hub id, and as `hub.open_set`.
    """
    if benchmark.hub_id is None:
        raise ConfigError(
            f"{setting}: {benchmark.title} has no known set on the hub; expected a file of it "
            f"(see {benchmark.origin}). Name one: --set {setting}.path=FILE"
        )
    wanted = HubSet(
        hub_id=benchmark.hub_id,
        config=benchmark.hub_config,
        split=benchmark.split,
        revision=revision or benchmark.revision,
    )
    return RawRows.of(open_set(wanted, setting=setting))
