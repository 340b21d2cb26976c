"""Near duplicates: candidates by MinHash, each confirmed by comparing the texts.

    near_duplicates([
        "Find the number of positive integers below 1000 that 7 divides.",
        "Find the number of the positive integers below 1000 that 7 divides.",
        "Find the number of positive integers below 2000 that 7 divides.",
    ], min_overlap=0.6) == [Cluster(kept=0, members=(Member(1, 0.643),))]

A pair is confirmed if the exact Jaccard overlap of the token n-grams is high enough, both have the
same numbers, letters, operators and sense words (exact.SENSE_WORDS) in the same order, and no
content word replaces another: the same template with other numbers is a different problem, and so
is another question about the same figure ("how many boys", "how many girls").
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
    bucket_pairs,
    clusters_of,
)
from slowthink.curation.overlap.exact import sense_keys
from slowthink.curation.overlap.minhash import NUM_BANDS, bands
from slowthink.curation.overlap.tokens import (
    HashedBatch,
    Hashes,
    hash_tokens,
    ngram_hashes,
    strict_tokens,
    text_hashes,
)
from slowthink.pipeline.runner import batched, map_batches

WIDTH = 3
"""Length of an n-gram, in tokens."""
MIN_OVERLAP = 0.8
BATCH_TEXTS = 10_000
MAX_LEADERS = 32
"""Number of preferred rows of a bucket that the others are compared with."""
SAME_SPELLING = 0.8
"""Minimum difflib ratio of two words with the same first letter that differ by a typing error."""
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
"""Words that can be replaced without changing the question."""


def near_duplicates(
    texts: Sequence[str],
    *,
    min_overlap: float = MIN_OVERLAP,
    width: int = WIDTH,
    same_sense: bool = True,
    runner: str = "local",
) -> list[Cluster]:
    """Clusters of near duplicates. The texts are in order of preference; the first one is kept.

    The clusters depend on that order alone, not on batches or workers. With `same_sense` False,
    overlap alone decides.
    """
    batch_keys = functools.partial(band_keys, width=width, same_sense=same_sense)
    batches = map_batches(batch_keys, batched(texts, BATCH_TEXTS), runner=runner)
    keys = np.concatenate([np.empty((0, NUM_BANDS), np.uint64), *batches])
    firsts, seconds = candidates(keys)
    pairs = confirmed(texts, firsts, seconds, min_overlap=min_overlap, width=width)
    if same_sense:
        return clusters_of(p for p in pairs if not replaces_word(texts[p.first], texts[p.second]))
    return clusters_of(pairs)


def band_keys(texts: Sequence[str], *, width: int = WIDTH, same_sense: bool = True) -> Hashes:
    """[num_texts, 16]: equal in at least one column for texts that may be duplicates."""
    tokens = hash_tokens(texts)
    keys = bands(token_ngrams(tokens, width))
    return keys ^ sense_keys(texts, tokens)[:, None] if same_sense else keys


def candidates(keys: Hashes) -> tuple[Ints, Ints]:
    """Pairs (lower rows, higher rows) that agree in a band, each pair once, sorted."""
    num = len(keys)
    packed = [np.zeros(0, np.int64)]
    for band in range(keys.shape[1]):
        firsts, seconds = bucket_pairs(keys[:, band], max_leaders=MAX_LEADERS)
        packed.append(firsts * num + seconds)
    pairs = np.unique(np.concatenate(packed))
    return pairs // max(num, 1), pairs % max(num, 1)


def confirmed(
    texts: Sequence[str], firsts: Ints, seconds: Ints, *, min_overlap: float, width: int = WIDTH
) -> Iterator[DuplicatePair]:
    """The pairs whose texts share at least `min_overlap` of their token n-grams."""
    for start in range(0, len(firsts), BATCH_TEXTS):
        left, right = firsts[start : start + BATCH_TEXTS], seconds[start : start + BATCH_TEXTS]
        rows, inverse = np.unique(np.concatenate([left, right]), return_inverse=True)
        sets = token_ngrams(hash_tokens([texts[row] for row in rows]), width)
        scores = jaccard(sets, inverse[: len(left)], inverse[len(left) :])
        for i in np.flatnonzero(scores >= min_overlap):
            yield DuplicatePair(int(left[i]), int(right[i]), round(float(scores[i]), 3))


def token_ngrams(tokens: HashedBatch, width: int) -> HashedBatch:
    """Each text's n-grams of `width` tokens; a shorter text is a single n-gram."""
    ngrams = ngram_hashes(tokens, width)
    short = np.flatnonzero(ngrams.lengths == 0)
    values = np.insert(ngrams.values, ngrams.offsets[short], text_hashes(tokens)[short])
    lengths = np.maximum(ngrams.lengths, 1)
    return HashedBatch(values, np.concatenate([[0], np.cumsum(lengths)]))


def jaccard(
    sets: HashedBatch, left: Ints, right: Ints
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[num_pairs]: Jaccard similarity of the rows' distinct values."""
    distinct = [np.unique(sets.row(row)) for row in range(len(sets))]
    scores = np.empty(len(left))
    for i, (row, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        first, second = distinct[row], distinct[other]
        shared = len(np.intersect1d(first, second, assume_unique=True))
        scores[i] = shared / (len(first) + len(second) - shared)
    return scores


def replaces_word(text: str, other: str) -> bool:
    """Whether a content word of one text is replaced by another one in the other.

    Words that are only added are not: they are a longer wording.
    """
    words, other_words = Counter(strict_tokens(text)), Counter(strict_tokens(other))
    removed = sorted((words - other_words).keys() - FUNCTION_WORDS)
    added = sorted((other_words - words).keys() - FUNCTION_WORDS)
    if not removed or not added:
        return False
    return not all(any(_same_word(word, new) for new in added) for word in removed)


def _same_word(word: str, other: str) -> bool:
    if min(len(word), len(other)) < 4 or word[0] != other[0]:
        return False
    return SequenceMatcher(None, word, other).ratio() >= SAME_SPELLING
