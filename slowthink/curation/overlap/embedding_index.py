"""The test problems nearest to a text in meaning, by sentence embeddings; English only.

A text that shares no word n-gram can still be the same problem in other words. Embeddings find
these, and as many problems of the same form with other numbers, so the results are candidates.

    index = EmbeddingIndex.of(["How many primes are below 20?"], ParaphraseConfig())
    index.nearest(["Count the primes less than 20."])  # [(NearestItem(item=0, similarity=0.925),)]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.contamination import DRAWING
from slowthink.curation.overlap.semantic import embed, is_readable
from slowthink.recipe import ParaphraseConfig

BLOCK_TEXTS = 4096
"""Number of texts embedded at a time."""
BLOCK_PAIRS = 1 << 24
"""Number of cosines in memory at a time: 64 MB."""
_SENTENCES = re.compile(r"(?<=[.?!\n])")


@dataclass(frozen=True, slots=True)
class NearestItem:
    """A test problem close to a text."""

    item: int
    """Its number among the test problems."""
    similarity: float
    """Cosine, to three decimals."""


@dataclass(frozen=True)
class EmbeddingIndex:
    """Test problems as embeddings."""

    config: ParaphraseConfig
    numbers: NDArray[np.int64]
    """[num_readable]: numbers of the problems that the model can read."""
    vectors: NDArray[np.float32]
    """[num_readable, 384]."""

    @classmethod
    def of(cls, items: Sequence[str], config: ParaphraseConfig) -> EmbeddingIndex:
        """Build the index of these texts. Raises ConfigError if the model's package is missing."""
        numbers = [number for number, text in enumerate(items) if is_readable(text)]
        vectors = _vectors([items[number] for number in numbers], config)
        return cls(config, np.array(numbers, np.int64), vectors)

    def nearest(
        self, texts: Sequence[str], *, known: Sequence[Collection[int]] = ()
    ) -> list[tuple[NearestItem, ...]]:
        """For each text up to `max_candidates` problems with at least `min_similarity`, nearest
        first, then by number, without those in `known`. () for a text that the model cannot read.
        """
        nearest: list[tuple[NearestItem, ...]] = [()] * len(texts)
        readable = [row for row, text in enumerate(texts) if is_readable(text)]
        for start in range(0, len(readable), BLOCK_TEXTS):
            block = readable[start : start + BLOCK_TEXTS]
            vectors = _vectors([texts[row] for row in block], self.config)
            for row, similar in zip(block, self._similar(vectors), strict=True):
                new = [item for item in similar if not known or item.item not in known[row]]
                nearest[row] = tuple(new[: self.config.max_candidates])
        return nearest

    def _similar(self, vectors: NDArray[np.float32]) -> Iterator[list[NearestItem]]:
        """For each vector all problems with at least `min_similarity`, nearest first."""
        height = max(1, BLOCK_PAIRS // max(1, len(self.numbers)))
        for start in range(0, len(vectors), height):
            cosines = (vectors[start : start + height] @ self.vectors.T).round(3)
            for row in cosines:
                similar = np.flatnonzero(row >= np.float32(self.config.min_similarity))
                order = similar[np.argsort(-row[similar], kind="stable")]
                yield [
                    NearestItem(int(self.numbers[column]), min(1.0, round(float(row[column]), 3)))
                    for column in order
                ]


def _vectors(texts: Sequence[str], config: ParaphraseConfig) -> NDArray[np.float32]:
    """[num_texts, 384]."""
    if not texts:
        return np.zeros((0, 384), np.float32)
    return embed([_question(text) for text in texts], batch_size=config.batch_size)


def _question(text: str) -> str:
    """The text without parts that would dominate its embedding: drawings, whose code is similar,
    and instructions to put the answer into a LaTeX box."""
    question = DRAWING.sub(" ", text) if "[asy]" in text else text
    if "\\boxed" in question:
        sentences = _SENTENCES.split(question)
        question = "".join(sentence for sentence in sentences if "\\boxed" not in sentence)
    return question.strip() or text
