"""What every process that trains reads: the base model's folder, its tokenizer and the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slowthink.engines.models import context_length, load_tokenizer, resolve_model
from slowthink.pipeline.contract import StageContext
from slowthink.records import Dropped, Problem, Trace, item_seed
from slowthink.stages.train.dev import split_dev
from slowthink.stages.train.examples import TrainingExample, in_order, tokenize, tokenize_traces
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
    source = resolve_model(recipe.model, recipe.revision, notify=context.notify)
    tokenizer = load_tokenizer(
        recipe.model, recipe.revision, trust_remote_code=recipe.engine.trust_remote_code
    )
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
