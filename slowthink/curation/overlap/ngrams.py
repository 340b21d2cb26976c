"""An index of the word n-grams in texts, and s1's decontamination with it.

The literal implementation is a dict from each 8-word n-gram to the texts that contain it. Here
n-grams are 64-bit hashes in one sorted array, behind a bit table that rejects almost all absent
ones, and every hit is verified on the words.

    index = NgramIndex.of(["the sum of the first n odd numbers is n squared"], width=8)
    index.first_shared(["Prove: the sum of the first n odd numbers is even"])
    # [SharedNgram(text=0, ngram="the sum of the first n odd numbers")]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.tokens import HashedBatch, Hashes, mix_bits, ngram_hashes, s1_words

S1_WIDTH = 8
"""Words of an n-gram in s1 (simplescaling/s1@77272c6: data/collect_data.py); its helper has 13."""
BATCH_TEXTS = 2_000
"""Number of texts in a batch, so that memory does not grow with the pool."""
BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
NGRAM_BATCH_TEXTS = 128
"""Number of texts in a batch of the n-gram index; so few fit the processor's cache."""
Places = NDArray[np.int64]
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[[*range(9, 14), *range(28, 33)]] = True


@dataclass(frozen=True)
class SharedNgram:
    """A word n-gram that a text shares with texts of the index."""

    text: int
    """Number of the first text of the index that contains it."""
    ngram: str
    texts: tuple[int, ...] = ()
    """Numbers of all texts of the index that share this or another n-gram."""


@dataclass(frozen=True)
class Postings:
    """Hash → the texts that contain it."""

    keys: Hashes
    """[num_keys], sorted."""
    starts: Places
    """[num_keys + 1]: key i is in texts[starts[i]:starts[i + 1]], in ascending order."""
    texts: NDArray[np.int32]
    has_prefix: NDArray[np.bool_]
    """[2^bits]: whether any key has these first bits."""
    shift: np.uint64

    @classmethod
    def of(cls, values: Hashes, owners: Places) -> Postings:
        """Build the postings of hashes and the text of each; repeats within a text count once."""
        order = np.lexsort((owners, values))
        values, owners = values[order], owners[order]
        new_key = np.r_[True, values[1:] != values[:-1]][: len(values)]
        new_pair = new_key | np.r_[True, owners[1:] != owners[:-1]][: len(values)]
        keys = values[new_key]
        starts = np.r_[np.flatnonzero(new_key[new_pair]), new_pair.sum()]
        bits = int(np.clip(np.ceil(np.log2(len(keys) + 1)) + 5, 16, 28))
        has_prefix, shift = np.zeros(1 << bits, bool), np.uint64(64 - bits)
        has_prefix[keys >> shift] = True
        return cls(keys, starts, owners[new_pair].astype(np.int32), has_prefix, shift)

    @property
    def counts(self) -> Places:
        """[num_keys]: number of texts that contain each key."""
        return np.diff(self.starts)

    def find(self, values: Hashes) -> tuple[Places, Places]:
        """Positions in `values` that are keys, and the slots of these keys."""
        if not len(self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        positions = np.flatnonzero(self.has_prefix[values >> self.shift])
        slots = np.searchsorted(self.keys, values[positions])
        slots[slots == len(self.keys)] = 0
        is_equal = self.keys[slots] == values[positions]
        return positions[is_equal], slots[is_equal]

    def texts_of(self, slots: Places) -> tuple[Places, Places]:
        """The texts that contain these keys, concatenated, and the index into `slots` of each."""
        counts = self.counts[slots]
        which = np.repeat(np.arange(len(slots)), counts)
        offsets = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.texts[self.starts[slots][which] + offsets].astype(np.int64), which


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
    def of(cls, texts: Sequence[str], width: int = S1_WIDTH) -> NgramIndex:
        """Build the index of these texts; a text below `width` words has no n-gram."""
        values, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), NGRAM_BATCH_TEXTS):
            ngrams = ngram_hashes(_word_hashes(texts[start : start + NGRAM_BATCH_TEXTS]), width)
            values.append(ngrams.values)
            owners.append(ngrams.owners + start)
        return cls(tuple(texts), width, Postings.of(np.concatenate(values), np.concatenate(owners)))

    def __reduce__(self) -> tuple[Any, ...]:
        return NgramIndex.of, (self.texts, self.width)

    def first_shared(self, texts: Sequence[str]) -> list[SharedNgram | None]:
        """The first n-gram that each text shares with the index, or None."""
        shared: list[SharedNgram | None] = []
        for start in range(0, len(texts), NGRAM_BATCH_TEXTS):
            shared += self._first_shared(texts[start : start + NGRAM_BATCH_TEXTS])
        return shared

    def _first_shared(self, texts: Sequence[str]) -> list[SharedNgram | None]:
        ngrams = ngram_hashes(_word_hashes(texts), self.width)
        positions, slots = self.postings.find(ngrams.values)
        owners, which = self.postings.texts_of(slots)
        shared: list[SharedNgram | None] = [None] * len(texts)
        ends = np.searchsorted(positions, ngrams.offsets)
        owner_ends = np.searchsorted(which, ends)
        starts = (positions - ngrams.offsets[ngrams.owners[positions]]).tolist()
        for row in np.flatnonzero(np.diff(ends)).tolist():
            hits = slice(ends[row], ends[row + 1])
            shared[row] = self._verified(
                s1_words(texts[row]),
                starts[hits],
                slots[hits].tolist(),
                owners[owner_ends[row] : owner_ends[row + 1]].tolist(),
            )
        return shared

    def _verified(
        self, words: list[str], starts: list[int], slots: list[int], owners: list[int]
    ) -> SharedNgram | None:
        """The first n-gram whose words, not only its hash, are in a text of the index."""
        for start, slot in zip(starts, slots, strict=True):
            first = int(self.postings.texts[self.postings.starts[slot]])
            ngram = " ".join(words[start : start + self.width])
            if f" {ngram} " in f" {' '.join(s1_words(self.texts[first]))} ":
                return SharedNgram(first, ngram, tuple(sorted(set(owners))))
        return None


