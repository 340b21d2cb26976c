"""The sources of chains by kind, and the chains of all sources of a recipe.

A new source is one reader and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slowthink.pipeline.contract import StageContext
from slowthink.records import Problem
from slowthink.stages.trace.chains import SourceChains
from slowthink.stages.trace.sources import read_chains, read_solutions

Reader = Callable[[Any, Sequence[Problem], StageContext, str], SourceChains]
"""Takes the source's settings, the training problems, the context, and the setting's name."""

READERS: dict[str, Reader] = {
    "solution": lambda source, problems, context, setting: read_solutions(source, problems),
    "file": lambda source, problems, context, setting: read_chains(
        source, seed=context.recipe.seed, setting=setting
    ),
}


def gather_chains(context: StageContext, problems: Sequence[Problem]) -> SourceChains:
    """The chains of all sources, best source first."""
    gathered = SourceChains()
    for index, source in enumerate(context.config.sources):
        new = READERS[source.kind](source, problems, context, f"trace.sources.{index}")
        gathered.chains += new.chains
        gathered.dropped += new.dropped
        gathered.num_rows += new.num_rows
        gathered.facts |= new.facts
    return gathered
