"""Nearly equal questions: candidates by MinHash, each confirmed by what the texts really share.

    near_duplicates([
        "Find the number of positive integers below 1000 that 7 divides.",
        "Find the number of the positive integers below 1000 that 7 divides.",
        "Find the number of positive integers below 2000 that 7 divides.",
    ], min_overlap=0.6) == [Cluster(kept=0, members=(Member(1, 0.643),))]

A pair is confirmed where the true Jaccard overlap of the runs of tokens is high enough, both have
the same numbers, letters, operators and sense words (exact.SENSE_WORDS) in the same order, and no
word of content stands in the place of another: the same template with other numbers is another
problem, and so is another question about the same figure ("how many boys", "how many girls").
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np

from slowthink.curation.overlap.clusters import (
    Cluster,
    DuplicatePair,
    Ints,
    clusters_of,
    paired_in_buckets,
)
from slowthink.curation.overlap.exact import sense_keys
from slowthink.curation.overlap.minhash import NUM_BANDS, bands
from slowthink.curation.overlap.tokens import Hashed, Hashes, hashed, shingles, strict_tokens, whole
from slowthink.pipeline.runner import batched, map_batches

WIDTH = 3
"""Tokens in a run."""
MIN_OVERLAP = 0.8
BATCH_TEXTS = 10_000
MAX_LEADERS = 32
"""Rows of one bucket that the others are compared with: the preferred ones."""
SAME_SPELLING = 0.8
"""Of difflib's ratio: a word this like another with the same first letter is a slip of the pen."""
_WORDS = (
    "a an the of to in on at by for from with and or is are was were be been being it its this "
    "that these those there then than as so such if when where which what who how let suppose "
    "assume given find determine compute calculate evaluate what's please express answer your our "
    "we you s following each per into onto has have had do does can could will would should may "
    "must shall i exact value form simplest terms "
    "的 了 是 在 有 设 若 则 求 且 与 及 其 这 那 个 为 之 所 得 请 解 已 知 如 果 使 令 试 问 "
    "到 时 中 以"
)
FUNCTION_WORDS = frozenset(_WORDS.split())
"""Words that can be swapped without asking for something else."""


def near_duplicates(
    texts: Sequence[str],
    *,
    min_overlap: float = MIN_OVERLAP,
    width: int = WIDTH,
    same_sense: bool = True,
    runner: str = "local",
) -> list[Cluster]:
    """Clusters of nearly equal texts; texts come in order of preference, the first is kept.

    The same clusters in every run: whatever the rows' order was before they were put in order of
    preference. With `same_sense` False, overlap alone decides.
    """
    batch_keys = functools.partial(band_keys, width=width, same_sense=same_sense)
    found = map_batches(batch_keys, batched(texts, BATCH_TEXTS), runner=runner)
    keys = np.concatenate([np.empty((0, NUM_BANDS), np.uint64), *found])
    firsts, seconds = candidates(keys)
    pairs = confirmed(texts, firsts, seconds, min_overlap=min_overlap, width=width)
    if same_sense:
        return clusters_of(p for p in pairs if not asks_other(texts[p.first], texts[p.second]))
    return clusters_of(pairs)


def band_keys(texts: Sequence[str], *, width: int = WIDTH, same_sense: bool = True) -> Hashes:
    """[num_texts, 16]: equal in one place for texts that may be duplicates. Row-wise."""
    tokens = hashed(texts)
    keys = bands(runs_of_tokens(tokens, width))
    return keys ^ sense_keys(texts, tokens)[:, None] if same_sense else keys


def candidates(keys: Hashes) -> tuple[Ints, Ints]:
    """Places (lower, higher) of the rows that agree in one band, each pair once, in order."""
    num = len(keys)
    packed = [np.zeros(0, np.int64)]
    for band in range(keys.shape[1]):
        firsts, seconds = paired_in_buckets(keys[:, band], max_leaders=MAX_LEADERS)
        packed.append(firsts * num + seconds)
    pairs = np.unique(np.concatenate(packed))
    return pairs // max(num, 1), pairs % max(num, 1)


def confirmed(
    texts: Sequence[str], firsts: Ints, seconds: Ints, *, min_overlap: float, width: int = WIDTH
) -> Iterator[DuplicatePair]:
    """The pairs whose texts share at least `min_overlap` of their runs of tokens."""
    for start in range(0, len(firsts), BATCH_TEXTS):
        left, right = firsts[start : start + BATCH_TEXTS], seconds[start : start + BATCH_TEXTS]
        rows, place = np.unique(np.concatenate([left, right]), return_inverse=True)
        sets = runs_of_tokens(hashed([texts[row] for row in rows]), width)
        scores = jaccard(sets, place[: len(left)], place[len(left) :])
        for one in np.flatnonzero(scores >= min_overlap):
            yield DuplicatePair(int(left[one]), int(right[one]), round(float(scores[one]), 3))


def runs_of_tokens(tokens: Hashed, width: int) -> Hashed:
    """Each text's runs of `width` tokens; a shorter text is one run as it is."""
    found = shingles(tokens, width)
    short = np.flatnonzero(found.lengths == 0)
    values = np.insert(found.values, found.offsets[short], whole(tokens)[short])
    lengths = np.maximum(found.lengths, 1)
    return Hashed(values, np.concatenate([[0], np.cumsum(lengths)]))


def jaccard(sets: Hashed, left: Ints, right: Ints) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[num pairs]: distinct values that two rows share, over those that either has."""
    distinct = [np.unique(sets.row(row)) for row in range(len(sets))]
    scores = np.empty(len(left))
    for place, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        first, second = distinct[one], distinct[other]
        shared = len(np.intersect1d(first, second, assume_unique=True))
        scores[place] = shared / (len(first) + len(second) - shared)
    return scores


def asks_other(text: str, other: str) -> bool:
    """Whether a word of content in one text stands for another one in the other.

    Words that only one text has beside the shared ones do not: they are a longer wording.
    """
    ours, theirs = Counter(strict_tokens(text)), Counter(strict_tokens(other))
    gone = sorted((ours - theirs).keys() - FUNCTION_WORDS)
    come = sorted((theirs - ours).keys() - FUNCTION_WORDS)
    if not gone or not come:
        return False
    return not all(any(_same_word(one, two) for two in come) for one in gone)


def _same_word(one: str, other: str) -> bool:
    if min(len(one), len(other)) < 4 or one[0] != other[0]:
        return False
    return SequenceMatcher(None, one, other).ratio() >= SAME_SPELLING
