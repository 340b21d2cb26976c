"""Samples a source's problems, and chooses those to hold out.

The choice depends on the hash of seed and problem only, not on the order of the rows:
sample_problems(source, 100, seed=0) chooses the same hundred from a shuffled file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from slowthink.data.problems import LocatedProblem, SourceProblems, keep_chosen, shuffle_problems
from slowthink.pipeline.plan import too_many_held_out
from slowthink.recipe.sources import SampledSource
from slowthink.records import Split, group_by

Strata = Callable[[LocatedProblem], tuple[str, ...]]
"""Returns the nested groups that a problem belongs to, the widest first."""


def sample_problems(
    source: SourceProblems, limit: int | None, *, seed: int, strata: Strata | None = None
) -> SourceProblems:
    """At most `limit` problems, sampled by seed, evenly over the strata if there are any."""
    if limit is None or len(source.items) <= limit:
        return source
    shuffled = shuffle_problems(source.items, seed, "take")
    chosen = shuffled[:limit]
    if strata is not None:
        chosen = _stratified_sample(shuffled, limit, strata, level=0)
    items, dropped = keep_chosen(source.items, chosen)
    return replace(source, items=items, dropped=source.dropped + dropped)


def _stratified_sample(
    shuffled: list[LocatedProblem], limit: int, strata: Strata, *, level: int
) -> list[LocatedProblem]:
    """Equal shares of each group, smallest first; larger groups fill in for smaller ones."""
    groups = group_by(shuffled, lambda item: "".join(strata(item)[level : level + 1]))
    if len(groups) == 1 and level >= len(strata(shuffled[0])):
        return shuffled[:limit]
    chosen: list[LocatedProblem] = []
    smallest_first = sorted(groups.items(), key=lambda group: (len(group[1]), group[0]))
    for index, (_, items) in enumerate(smallest_first):
        share = math.ceil((limit - len(chosen)) / (len(groups) - index))
        chosen += _stratified_sample(items, share, strata, level=level + 1)
    return chosen[:limit]


def hold_out(
    source: SourceProblems, config: SampledSource, *, seed: int, setting: str
) -> SourceProblems:
    """The source with `num_heldout` of its problems, or all of a held-out source, held out.

    Raises ConfigError if none would be left to train on.
    """
    if config.split == "heldout":
        held_out = {item.location for item in source.items}
    elif config.num_heldout:
        held_out = _sample_locations(source.items, config.num_heldout, seed=seed, setting=setting)
    else:
        return source
    items = [
        replace(item, problem=replace(item.problem, split=Split.HELDOUT))
        if item.location in held_out
        else item
        for item in source.items
    ]
    return replace(source, items=items)


def _sample_locations(
    items: list[LocatedProblem], num_heldout: int, *, seed: int, setting: str
) -> set[str]:
    distinct = list({item.problem.duplicate_key: item for item in reversed(items)}.values())
    if num_heldout >= len(distinct):
        raise too_many_held_out(setting, num_heldout, len(distinct))
    return {item.location for item in shuffle_problems(distinct, seed, "heldout")[:num_heldout]}
