"""The test problems nearest to a text in meaning, by sentence embeddings; English only.

A text that shares no word n-gram can still be the same problem in other words. Embeddings find
these, but also problems of the same form with other numbers, so the results are candidates only.

    index = EmbeddingIndex.from_texts(["How many primes are below 20?"], ParaphraseConfig())
    index.nearest(["Count the primes less than 20."])  # [(NearestItem(0, similarity=0.925),)]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.contamination import DRAWING_PATTERN
from slowthink.curation.overlap.semantic import embed_texts, is_readable
from slowthink.recipe import ParaphraseConfig

BLOCK_TEXTS = 4096
"""Number of texts embedded at a time."""
BLOCK_PAIRS = 1 << 24
"""Number of cosines in memory at a time: 64 MB."""
_SENTENCE_END = re.compile(r"(?<=[.?!\n])")


@dataclass(frozen=True, slots=True)
class NearestItem:
    """A test problem close to a text."""

    item_index: int
    similarity: float
    """Cosine, to three decimals."""


@dataclass(frozen=True)
class EmbeddingIndex:
    """Test problems as embeddings."""

    config: ParaphraseConfig
    item_indices: NDArray[np.int64]
    """[num_readable]: indices of the problems that the model can read."""
    vectors: NDArray[np.float32]
    """[num_readable, 384]."""

    @classmethod
    def from_texts(cls, items: Sequence[str], config: ParaphraseConfig) -> EmbeddingIndex:
        """Build the index of these texts. Raises ConfigError if the model's package is missing."""
        indices = [index for index, text in enumerate(items) if is_readable(text)]
        vectors = _embed_questions([items[index] for index in indices], config)
        return cls(config, np.array(indices, np.int64), vectors)

    def nearest(
        self, texts: Sequence[str], *, excluded: Sequence[Collection[int]] = ()
    ) -> list[tuple[NearestItem, ...]]:
        """For each text up to `max_candidates` problems with at least `min_similarity`, nearest
        first, ties by index; () for a text that the model cannot read. `excluded` has for each text
        the indices of problems to leave out.
        """
        nearest: list[tuple[NearestItem, ...]] = [()] * len(texts)
        readable = [row for row, text in enumerate(texts) if is_readable(text)]
        for start in range(0, len(readable), BLOCK_TEXTS):
            block = readable[start : start + BLOCK_TEXTS]
            vectors = _embed_questions([texts[row] for row in block], self.config)
            for row, similar in zip(block, self._similar(vectors), strict=True):
                left_out = excluded[row] if excluded else ()
                kept = [item for item in similar if item.item_index not in left_out]
                nearest[row] = tuple(kept[: self.config.max_candidates])
        return nearest

    def _similar(self, vectors: NDArray[np.float32]) -> Iterator[list[NearestItem]]:
        """For each vector all problems with at least `min_similarity`, nearest first."""
        num_rows = max(1, BLOCK_PAIRS // max(1, len(self.item_indices)))
        for start in range(0, len(vectors), num_rows):
            for cosines in (vectors[start : start + num_rows] @ self.vectors.T).round(3):
                similar = np.flatnonzero(cosines >= np.float32(self.config.min_similarity))
                order = similar[np.argsort(-cosines[similar], kind="stable")]
                nearest = zip(self.item_indices[order], cosines[order], strict=True)
                yield [NearestItem(int(i), min(1.0, round(float(cos), 3))) for i, cos in nearest]


def _embed_questions(texts: Sequence[str], config: ParaphraseConfig) -> NDArray[np.float32]:
    """[num_texts, 384]."""
    if not texts:
        return np.zeros((0, 384), np.float32)
    return embed_texts([_clean_question(text) for text in texts], batch_size=config.batch_size)


def _clean_question(text: str) -> str:
    """The text without parts that would dominate its embedding: the code of drawings, which is
    always similar, and instructions to put the answer into a LaTeX box."""
    question = DRAWING_PATTERN.sub(" ", text) if "[asy]" in text else text
    if "\\boxed" in question:
        sentences = _SENTENCE_END.split(question)
        question = "".join(sentence for sentence in sentences if "\\boxed" not in sentence)
    return question.strip() or text
