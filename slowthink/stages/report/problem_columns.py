"""Columns of the problems that a stage holds, batch by batch: a million rows never lie in memory.

A table of traces has its problem in a column `problem`; what is asked for is found there, too.

    domain_counts(Path("runs/s1/filter"))    {"algebra": 812, "unknown": 3}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

TABLE = "data.parquet"


def domain_counts(folder: Path) -> Counter[str]:
    """How many training problems a stage holds of each domain; none named counts as `unknown`."""
    found: Counter[str] = Counter()
    for batch in _batches(folder, {"domain"}):
        for pair in batch["domain"].value_counts().to_pylist():
            found[pair["values"] or "unknown"] += pair["counts"]
    return found


def questions_of(folders: Iterable[Path], ids: Collection[str]) -> dict[str, str]:
    """The questions of these problems, as far as one of these stages holds them."""
    found: dict[str, str] = {}
    for folder in folders:
        for batch in _batches(folder, {"id", "question"}, ids=ids, training=False):
            for row in zip(batch["id"].to_pylist(), batch["question"].to_pylist(), strict=True):
                found.setdefault(row[0], row[1] or "")
    return found


def question_lengths(folder: Path) -> Counter[int]:
    """How many training problems a stage holds whose question has so many characters."""
    import pyarrow.compute as pc

    found: Counter[int] = Counter()
    for batch in _batches(folder, {"question"}):
        lengths = pc.utf8_length(batch["question"]).value_counts()
        found.update({pair["values"]: pair["counts"] for pair in lengths.to_pylist()})
    return found


def thinking_lengths(folder: Path) -> Counter[int]:
    """How many of a stage's chains have so many thinking tokens; empty where nobody counted."""
    found: Counter[int] = Counter()
    for batch in _batches(folder, {"num_thinking_tokens"}, inside=False):
        lengths = batch["num_thinking_tokens"].value_counts()
        found.update({pair["values"]: pair["counts"] for pair in lengths.to_pylist()})
    return found


def _batches(
    folder: Path,
    names: Collection[str],
    *,
    ids: Collection[str] | None = None,
    training: bool = True,
    inside: bool = True,
) -> Iterator[Mapping[str, Any]]:
    """These columns, where the table has all of them: of `ids` alone; of training problems alone.

    With `inside` they are the problem's, also in a table of traces.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    if not (folder / TABLE).exists() or (ids is not None and not ids):
        return
    dataset = ds.dataset(folder / TABLE, format="parquet")
    traces = "problem" in dataset.schema.names
    own = {field.name for field in dataset.schema.field("problem").type} if traces else set()
    known, above = (own, ["problem"]) if traces and inside else (set(dataset.schema.names), [])
    if not set(names) <= known:
        return
    wanted = None if ids is None else pc.field(*above, "id").isin(sorted(ids))
    if training and "split" in known:
        wanted = pc.field(*above, "split") != "heldout"
    columns = {name: pc.field(*above, name) for name in names}
    for batch in dataset.scanner(columns=columns, filter=wanted).to_batches():
        yield {name: batch.column(name) for name in batch.schema.names}
