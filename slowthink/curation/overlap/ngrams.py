"""An index of the word n-grams in texts, and s1's decontamination with it.

The literal implementation is a dict from each 8-word n-gram to the texts that contain it. Here
n-grams are 64-bit hashes in one sorted array. A bit table of their first bits rejects almost all
hashes that are not in it, and every hit is verified on the words.

    index = NgramIndex.from_texts(["the sum of the first n odd numbers is n squared"], width=8)
    index.first_shared(["Prove: the sum of the first n odd numbers is even"])
    # [SharedNgram(text_index=0, ngram="the sum of the first n odd numbers")]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.tokens import HashedBatch, Hashes, mix_bits, ngram_hashes, s1_words
from slowthink.pipeline.runner import batched

S1_WIDTH = 8
"""Words of an n-gram in s1 (simplescaling/s1@77272c6: data/collect_data.py); the default of its
helper function is 13."""
BATCH_TEXTS = 2_000
"""Number of texts in a batch, so that memory does not grow with the pool."""
HASH_BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
NGRAM_BATCH_TEXTS = 128
"""Number of texts in a batch of the n-gram index; small enough for the processor's cache."""
Indices = NDArray[np.int64]
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[[*range(9, 14), *range(28, 33)]] = True


@dataclass(frozen=True)
class SharedNgram:
    """A word n-gram that a text shares with texts of the index."""

    text_index: int
    """The first text of the index that contains it."""
    ngram: str
    text_indices: tuple[int, ...] = ()
    """All texts of the index that share this or another n-gram with the text."""


@dataclass(frozen=True)
class Postings:
    """Hash → the texts that contain it."""

    keys: Hashes
    """[num_keys], sorted."""
    starts: Indices
    """[num_keys + 1]: key i is in texts text_indices[starts[i]:starts[i + 1]], ascending."""
    text_indices: NDArray[np.int32]
    has_prefix: NDArray[np.bool_]
    """[2^num_bits]: whether any key has these first bits."""
    shift: np.uint64
    """64 - num_bits."""

    @classmethod
    def from_hashes(cls, hashes: Hashes, text_indices: Indices) -> Postings:
        """Build the postings of hashes and the text of each; repeats within a text count once."""
        order = np.lexsort((text_indices, hashes))
        hashes, text_indices = hashes[order], text_indices[order]
        is_new_key = np.r_[True, hashes[1:] != hashes[:-1]][: len(hashes)]
        is_new_text = np.r_[True, text_indices[1:] != text_indices[:-1]][: len(hashes)]
        is_new_pair = is_new_key | is_new_text
        keys = hashes[is_new_key]
        starts = np.r_[np.flatnonzero(is_new_key[is_new_pair]), is_new_pair.sum()]
        num_bits = int(np.clip(np.ceil(np.log2(len(keys) + 1)) + 5, 16, 28))
        has_prefix, shift = np.zeros(1 << num_bits, bool), np.uint64(64 - num_bits)
        has_prefix[keys >> shift] = True
        return cls(keys, starts, text_indices[is_new_pair].astype(np.int32), has_prefix, shift)

    @property
    def counts(self) -> Indices:
        """[num_keys]: number of texts that contain each key."""
        return np.diff(self.starts)

    def find(self, hashes: Hashes) -> tuple[Indices, Indices]:
        """Positions of the `hashes` that are keys, and the indices of these keys."""
        if not len(self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        positions = np.flatnonzero(self.has_prefix[hashes >> self.shift])
        key_indices = np.searchsorted(self.keys, hashes[positions])
        key_indices[key_indices == len(self.keys)] = 0
        is_equal = self.keys[key_indices] == hashes[positions]
        return positions[is_equal], key_indices[is_equal]

    def texts_with_keys(self, key_indices: Indices) -> tuple[Indices, Indices]:
        """Indices of the texts that contain each key, concatenated, and for each of them the
        position of its key in `key_indices`."""
        counts = self.counts[key_indices]
        which = np.repeat(np.arange(len(key_indices)), counts)
        offsets = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.text_indices[self.starts[key_indices][which] + offsets].astype(np.int64), which


# --- s1 -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NgramIndex:
    """Texts by their word n-grams (lower case, split at white space).

    Every hit is verified on the words. The index is pickled as its texts and rebuilt when loaded.
    """

    texts: tuple[str, ...]
    width: int
    postings: Postings

    @classmethod
    def from_texts(cls, texts: Sequence[str], width: int = S1_WIDTH) -> NgramIndex:
        """Build the index of these texts; a text below `width` words has no n-gram."""
        hashes, text_indices = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), NGRAM_BATCH_TEXTS):
            ngrams = ngram_hashes(_word_hashes(texts[start : start + NGRAM_BATCH_TEXTS]), width)
            hashes.append(ngrams.values)
            text_indices.append(ngrams.text_indices + start)
        postings = Postings.from_hashes(np.concatenate(hashes), np.concatenate(text_indices))
        return cls(tuple(texts), width, postings)

    def __reduce__(self) -> tuple[Any, ...]:
        return NgramIndex.from_texts, (self.texts, self.width)

    def first_shared(self, texts: Sequence[str]) -> list[SharedNgram | None]:
        """The first n-gram that each text shares with the index, or None."""
        batches = batched(texts, NGRAM_BATCH_TEXTS)
        return [ngram for batch in batches for ngram in self._first_shared_in_batch(batch)]

    def _first_shared_in_batch(self, texts: Sequence[str]) -> list[SharedNgram | None]:
        ngrams = ngram_hashes(_word_hashes(texts), self.width)
        positions, key_indices = self.postings.find(ngrams.values)
        sharing, which = self.postings.texts_with_keys(key_indices)
        shared: list[SharedNgram | None] = [None] * len(texts)
        hit_offsets = np.searchsorted(positions, ngrams.offsets)
        sharing_offsets = np.searchsorted(which, hit_offsets)
        starts = (positions - ngrams.offsets[ngrams.text_indices[positions]]).tolist()
        for row in np.flatnonzero(np.diff(hit_offsets)).tolist():
            hits = slice(hit_offsets[row], hit_offsets[row + 1])
            shared[row] = self._first_verified(
                s1_words(texts[row]),
                starts[hits],
                key_indices[hits].tolist(),
                sharing[sharing_offsets[row] : sharing_offsets[row + 1]].tolist(),
            )
        return shared

    def _first_verified(
        self, words: list[str], starts: list[int], key_indices: list[int], sharing: list[int]
    ) -> SharedNgram | None:
        """The first n-gram whose words, not only its hash, are in a text of the index. `starts` are
        the n-grams' first words, and `sharing` the texts of the index with any of them."""
        for start, key_index in zip(starts, key_indices, strict=True):
            first = int(self.postings.text_indices[self.postings.starts[key_index]])
            ngram = " ".join(words[start : start + self.width])
            if f" {ngram} " in f" {' '.join(s1_words(self.texts[first]))} ":
                return SharedNgram(first, ngram, tuple(sorted(set(sharing))))
        return None


