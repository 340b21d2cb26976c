"""Which texts hold a run of words of another text: an index of runs, and s1's leaks by it.

The literal way keeps a dict from each 8-word run to the texts that hold it. Here runs are 64-bit
hashes in one sorted array, a bit table in front of it answers for almost all that are not there,
and what the hashes say is proved on the words before it counts.

    index = RunIndex.of(["the sum of the first n odd numbers is n squared"], width=8)
    index.first_shared(["Prove: the sum of the first n odd numbers is even"])
    # [SharedRun(text=0, run="the sum of the first n odd numbers")]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.tokens import Hashed, Hashes, mixed, s1_words, shingles

S1_WIDTH = 8
"""Words of a run in s1 (simplescaling/s1@77272c6: data/collect_data.py); its helper's own is 13."""
BATCH_TEXTS = 2_000
"""Texts read at a time, so that memory does not grow with the pool."""
BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
RUN_TEXTS = 128
"""The same for runs of words: what is made for so few stays in the processor's cache."""
Places = NDArray[np.int64]
_IS_SPACE = np.zeros(256, bool)
_IS_SPACE[[*range(9, 14), *range(28, 33)]] = True


@dataclass(frozen=True)
class SharedRun:
    """A run of words that a text shares with a text of the index."""

    text: int
    """Number of the first text of the index that holds it."""
    run: str
    places: tuple[int, ...] = ()
    """All texts of the index that share this or another run."""


@dataclass(frozen=True)
class Postings:
    """Hash → the texts that hold it."""

    keys: Hashes
    """[num_keys], sorted."""
    starts: Places
    """[num_keys + 1]: key i is held by texts[starts[i]:starts[i + 1]], in rising order."""
    texts: NDArray[np.int32]
    seen: NDArray[np.bool_]
    """[2^bits]: whether any key has these first bits."""
    shift: np.uint64

    @classmethod
    def of(cls, values: Hashes, owners: Places) -> Postings:
        """Of hashes and the text that each is of; repeats within a text count once."""
        order = np.lexsort((owners, values))
        values, owners = values[order], owners[order]
        new_key = np.r_[True, values[1:] != values[:-1]][: len(values)]
        new_pair = new_key | np.r_[True, owners[1:] != owners[:-1]][: len(values)]
        keys = values[new_key]
        starts = np.r_[np.flatnonzero(new_key[new_pair]), new_pair.sum()]
        bits = int(np.clip(np.ceil(np.log2(len(keys) + 1)) + 5, 16, 28))
        seen, shift = np.zeros(1 << bits, bool), np.uint64(64 - bits)
        seen[keys >> shift] = True
        return cls(keys, starts, owners[new_pair].astype(np.int32), seen, shift)

    @property
    def counts(self) -> Places:
        """[num_keys]: how many texts hold each key."""
        return np.diff(self.starts)

    def find(self, values: Hashes) -> tuple[Places, Places]:
        """Where in `values` a key stands, and which one."""
        if not len(self.keys):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        places = np.flatnonzero(self.seen[values >> self.shift])
        slots = np.searchsorted(self.keys, values[places])
        slots[slots == len(self.keys)] = 0
        same = self.keys[slots] == values[places]
        return places[same], slots[same]

    def texts_of(self, slots: Places) -> tuple[Places, Places]:
        """The texts that hold these keys, end to end, and of which of `slots` each is."""
        counts = self.counts[slots]
        which = np.repeat(np.arange(len(slots)), counts)
        inside = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.texts[self.starts[slots][which] + inside].astype(np.int64), which


