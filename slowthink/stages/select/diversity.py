"""Methods that depend on the similarity of problems: `diverse`, and LIMO v1's balance.

Both choose the problem that is least similar to all chosen ones (farthest first, Gonzalez 1985).
Similarity is the cosine of idf-weighted word counts. All numbers count as one word, so problems of
one template are similar. Vectors have integer values, so sums are exact in any order of addition.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowthink.stages.select.methods import longest_first
from slowthink.stages.select.selection import Candidate, Pick, Rejection, Selection

NUM_FEATURES = 512
"""Number of columns into which words are hashed."""
VECTOR_NORM = 127
"""Norm of each vector."""
_TOKEN_PATTERN = re.compile(r"\\?[a-z]+|\d+(?:\.\d+)?|[\u4e00-\u9fff]")

Floats = NDArray[np.float32]


def word_vectors(texts: Sequence[str]) -> Floats:
    """[num_texts, 512]: idf-weighted counts of hashed words, of norm 127 each, rounded."""
    counts = np.zeros((len(texts), NUM_FEATURES), np.float32)
    for row, text in enumerate(texts):
        columns = [zlib.crc32(word.encode()) % NUM_FEATURES for word in _split_words(text)]
        np.add.at(counts[row], columns, 1)
    num_texts_with_word = np.count_nonzero(counts, axis=0)
    counts *= np.log1p(len(texts) / np.maximum(num_texts_with_word, 1)).astype(np.float32)
    norms = np.sqrt((counts.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    rounded: Floats = np.rint(counts * (VECTOR_NORM / np.maximum(norms, 1e-9))).astype(np.float32)
    return rounded


def _split_words(text: str) -> list[str]:
    """Words, LaTeX commands, pairs of Chinese characters; every number is `#`."""
    tokens = _TOKEN_PATTERN.findall(text.lower())
    words = ["#" if token[0].isdigit() else token for token in tokens]
    pairs = [first + second for first, second in itertools.pairwise(words)]
    return words + [pair for pair in pairs if not pair.isascii()]


class Similarities:
    """Candidates, longest first, and the similarity of each to the most similar chosen one."""

    def __init__(self, candidates: Sequence[Candidate], *, domain_weight: float = 0.0) -> None:
        self.candidates = longest_first(candidates)
        self.vectors = word_vectors([candidate.text for candidate in self.candidates])
        self.domains = np.array([candidate.domain for candidate in self.candidates])
        self.max_products = np.full(len(self.candidates), -1, np.float32)
        """Largest dot product with a chosen one, in units of 1 / 127^2; -1 if none is chosen."""
        self.nearest = np.full(len(self.candidates), -1, np.int64)
        """Index of the chosen candidate with this product."""
        self._domain_bonus = float(round(domain_weight * VECTOR_NORM**2))

    def add_chosen(self, index: int) -> None:
        """Update all similarities for a newly chosen candidate."""
        products = self.vectors @ self.vectors[index]
        if self._domain_bonus:
            products = products + self._domain_bonus * (self.domains == self.domains[index])
        is_nearer = products > self.max_products
        self.max_products[is_nearer] = products[is_nearer]
        self.nearest[is_nearer] = index

    def add_all_chosen(self, selection: Selection) -> None:
        """Update all similarities for the candidates chosen before the method began."""
        for index, candidate in enumerate(self.candidates):
            if candidate.id in selection.chosen:
                self.add_chosen(index)

    def similarity(self, index: int) -> float:
        """Similarity to the nearest chosen candidate, in [0, 1]; 0 if none is chosen."""
        return min(1.0, max(0.0, float(self.max_products[index]) / VECTOR_NORM**2))


def pick_diverse(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """The candidate least similar to all chosen ones (ties: the longest), again and again. The
    first one is random if none is chosen.

    Takes num_candidates * num_chosen * 512 multiplications.
    """
    similarities = Similarities(candidates, domain_weight=selection.config.domain_weight)
    similarities.add_all_chosen(selection)
    pool = similarities.candidates
    is_remaining = np.array([candidate.id not in selection.chosen for candidate in pool])
    for num_picked in range(int(is_remaining.sum())):
        if num_picked == 0 and not selection.chosen:
            index = selection.rng.randrange(len(pool))
        else:
            index = int(np.where(is_remaining, similarities.max_products, np.inf).argmin())
        is_remaining[index] = False
        similarity = f"{similarities.similarity(index):.2f} like the nearest chosen"
        yield Pick(pool[index], f"pick {num_picked + 1}: {similarity}")
        if pool[index].id in selection.chosen:
            similarities.add_chosen(index)


@dataclass
class _Cell:
    """Candidates of one domain and one band of chain lengths, by index."""

    domain: str
    band: int
    indices: list[int]


def pick_balanced(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """LIMO v1's third step (arXiv 2502.03387v1, section 3.1), which the paper names but does not
    define: balanced over domain and complexity, without redundancy.

    Our definition: the next candidate is from the domain with the fewest chosen (ties: a seeded
    order), in it from the band with the fewest (ties: the longest chains), in it the one least
    similar to all chosen ones. Candidates too similar to a chosen one are skipped. Complexity is
    the length of the chain, since the filter has already selected by difficulty.
    """
    config = selection.config
    similarities = Similarities(candidates)
    similarities.add_all_chosen(selection)
    pool = similarities.candidates
    cells = _make_cells(pool, config.num_bands)
    domains = sorted({cell.domain for cell in cells})
    order = selection.rng.sample(domains, len(domains))
    random_ranks = {domain: rank for rank, domain in enumerate(order)}
    num_by_domain, num_by_cell = Counter[str](), Counter[tuple[str, int]]()
    for cell in cells:
        num_chosen = sum(pool[index].id in selection.chosen for index in cell.indices)
        num_by_domain[cell.domain] += num_chosen
        num_by_cell[cell.domain, cell.band] = num_chosen
    while cells:
        cell = min(
            cells,
            key=lambda cell: (num_by_domain[cell.domain], random_ranks[cell.domain],
                              num_by_cell[cell.domain, cell.band], -cell.band),
        )  # fmt: skip
        index = _pop_farthest(cell, similarities, selection)
        if index is None:
            cells.remove(cell)
            continue
        why = f"{cell.domain}, band {cell.band + 1} of {config.num_bands}"
        similarity = f"{similarities.similarity(index):.2f} like the nearest chosen"
        yield Pick(pool[index], f"{why}: {similarity}")
        if pool[index].id in selection.chosen:
            similarities.add_chosen(index)
            num_by_cell[cell.domain, cell.band] += 1
            num_by_domain[cell.domain] += 1


def _make_cells(candidates: Sequence[Candidate], num_bands: int) -> list[_Cell]:
    """Cells of candidates that are sorted longest first. Each band has equally many candidates; the
    last one has the longest chains."""
    cells: dict[tuple[str, int], _Cell] = {}
    for index, candidate in enumerate(candidates):
        band = num_bands - 1 - index * num_bands // len(candidates)
        key = (candidate.domain, band)
        cells.setdefault(key, _Cell(*key, indices=[])).indices.append(index)
    return list(cells.values())


def _pop_farthest(cell: _Cell, similarities: Similarities, selection: Selection) -> int | None:
    """Remove all redundant candidates from the cell and the one least similar to the chosen ones,
    and return the index of the latter; None if there is none."""
    limit = math.floor(selection.config.max_similarity * VECTOR_NORM**2)
    for index in [index for index in cell.indices if similarities.max_products[index] >= limit]:
        cell.indices.remove(index)
        candidate = similarities.candidates[index]
        if candidate.id not in selection.chosen:
            nearest = similarities.candidates[int(similarities.nearest[index])].id
            evidence = f"{similarities.similarity(index):.2f} like {nearest}, which is chosen"
            selection.rejected[candidate.id] = Rejection("redundant", evidence)
    if not cell.indices:
        return None
    farthest = min(cell.indices, key=lambda index: float(similarities.max_products[index]))
    cell.indices.remove(farthest)
    return farthest
