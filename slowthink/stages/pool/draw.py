"""Draws a source's problems, and which of them are held out.

Draws depend on the hash of seed and problem, not on the order of the rows or on one another:
take(source, 100, seed=0) draws the same hundred from a shuffled file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from slowthink.data.problems import LocatedProblem, SourceProblems, ranked, take_only
from slowthink.errors import ConfigError
from slowthink.recipe.sources import SampledSource
from slowthink.records import Split, group_by

Strata = Callable[[LocatedProblem], tuple[str, ...]]
"""Returns the groups of a problem, the widest first."""


def take(
    source: SourceProblems, limit: int | None, *, seed: int, strata: Strata | None = None
) -> SourceProblems:
    """At most `limit` problems, drawn by seed, evenly over the strata where there are any."""
    if limit is None or len(source.items) <= limit:
        return source
    order = ranked(source.items, seed, "take")
    drawn = order[:limit] if strata is None else _stratified(order, limit, strata, level=0)
    items, dropped = take_only(source.items, drawn)
    return replace(source, items=items, dropped=source.dropped + dropped)


def _stratified(
    order: list[LocatedProblem], limit: int, strata: Strata, *, level: int
) -> list[LocatedProblem]:
    """Equal shares of each group, smallest first; larger groups fill in for smaller ones."""
    groups = group_by(order, lambda item: "".join(strata(item)[level : level + 1]))
    if len(groups) == 1 and level >= len(strata(order[0])):
        return order[:limit]
    drawn: list[LocatedProblem] = []
    by_size = sorted(groups.items(), key=lambda group: (len(group[1]), group[0]))
    for number, (_, items) in enumerate(by_size):
        share = math.ceil((limit - len(drawn)) / (len(groups) - number))
        drawn += _stratified(items, share, strata, level=level + 1)
    return drawn[:limit]


def hold_out(
    source: SourceProblems, config: SampledSource, *, seed: int, setting: str
) -> SourceProblems:
    """Marks `num_heldout` problems, or all of a held-out source, as held out.

    Raises ConfigError where none would be left to train on.
    """
    if config.split == "heldout":
        held_out = {item.address for item in source.items}
    elif config.num_heldout:
        held_out = _drawn_addresses(source.items, config.num_heldout, seed=seed, setting=setting)
    else:
        return source
    items = [
        replace(item, problem=replace(item.problem, split=Split.HELDOUT))
        if item.address in held_out
        else item
        for item in source.items
    ]
    return replace(source, items=items)


def _drawn_addresses(
    items: list[LocatedProblem], number: int, *, seed: int, setting: str
) -> set[str]:
    distinct = list({item.problem.duplicate_key: item for item in reversed(items)}.values())
    if number >= len(distinct):
        raise ConfigError(
            f"{setting}.num_heldout: {number} of {len(distinct)} problems would be held out; "
            f"expected a smaller number. Lower it, or --set {setting}.split=heldout"
        )
    return {item.address for item in ranked(distinct, seed, "heldout")[:number]}
