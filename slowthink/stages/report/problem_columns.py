"""Columns of a stage's problems, read batch by batch, so that a million rows need little memory.

In a table of traces the problem is a struct in the column `problem`, whose fields are read.

    domain_counts(Path("runs/s1/filter"))    {"algebra": 812, "unknown": 3}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slowthink.stages.report.text import shorten

TABLE = "data.parquet"
CURATION_STAGES = ("pool", "filter", "trace", "select")
MAX_TEXT = 400
"""Characters shown of a question, or of the evidence of a drop."""


def domain_counts(folder: Path) -> Counter[str]:
    """Domain → number of training problems; problems without a domain count as `unknown`."""
    totals: Counter[str] = Counter()
    for values in _by_problem(folder, "domain"):
        for name, num in _value_counts(values).items():
            totals[name or "unknown"] += num
    return totals


def find_questions(folders: Iterable[Path], ids: Collection[str]) -> dict[str, str]:
    """Questions by problem id, of the problems with these ids in any of the folders."""
    questions: dict[str, str] = {}
    for folder in folders:
        for batch in _batches(folder, {"id", "question"}, ids=ids, training_only=False):
            texts = batch["question"].to_pylist()
            for problem_id, text in zip(batch["id"].to_pylist(), texts, strict=True):
                questions.setdefault(problem_id, text or "")
    return questions


def add_questions(examples: Collection[dict[str, Any]], folders: Mapping[str, Path]) -> None:
    """Add its question, shortened, to each example with an id; empty if no stage has it."""
    stage_folders = [folders[stage] for stage in CURATION_STAGES if stage in folders]
    questions = find_questions(stage_folders, {example["id"] for example in examples})
    for example in examples:
        example["question"] = shorten(questions.get(example["id"], ""), limit=MAX_TEXT)


def question_lengths(folder: Path) -> Counter[int]:
    """Length of the question in characters → number of training problems."""
    import pyarrow.compute as pc

    totals: Counter[int] = Counter()
    for values in _by_problem(folder, "question"):
        totals.update(_value_counts(pc.utf8_length(values)))
    return totals


def thinking_lengths(folder: Path) -> Counter[int]:
    """Thinking tokens → number of chains; empty if they were not counted."""
    totals: Counter[int] = Counter()
    for batch in _batches(folder, {"num_thinking_tokens"}, problem_fields=False):
        totals.update(_value_counts(batch["num_thinking_tokens"]))
    return totals


def _by_problem(folder: Path, name: str) -> Iterator[Any]:
    """A column's values for each training problem, once if it has several chains."""
    import pyarrow.compute as pc

    last: Any = None
    for batch in _batches(folder, {"id", name}):
        ids = np.asarray(batch["id"].to_pylist(), dtype=object)  # sorted, in every table
        is_new = np.append(last, ids[:-1]) != ids if len(ids) else ids == ids
        last = ids[-1] if len(ids) else last
        yield pc.filter(batch[name], is_new.astype(bool))


def _value_counts(column: Any) -> dict[Any, int]:
    return {pair["values"]: pair["counts"] for pair in column.value_counts().to_pylist()}


def _batches(
    folder: Path,
    names: Collection[str],
    *,
    ids: Collection[str] | None = None,
    training_only: bool = True,
    problem_fields: bool = True,
) -> Iterator[Mapping[str, Any]]:
    """Batches of these columns; none if the table lacks one of them.

    `ids`: only these rows. `training_only`: without held-out problems. `problem_fields`: in a table
    of traces, the columns are fields of the problem.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    if not (folder / TABLE).exists() or (ids is not None and not ids):
        return
    dataset = ds.dataset(folder / TABLE, format="parquet")
    present, path = set(dataset.schema.names), []
    if problem_fields and "problem" in present:
        present, path = {field.name for field in dataset.schema.field("problem").type}, ["problem"]
    if not set(names) <= present:
        return
    condition = None if ids is None else pc.field(*path, "id").isin(sorted(ids))
    if training_only and "split" in present:
        condition = pc.field(*path, "split") != "heldout"
    columns = {name: pc.field(*path, name) for name in names}
    for batch in dataset.scanner(columns=columns, filter=condition).to_batches():
        yield {name: batch.column(name) for name in batch.schema.names}
