"""Equal rows as clusters: the one that is kept, and what goes because of it.

Rows come in order of preference, so the first of equal rows is the one to keep:

    clusters_of([Pair(0, 3, 1.0), Pair(3, 7, 0.9)]) == [Cluster(kept=0, members=(Member(3, 1.0),))]

Row 7 stays: it is like row 3, which is gone, and not like any row that is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class DuplicatePair:
    """Two rows that are the same."""

    first: int
    """The preferred one: the lower place."""
    second: int
    score: float
    """How alike they are, in [0, 1]."""


@dataclass(frozen=True)
class Member:
    """A row that goes."""

    row: int
    score: float
    """How like the kept row it is, in [0, 1]."""


@dataclass(frozen=True)
class Cluster:
    """A row that stays, and those that are the same as it."""

    kept: int
    members: tuple[Member, ...]

    def placed(self, places: Sequence[int]) -> Cluster:
        """The same cluster where row i is row places[i] of a larger table."""
        members = tuple(Member(places[one.row], one.score) for one in self.members)
        return Cluster(places[self.kept], members)


def clusters_of(pairs: Iterable[DuplicatePair]) -> list[Cluster]:
    """Clusters in order of their kept row; every member is paired with the kept row itself.

    From the first row on, a row goes with the first kept row that it is paired with: no chain of
    small steps joins rows that are not alike.
    """
    members: dict[int, list[Member]] = {}
    gone: set[int] = set()
    for pair in sorted(pairs, key=lambda one: (one.second, one.first)):
        if pair.first in gone or pair.second in gone:
            continue
        gone.add(pair.second)
        members.setdefault(pair.first, []).append(Member(pair.second, pair.score))
    return [Cluster(kept, tuple(found)) for kept, found in sorted(members.items())]


def equal_keys(keys: Sequence[object]) -> list[Cluster]:
    """Clusters of the rows that have the same key; None is equal to nothing."""
    first: dict[object, int] = {}
    pairs = []
    for row, key in enumerate(keys):
        if key is not None and (kept := first.setdefault(key, row)) != row:
            pairs.append(DuplicatePair(kept, row, 1.0))
    return clusters_of(pairs)


def paired_in_buckets(keys: NDArray[np.uint64], *, max_leaders: int) -> tuple[Ints, Ints]:
    """Places (lower, higher) of rows that share a key, each with the key's first rows.

    So a bucket of n rows gives n * max_leaders pairs at most, not n².
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_start = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(keys) else []
    starts = np.flatnonzero(is_start)
    start_of = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    place = np.flatnonzero(np.arange(len(keys)) > start_of)
    firsts, seconds = [], []
    for leader in range(max_leaders):
        place = place[start_of[place] + leader < place]
        if not len(place):
            break
        firsts.append(order[start_of[place] + leader])
        seconds.append(order[place])
    if not firsts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(firsts), np.concatenate(seconds)
