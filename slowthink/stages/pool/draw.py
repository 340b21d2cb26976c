"""Which of a source's problems are taken, and which of those are held out.

Draws go by the hash of seed and problem, so they depend neither on the rows' order nor on each
other: take(found, 100, seed=0) keeps the same hundred of a shuffled file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from slowthink.data.problems import Item, SourceRows
from slowthink.errors import ConfigError
from slowthink.recipe.sources import DrawnSource
from slowthink.records import Dropped, Split, item_seed

Strata = Callable[[Item], tuple[str, ...]]
"""Names the groups that a problem is in, from the whole to the part."""


def ranked(items: Iterable[Item], *, seed: int, purpose: str) -> list[Item]:
    """The problems in an order drawn by seed, whatever their order in the file."""
    return sorted(items, key=lambda item: (item_seed(seed, purpose, item.problem.id), item.address))


def take(
    found: SourceRows, number: int | None, *, seed: int, strata: Strata | None = None
) -> SourceRows:
    """At most `number`, drawn by seed; shared out evenly over the strata, where there are any."""
    if number is None or len(found.items) <= number:
        return found
    order = ranked(found.items, seed=seed, purpose="take")
    taken = order[:number] if strata is None else _shared(order, number, strata, level=0)
    addresses = {item.address for item in taken}
    left = [
        Dropped(id=item.address, step="take", reason="not drawn (max_problems)")
        for item in found.items
        if item.address not in addresses
    ]
    items = [item for item in found.items if item.address in addresses]
    return replace(found, items=items, dropped=found.dropped + left)


def _shared(order: list[Item], number: int, strata: Strata, *, level: int) -> list[Item]:
    """As many of each group as go round; small groups give all they have, in turn of size."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in order:
        names = strata(item)
        groups[names[level] if level < len(names) else ""].append(item)
    if len(groups) == 1 and level >= len(strata(order[0])):
        return order[:number]
    taken: list[Item] = []
    for done, (_, group) in enumerate(
        sorted(groups.items(), key=lambda one: (len(one[1]), one[0]))
    ):
        share = math.ceil((number - len(taken)) / (len(groups) - done))
        taken += _shared(group, share, strata, level=level + 1)
    return taken[:number]


def hold_out(found: SourceRows, source: DrawnSource, *, seed: int, setting: str) -> SourceRows:
    """The same, with `num_heldout` problems, or all of a held-out source, marked as held out.

    Raises ConfigError where none would be left to train on.
    """
    if source.split == "heldout":
        held = {item.address for item in found.items}
    elif source.num_heldout:
        held = _heldout(found.items, source.num_heldout, seed=seed, setting=setting)
    else:
        return found
    items = [
        replace(item, problem=replace(item.problem, split=Split.HELDOUT))
        if item.address in held
        else item
        for item in found.items
    ]
    return replace(found, items=items)


def _heldout(items: list[Item], number: int, *, seed: int, setting: str) -> set[str]:
    distinct = list({item.problem.duplicate_key: item for item in reversed(items)}.values())
    if number >= len(distinct):
        raise ConfigError(
            f"{setting}.num_heldout: {number} of {len(distinct)} problems would be "
            f"held out; expected fewer than there are. Lower it, or --set {setting}.split=heldout"
        )
    return {item.address for item in ranked(distinct, seed=seed, purpose="heldout")[:number]}
