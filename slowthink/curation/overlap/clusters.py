"""Clusters of duplicate rows: the kept row, and the rows dropped as its duplicates.

Rows are in order of preference, so the first of equal rows is kept:

    cluster_pairs([DuplicatePair(0, 3, 1.0), DuplicatePair(3, 7, 0.9)])
    # [Cluster(kept=0, members=(Member(3, 1.0),))]

Row 7 is kept: the only row that it duplicates, row 3, is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
MayMerge = Callable[[int, int], bool]
"""Whether a kept row and a later row, duplicates by their questions, may be merged."""
MAX_KEPT_ROWS = 32


@dataclass(frozen=True, order=True)
class DuplicatePair:
    """Two rows that are duplicates, first < second."""

    first: int
    second: int
    score: float
    """Similarity of the two, in [0, 1]."""


@dataclass(frozen=True)
class Member:
    """A row that is dropped as a duplicate of its cluster's kept row."""

    row: int
    score: float
    """Similarity to the kept row, in [0, 1]."""


@dataclass(frozen=True)
class Cluster:
    """A kept row and its duplicates."""

    kept: int
    members: tuple[Member, ...]

    def reindexed(self, rows: Sequence[int]) -> Cluster:
        """The cluster in a larger table, in which row i is row rows[i]."""
        members = tuple(Member(rows[member.row], member.score) for member in self.members)
        return Cluster(rows[self.kept], members)


def cluster_pairs(
    pairs: Iterable[DuplicatePair], *, may_merge: MayMerge = lambda first, second: True
) -> list[Cluster]:
    """Clusters in order of their kept row.

    Rows are processed in order; each is dropped as a duplicate of the first kept row that it is
    paired with. So every member duplicates the kept row itself: a series of small differences does
    not join dissimilar rows.
    """
    members: dict[int, list[Member]] = {}
    dropped: set[int] = set()
    for pair in sorted(pairs, key=lambda pair: (pair.second, pair.first)):
        if pair.first in dropped or pair.second in dropped:
            continue
        if not may_merge(pair.first, pair.second):
            continue
        dropped.add(pair.second)
        members.setdefault(pair.first, []).append(Member(pair.second, pair.score))
    return [Cluster(kept, tuple(rows)) for kept, rows in sorted(members.items())]


def cluster_equal_keys(
    keys: Sequence[object], *, may_merge: MayMerge = lambda first, second: True
) -> list[Cluster]:
    """Clusters of the rows with equal keys. Rows with the key None are in no cluster.

    A row that may not be merged with any of the kept rows of its key is kept too; it is compared
    with the first `MAX_KEPT_ROWS` of them.
    """
    kept_rows: dict[object, list[int]] = {}
    pairs = []
    for row, key in enumerate(keys):
        if key is None:
            continue
        rows = kept_rows.setdefault(key, [])
        kept = next((kept for kept in rows[:MAX_KEPT_ROWS] if may_merge(kept, row)), None)
        if kept is None:
            rows.append(row)
        else:
            pairs.append(DuplicatePair(kept, row, 1.0))
    return cluster_pairs(pairs)


def bucket_pairs(keys: NDArray[np.uint64], *, max_leaders: int) -> tuple[Ints, Ints]:
    """Pairs (lower rows, higher rows) of rows with equal keys.

    The rows with one key are a bucket. Each row is paired with the bucket's first `max_leaders`
    rows only, so a bucket of n rows gives at most n * max_leaders pairs, not n².
    """
    rows = np.argsort(keys, kind="stable")
    sorted_keys = keys[rows]
    is_start = np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]) if len(keys) else []
    starts = np.flatnonzero(is_start)
    bucket_starts = np.repeat(starts, np.diff(np.append(starts, len(keys))))
    positions = np.flatnonzero(np.arange(len(keys)) > bucket_starts)
    firsts, seconds = [], []
    for leader in range(max_leaders):
        positions = positions[bucket_starts[positions] + leader < positions]
        if not len(positions):
            break
        firsts.append(rows[bucket_starts[positions] + leader])
        seconds.append(rows[positions])
    if not firsts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(firsts), np.concatenate(seconds)