def _word_hashes(texts: Sequence[str]) -> HashedBatch:
    """Hashes of the words in s1's form, computed on the texts' bytes without creating the words.

    A word's hash is a difference of two prefix sums of byte * BASE^position, times BASE^-start,
    modulo 2^64. White space beyond ASCII is replaced first.
    """
    parts = [
        (text.lower() if text.isascii() else " ".join(s1_words(text))).encode("utf-8", "replace")
        for text in texts
    ]
    data = np.frombuffer(b" ".join([b"", *parts, b""]), np.uint8)
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    spaces = _IS_SPACE[data]
    edges = np.flatnonzero(spaces[1:] != spaces[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    powers, inverse = _powers(1 << len(data).bit_length())
    sums = np.cumsum(data * powers[: len(data)], dtype=np.uint64)
    values = (sums[ends - 1] - sums[starts - 1]) * inverse[starts]
    first = np.concatenate([[0], np.cumsum(lengths + 1)]) + 1
    return HashedBatch(mix_bits(values), np.searchsorted(starts, first))


@cache
def _powers(num: int) -> tuple[Hashes, Hashes]:
    """[num]: powers of BASE modulo 2^64, and their inverses."""
    powers = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        factors = np.full(num, base, np.uint64)
        factors[0] = 1
        powers.append(np.cumprod(factors, dtype=np.uint64))
    return powers[0], powers[1]


def survivors_in_order(
    groups: Sequence[Sequence[str]], test_texts: Sequence[str], *, width: int = S1_WIDTH
) -> list[list[SharedNgram | None]]:
    """s1's loop over its sources: the texts kept of a source are test texts for later sources.

    Returns a SharedNgram or None for each text of each group. Its text numbers count through
    `test_texts`, then through the groups' texts (kept or not). The order of groups matters, as in
    s1.
    """
    texts, shared_of_groups = list(test_texts), []
    numbers = list(range(len(test_texts)))
    start = len(test_texts)
    for group in groups:
        shared = NgramIndex.of(texts, width=width).first_shared(group)
        shared_of_groups.append([ngram and _renumbered(ngram, numbers) for ngram in shared])
        for number, (text, ngram) in enumerate(zip(group, shared, strict=True), start=start):
            if ngram is None:
                texts.append(text)
                numbers.append(number)
        start += len(group)
    return shared_of_groups


def _renumbered(shared: SharedNgram, numbers: Sequence[int]) -> SharedNgram:
    texts = tuple(numbers[text] for text in shared.texts)
    return SharedNgram(numbers[shared.text], shared.ngram, texts)
