"""The tested problems that mean nearly the same as a text, by sentence embeddings; English only.

What shares no run of words can still be the same problem in other words. Embeddings find such, and
as many problems of the same form with other numbers: these are candidates, not leaks.

    index = MeaningIndex.of(["How many primes are below 20?"], ParaphraseConfig())
    index.nearest(["Count the primes less than 20."])  # [(Near(item=0, similarity=0.925),)]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.contamination import DRAWING
from slowthink.curation.overlap.semantic import embedded, is_readable
from slowthink.recipe import ParaphraseConfig

BLOCK_TEXTS = 4096
"""Texts held as vectors at a time, whatever the pool's size."""
BLOCK_PAIRS = 1 << 24
"""Cosines held at a time: 64 MB."""
_SENTENCES = re.compile(r"(?<=[.?!\n])")


@dataclass(frozen=True, slots=True)
class NearestItem:
    """A tested problem that a text is close to."""

    item: int
    """Its place among the tested problems."""
    similarity: float
    """Cosine, to three decimals."""


@dataclass(frozen=True)
class EmbeddingIndex:
    """Tested problems by their meaning."""

    config: ParaphraseConfig
    places: NDArray[np.int64]
    """[num_readable]: places of the problems that the model can read."""
    vectors: NDArray[np.float32]
    """[num_readable, 384]."""

    @classmethod
    def of(cls, items: Sequence[str], config: ParaphraseConfig) -> EmbeddingIndex:
        """An index of these texts. Raises ConfigError where the model's package is missing."""
        places = [place for place, text in enumerate(items) if is_readable(text)]
        vectors = _vectors([items[place] for place in places], config)
        return cls(config, np.array(places, np.int64), vectors)

    def nearest(
        self, texts: Sequence[str], *, known: Sequence[Collection[int]] = ()
    ) -> list[tuple[NearestItem, ...]]:
        """For each text the problems of at least `min_similarity`, nearest first, then by place.

        `known` has for each text the problems that need not be found; at most `max_candidates` of
        the others are. () for a text that the model cannot read.
        """
        found: list[tuple[NearestItem, ...]] = [()] * len(texts)
        readable = [place for place, text in enumerate(texts) if is_readable(text)]
        for start in range(0, len(readable), BLOCK_TEXTS):
            block = readable[start : start + BLOCK_TEXTS]
            vectors = _vectors([texts[place] for place in block], self.config)
            for place, pairs in zip(block, self._above(vectors), strict=True):
                left = [pair for pair in pairs if not known or pair.item not in known[place]]
                found[place] = tuple(left[: self.config.max_candidates])
        return found

    def _above(self, vectors: NDArray[np.float32]) -> Iterator[list[NearestItem]]:
        """For each vector all problems that are similar enough, nearest first."""
        height = max(1, BLOCK_PAIRS // max(1, len(self.places)))
        for start in range(0, len(vectors), height):
            cosines = (vectors[start : start + height] @ self.vectors.T).round(3)
            for row in cosines:
                near = np.flatnonzero(row >= np.float32(self.config.min_similarity))
                order = near[np.argsort(-row[near], kind="stable")]
                yield [
                    NearestItem(int(self.places[place]), min(1.0, round(float(row[place]), 3)))
                    for place in order
                ]


def _vectors(texts: Sequence[str], config: ParaphraseConfig) -> NDArray[np.float32]:
    """[num_texts, 384]."""
    if not texts:
        return np.zeros((0, 384), np.float32)
    return embedded([_asked(text) for text in texts], batch_size=config.batch_size)


def _asked(text: str) -> str:
    """What a question asks, less what would outweigh it: drawings, which are alike as code, and
    where the answer is put: "Put your final answer in a box", in LaTeX."""
    shown = DRAWING.sub(" ", text) if "[asy]" in text else text
    if "\\boxed" in shown:
        shown = "".join(one for one in _SENTENCES.split(shown) if "\\boxed" not in one)
    return shown.strip() or text
