"""What every process that trains reads: the base model's folder, its tokenizer and the examples."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slowthink.data.tables import read_records
from slowthink.engines.models import context_length, load_tokenizer, resolve_model
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.plan import planned_training_set
from slowthink.recipe import Recipe
from slowthink.records import Dropped, Problem, Trace, item_seed
from slowthink.stages.train.checkpoint import CANDIDATES, PARTIAL, checkpoints
from slowthink.stages.train.dev import split_dev
from slowthink.stages.train.examples import TrainingExample, in_order, tokenize, tokenize_traces
from slowthink.stages.train.forecast import TrainingSize
from slowthink.stages.train.lengths import CutExample, limit_lengths


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The same in every process, whatever their number."""

    source: Path
    """Folder of the base model."""
    tokenizer: Any
    traces: Sequence[Trace]
    """All that were read, also those of dropped examples."""
    examples: list[TrainingExample]
    dropped: Sequence[Dropped]
    cut: Sequence[CutExample]
    """Examples whose thinking was cut."""
    num_read: int
    """Examples before some were dropped."""
    seed: int
    dev: Sequence[Problem] = ()
    """Development problems, with `checkpoint: dev`."""


def read_training_set(context: StageContext) -> TrainingSet:
    """Read and tokenize the traces. Raises DataError if an example is too long, see `too_long`."""
    recipe = context.recipe
    trust = recipe.engine.trust_remote_code
    source = resolve_model(
        recipe.model, recipe.revision, trust_remote_code=trust, notify=context.notify
    )
    tokenizer = load_tokenizer(recipe.model, recipe.revision, trust_remote_code=trust)
    loaded, dev = split_dev(context.load(Trace, "select"), context.config, seed=recipe.seed)
    traces = in_order(loaded)
    tokenized = tokenize_traces(traces, tokenizer, recipe)
    limited = limit_lengths(
        tokenized, traces, partial(tokenize, tokenizer=tokenizer, recipe=recipe), context.config,
        max_context=context_length(source),
    )  # fmt: skip
    return TrainingSet(
        source=source, tokenizer=tokenizer, traces=traces, examples=limited.examples,
        dropped=limited.dropped, cut=limited.cut, num_read=len(tokenized),
        seed=item_seed(recipe.seed, "train"), dev=dev,
    )  # fmt: skip


def known_rows(recipe: Recipe, root: Path) -> TrainingSize:
    """Number and mean length of the training set, as far as it is written; its planned number else.

    Lengths are those that trace counted, without the prompt.
    """
    table = training_table(recipe, root)
    if table is None:
        return TrainingSize(number=planned_training_set(recipe)[1])
    traces = read_records(table, Trace)
    lengths = [trace.num_thinking_tokens + trace.num_response_tokens for trace in traces]
    return TrainingSize(number=len(traces), mean_tokens=sum(lengths) / max(len(lengths), 1))


def training_table(recipe: Recipe, root: Path) -> Path | None:
    """Folder or file of the training set; None if it is not written yet."""
    named = recipe.train.input if recipe.train and recipe.select is None else None
    path = Path(named) if named else root / "select"
    return path if (path / "manifest.json").is_file() or path.is_file() else None


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of this folder, which need not exist yet."""
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free


def room_for_training(root: Path) -> int:
    """Bytes that the stage may have on the disk of this run folder: free ones, and those of the
    checkpoints and models that it has written there, which it needs no second time."""
    work = root / "work" / "train"
    written = (
        *checkpoints(work), work / PARTIAL, work / CANDIDATES, root / "train.partial" / "model",
    )  # fmt: skip
    files = {path for folder in written for path in folder.rglob("*") if path.is_file()}
    return free_bytes(root) + sum(path.stat().st_size for path in files)
