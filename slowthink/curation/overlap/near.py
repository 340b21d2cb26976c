"""Near duplicates: candidates by MinHash, each confirmed by comparing the texts.

    find_near_duplicates([
        "Find the number of positive integers below 1000 that 7 divides.",
        "Find the number of the positive integers below 1000 that 7 divides.",
        "Find the number of positive integers below 2000 that 7 divides.",
    ], min_overlap=0.6) == [Cluster(kept=0, members=(Member(1, 0.643),))]

A pair is confirmed if the exact Jaccard overlap of the token n-grams is high enough, both have the
same numbers, letters, operators and meaning-bearing words (exact.MEANING_WORDS) in the same order,
and the same content words (content.same_words): a template with other numbers is a different
problem, and so are another question about the same figure ("how many boys", "how many girls") and
a further condition ("prime integers"). What a text says about the form of its answer is ignored.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from slowthink.curation.overlap.boilerplate import strip_boilerplate
from slowthink.curation.overlap.clusters import (
    Cluster,
    DuplicatePair,
    Ints,
    MayMerge,
    bucket_pairs,
    cluster_pairs,
)
from slowthink.curation.overlap.content import same_words
from slowthink.curation.overlap.exact import meaning_keys
from slowthink.curation.overlap.minhash import NUM_BANDS, band_hashes
from slowthink.curation.overlap.tokens import (
    HashedBatch,
    Hashes,
    hash_tokens,
    ngram_hashes,
    text_hashes,
)
from slowthink.pipeline.runner import batched, map_batches

NGRAM_WIDTH = 3
"""Length of an n-gram, in tokens."""
MIN_OVERLAP = 0.8
BATCH_TEXTS = 10_000
MAX_LEADERS = 32
"""Number of first rows of a bucket that each of its rows is compared with (`bucket_pairs`)."""


def find_near_duplicates(
    texts: Sequence[str],
    *,
    min_overlap: float = MIN_OVERLAP,
    width: int = NGRAM_WIDTH,
    same_sense: bool = True,
    may_merge: MayMerge = lambda first, second: True,
    runner: str = "local",
) -> list[Cluster]:
    """Clusters of near duplicates. The texts are in order of preference; the first one is kept.

    The clusters depend on that order alone, not on batches or workers. With `same_sense` False,
    only the overlap of n-grams is compared. `may_merge` can keep the rows of a pair apart.
    """
    texts = [strip_boilerplate(text, keep_numbers=True) for text in texts]
    keys_of_batch = functools.partial(band_keys, width=width, same_sense=same_sense)
    batches = map_batches(keys_of_batch, batched(texts, BATCH_TEXTS), runner=runner)
    keys = np.concatenate([np.empty((0, NUM_BANDS), np.uint64), *batches])
    firsts, seconds = candidate_pairs(keys)
    pairs = confirm_pairs(texts, firsts, seconds, min_overlap=min_overlap, width=width)
    if same_sense:
        pairs = (pair for pair in pairs if same_words(texts[pair.first], texts[pair.second]))
    return cluster_pairs(pairs, may_merge=may_merge)


def band_keys(texts: Sequence[str], *, width: int = NGRAM_WIDTH, same_sense: bool = True) -> Hashes:
    """[num_texts, 16]: equal in at least one column for texts that may be duplicates."""
    tokens = hash_tokens(texts)
    keys = band_hashes(token_ngrams(tokens, width))
    return keys ^ meaning_keys(texts, tokens)[:, None] if same_sense else keys


def candidate_pairs(keys: Hashes) -> tuple[Ints, Ints]:
    """Pairs (lower rows, higher rows) that agree in a band, each pair once, sorted."""
    num_rows = len(keys)
    pairs = [np.zeros(0, np.int64)]
    for band in range(keys.shape[1]):
        firsts, seconds = bucket_pairs(keys[:, band], max_leaders=MAX_LEADERS)
        pairs.append(firsts * num_rows + seconds)
    return np.divmod(np.unique(np.concatenate(pairs)), max(num_rows, 1))


def confirm_pairs(
    texts: Sequence[str],
    firsts: Ints,
    seconds: Ints,
    *,
    min_overlap: float,
    width: int = NGRAM_WIDTH,
) -> Iterator[DuplicatePair]:
    """The pairs whose texts share at least `min_overlap` of their token n-grams."""
    for start in range(0, len(firsts), BATCH_TEXTS):
        left, right = firsts[start : start + BATCH_TEXTS], seconds[start : start + BATCH_TEXTS]
        rows, inverse = np.unique(np.concatenate([left, right]), return_inverse=True)
        ngrams = token_ngrams(hash_tokens([texts[row] for row in rows]), width)
        scores = jaccard_scores(ngrams, inverse[: len(left)], inverse[len(left) :])
        for i in np.flatnonzero(scores >= min_overlap):
            yield DuplicatePair(int(left[i]), int(right[i]), round(float(scores[i]), 3))


def token_ngrams(tokens: HashedBatch, width: int) -> HashedBatch:
    """Each text's n-grams of `width` tokens; a shorter text is a single n-gram."""
    ngrams = ngram_hashes(tokens, width)
    short = np.flatnonzero(ngrams.lengths == 0)
    values = np.insert(ngrams.values, ngrams.offsets[short], text_hashes(tokens)[short])
    lengths = np.maximum(ngrams.lengths, 1)
    return HashedBatch(values, np.concatenate([[0], np.cumsum(lengths)]))


def jaccard_scores(
    ngrams: HashedBatch, left: Ints, right: Ints
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """[num_pairs]: Jaccard similarity of the distinct n-grams of texts left[i] and right[i]."""
    distinct = [np.unique(ngrams.row(row)) for row in range(len(ngrams))]
    scores = np.empty(len(left))
    for i, rows in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        first, second = (distinct[row] for row in rows)
        num_shared = len(np.intersect1d(first, second, assume_unique=True))
        scores[i] = num_shared / (len(first) + len(second) - num_shared)
    return scores
