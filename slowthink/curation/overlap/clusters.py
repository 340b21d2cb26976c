"""Clusters of duplicate rows: the kept row, and the rows dropped as its duplicates.

Rows are in order of preference, so the first of equal rows is kept:

    clusters_of([DuplicatePair(0, 3, 1.0), DuplicatePair(3, 7, 0.9)])
    # [Cluster(kept=0, members=(Member(3, 1.0),))]

Row 7 stays: it resembles row 3, which is dropped, and no row that is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class DuplicatePair:
    """Two rows that are duplicates."""

    first: int
    """The preferred row: the lower one."""
    second: int
    score: float
    """Similarity of the two, in [0, 1]."""


@dataclass(frozen=True)
class Member:
    """A row that is dropped."""

    row: int
    score: float
    """Similarity to the kept row, in [0, 1]."""


@dataclass(frozen=True)
class Cluster:
    """A kept row and its duplicates."""

    kept: int
    members: tuple[Member, ...]

    def reindexed(self, rows: Sequence[int]) -> Cluster:
        """The cluster in a larger table, where row i is rows[i]."""
        members = tuple(Member(rows[member.row], member.score) for member in self.members)
        return Cluster(rows[self.kept], members)


def clusters_of(pairs: Iterable[DuplicatePair]) -> list[Cluster]:
    """Clusters in order of their kept row.

    In order of rows, each row is dropped as a duplicate of the first kept row that it is paired
    with. Every member is a duplicate of the kept row itself, so chains of small differences do not
    join dissimilar rows.
    """
    members: dict[int, list[Member]] = {}
    dropped: set[int] = set()
    for pair in sorted(pairs, key=lambda pair: (pair.second, pair.first)):
        if pair.first in dropped or pair.second in dropped:
            continue
        dropped.add(pair.second)
        members.setdefault(pair.first, []).append(Member(pair.second, pair.score))
    return [Cluster(kept, tuple(rows)) for kept, rows in sorted(members.items())]


def equal_keys(keys: Sequence[object]) -> list[Cluster]:
    """Clusters of the rows with equal keys; None equals nothing."""
    first: dict[object, int] = {}
    pairs = []
    for row, key in enumerate(keys):
        if key is not None and (kept := first.setdefault(key, row)) != row:
            pairs.append(DuplicatePair(kept, row, 1.0))
    return clusters_of(pairs)


def bucket_pairs(keys: NDArray[np.uint64], *, max_leaders: int) -> tuple[Ints, Ints]:
    """Pairs (lower rows, higher rows) that share a key, of each row with the key's first rows.

    A bucket of n rows gives at most n * max_leaders pairs, not n².
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_start = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(keys) else []
    starts = np.flatnonzero(is_start)
    start_of = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    positions = np.flatnonzero(np.arange(len(keys)) > start_of)
    firsts, seconds = [], []
    for leader in range(max_leaders):
        positions = positions[start_of[positions] + leader < positions]
        if not len(positions):
            break
        firsts.append(order[start_of[positions] + leader])
        seconds.append(order[positions])
    if not firsts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(firsts), np.concatenate(seconds)