# --- s1 -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunIndex:
    """Texts by their runs of words (lower case, cut at white space).

    Every hit is proved on the words. The index pickles as its texts, and is made anew elsewhere.
    """

    texts: tuple[str, ...]
    width: int
    postings: Postings

    @classmethod
    def of(cls, texts: Sequence[str], width: int = S1_WIDTH) -> RunIndex:
        """An index of these texts; one below `width` words is in no run."""
        values, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for start in range(0, len(texts), RUN_TEXTS):
            runs = shingles(_word_hashes(texts[start : start + RUN_TEXTS]), width)
            values.append(runs.values)
            owners.append(runs.owners + start)
        return cls(tuple(texts), width, Postings.of(np.concatenate(values), np.concatenate(owners)))

    def __reduce__(self) -> tuple[Any, ...]:
        return RunIndex.of, (self.texts, self.width)

    def first_shared(self, texts: Sequence[str]) -> list[SharedRun | None]:
        """For each text the first run that it shares with the index; None where it shares none."""
        found: list[SharedRun | None] = []
        for start in range(0, len(texts), RUN_TEXTS):
            found += self._of_batch(texts[start : start + RUN_TEXTS])
        return found

    def _of_batch(self, texts: Sequence[str]) -> list[SharedRun | None]:
        runs = shingles(_word_hashes(texts), self.width)
        places, slots = self.postings.find(runs.values)
        holders, which = self.postings.texts_of(slots)
        shared: list[SharedRun | None] = [None] * len(texts)
        cuts = np.searchsorted(places, runs.offsets)
        ends = np.searchsorted(which, cuts)
        inside = (places - runs.offsets[runs.owners[places]]).tolist()
        keys, others = slots.tolist(), holders.tolist()
        for row in np.flatnonzero(np.diff(cuts)).tolist():
            low, high = cuts[row], cuts[row + 1]
            shared[row] = self._proved(
                s1_words(texts[row]),
                inside[low:high],
                keys[low:high],
                others[ends[row] : ends[row + 1]],
            )
        return shared

    def _proved(
        self, words: list[str], places: list[int], slots: list[int], holders: list[int]
    ) -> SharedRun | None:
        """The first run that is there in words, not by its hash alone."""
        for place, slot in zip(places, slots, strict=True):
            first = int(self.postings.texts[self.postings.starts[slot]])
            run = " ".join(words[place : place + self.width])
            if f" {run} " in f" {' '.join(s1_words(self.texts[first]))} ":
                return SharedRun(first, run, tuple(sorted(set(holders))))
        return None


def _word_hashes(texts: Sequence[str]) -> Hashed:
    """A hash of each word of s1's form, read off the texts' bytes without making the words.

    A word's hash is a difference of two prefix sums of byte * BASE^place, times BASE^-start, modulo
    2^64; white space beyond ASCII is made plain first.
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
    return Hashed(mixed(values), np.searchsorted(starts, first))


@cache
def _powers(num: int) -> tuple[Hashes, Hashes]:
    """[num]: powers of BASE modulo 2^64, and their inverses."""
    found = []
    for base in (BASE, pow(BASE, -1, 1 << 64)):
        factors = np.full(num, base, np.uint64)
        factors[0] = 1
        found.append(np.cumprod(factors, dtype=np.uint64))
    return found[0], found[1]


def survivors_in_order(
    groups: Sequence[Sequence[str]], tested: Sequence[str], *, width: int = S1_WIDTH
) -> list[list[Any]]:
    """s1's loop over its sources: what a source keeps is on the test side for the sources after it.

    For each group a SharedRun or None a text; its `text` counts first through `tested`, then
    through the groups' texts (kept or not) in order. The order of groups matters, as in s1.
    """
    texts, found = list(tested), []
    offset_of = list(range(len(tested)))
    for group in groups:
        shared = RunIndex.of(texts, width=width).first_shared(group)
        found.append([one and _renumbered(one, offset_of) for one in shared])
        start = len(tested) + sum(len(one) for one in groups[: len(found) - 1])
        for number, (text, one) in enumerate(zip(group, shared, strict=True)):
            if one is None:
                texts.append(text)
                offset_of.append(start + number)
    return found


def _renumbered(shared: SharedRun, offset_of: Sequence[int]) -> SharedRun:
    return SharedRun(
        offset_of[shared.text], shared.run, tuple(offset_of[place] for place in shared.places)
    )