def _word_hashes(texts: Sequence[str]) -> HashedBatch:
    """Hashes of the words in s1's form, computed on the texts' bytes without creating the words.

    A word's hash is a difference of two prefix sums of byte * HASH_BASE^position, times
    HASH_BASE^-start, modulo 2^64. White space beyond ASCII is replaced first.
    """
    encoded = [
        (text.lower() if text.isascii() else " ".join(s1_words(text))).encode("utf-8", "replace")
        for text in texts
    ]
    data = np.frombuffer(b" ".join([b"", *encoded, b""]), np.uint8)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    is_space = _IS_SPACE[data]
    word_edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
    starts, ends = word_edges[0::2], word_edges[1::2]
    powers, inverses = _powers(1 << len(data).bit_length())
    sums = np.cumsum(data * powers[: len(data)], dtype=np.uint64)
    values = (sums[ends - 1] - sums[starts - 1]) * inverses[starts]
    text_starts = np.concatenate([[0], np.cumsum(lengths + 1)]) + 1
    return HashedBatch(mix_bits(values), np.searchsorted(starts, text_starts))


@cache
def _powers(num: int) -> tuple[Hashes, Hashes]:
    """[num]: powers of HASH_BASE modulo 2^64, and their inverses."""
    powers = []
    for base in (HASH_BASE, pow(HASH_BASE, -1, 1 << 64)):
        factors = np.full(num, base, np.uint64)
        factors[0] = 1
        powers.append(np.cumprod(factors, dtype=np.uint64))
    return powers[0], powers[1]


def shared_ngrams_by_group(
    groups: Sequence[Sequence[str]], test_texts: Sequence[str], *, width: int = S1_WIDTH
) -> list[list[SharedNgram | None]]:
    """s1's loop over its sources: the texts kept of a source are test texts for the later sources.

    Returns for each text of each group the first shared n-gram, or None if the text is kept. Text
    indices count all of `test_texts`, then all texts of the groups, kept or not.
    """
    indexed, indices = list(test_texts), list(range(len(test_texts)))
    start, ngrams_by_group = len(test_texts), []
    for group in groups:
        ngrams = NgramIndex.from_texts(indexed, width=width).first_shared(group)
        ngrams_by_group.append([ngram and _with_indices(ngram, indices) for ngram in ngrams])
        for index, (text, ngram) in enumerate(zip(group, ngrams, strict=True), start=start):
            if ngram is None:
                indexed.append(text)
                indices.append(index)
        start += len(group)
    return ngrams_by_group


def _with_indices(shared: SharedNgram, indices: Sequence[int]) -> SharedNgram:
    """The n-gram with indices[i] in place of each text index i."""
    texts = tuple(indices[index] for index in shared.text_indices)
    return SharedNgram(indices[shared.text_index], shared.ngram, texts)
