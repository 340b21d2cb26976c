"""Methods that depend on the similarity of problems: `diverse`, and LIMO v1's balance.

Both choose the problem least similar to all chosen ones (farthest first, Gonzalez 1985). Similarity
is the cosine of idf-weighted word counts. All numbers count as one word, so problems of one
template are similar. Vectors have integer values: sums are exact in any order of addition.
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
SCALE = 127
"""Norm of each vector."""
_TOKEN = re.compile(r"\\?[a-z]+|\d+(?:\.\d+)?|[\u4e00-\u9fff]")

Floats = NDArray[np.float32]


def vectors(texts: Sequence[str]) -> Floats:
    """[num_texts, 512]: idf-weighted counts of hashed words, of norm 127 each, rounded."""
    counts = np.zeros((len(texts), NUM_FEATURES), np.float32)
    for row, text in enumerate(texts):
        columns = [zlib.crc32(word.encode()) % NUM_FEATURES for word in _words(text)]
        np.add.at(counts[row], columns, 1)
    frequency = np.count_nonzero(counts, axis=0)
    counts *= np.log1p(len(texts) / np.maximum(frequency, 1)).astype(np.float32)
    norms = np.sqrt((counts.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    rounded: Floats = np.rint(counts * (SCALE / np.maximum(norms, 1e-9))).astype(np.float32)
    return rounded


def _words(text: str) -> list[str]:
    """Words, LaTeX commands, pairs of Chinese characters; every number is `#`."""
    tokens = ["#" if token[0].isdigit() else token for token in _TOKEN.findall(text.lower())]
    pairs = [
        left + right for left, right in itertools.pairwise(tokens) if not (left + right).isascii()
    ]
    return tokens + pairs


class SimilarityIndex:
    """Candidates, longest first, and the similarity of each to its nearest chosen one."""

    def __init__(self, candidates: Sequence[Candidate], *, domain_weight: float = 0.0) -> None:
        self.candidates = longest_first(candidates)
        self.vectors = vectors([candidate.text for candidate in self.candidates])
        numbers = {name: n for n, name in enumerate(sorted({c.domain for c in candidates}))}
        self.domains = np.array([numbers[c.domain] for c in self.candidates], np.int64)
        self.products = np.full(len(self.candidates), -1, np.float32)
        """Largest dot product with a chosen one, in units of 1 / 127^2; -1 if none is chosen."""
        self.nearest = np.full(len(self.candidates), -1, np.int64)
        self._bonus = float(round(domain_weight * SCALE**2))

    def add_chosen(self, index: int) -> None:
        """Update all similarities for a newly chosen candidate."""
        products = self.vectors @ self.vectors[index]
        if self._bonus:
            products = products + self._bonus * (self.domains == self.domains[index])
        nearer = products > self.products
        self.products[nearer] = products[nearer]
        self.nearest[nearer] = index

    def add_all_chosen(self, selection: Selection) -> None:
        """Update all similarities for the candidates chosen before the method began."""
        for index, candidate in enumerate(self.candidates):
            if candidate.id in selection.chosen:
                self.add_chosen(index)

    def similarity(self, index: int) -> float:
        """Similarity to the nearest chosen candidate, in [0, 1]; 0 if none is chosen."""
        return min(1.0, max(0.0, float(self.products[index]) / SCALE**2))


def draw_diverse(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """The least similar to all chosen ones, ties: the longest. The first one is random.

    Takes num_candidates * num_chosen * 512 multiplications.
    """
    index = SimilarityIndex(candidates, domain_weight=selection.config.domain_weight)
    index.add_all_chosen(selection)
    remaining = np.array([one.id not in selection.chosen for one in index.candidates])
    for number in range(int(remaining.sum())):
        if number == 0 and not selection.chosen:
            position = selection.rng.randrange(len(index.candidates))
        else:
            position = int(np.where(remaining, index.products, np.inf).argmin())
        remaining[position] = False
        candidate, similarity = index.candidates[position], index.similarity(position)
        yield Pick(candidate, f"pick {number + 1}: {similarity:.2f} like the nearest chosen")
        if candidate.id in selection.chosen:
            index.add_chosen(position)


@dataclass
class _Cell:
    """Candidates of one domain and one band of complexity, as positions in the index."""

    domain: str
    band: int
    positions: list[int]


def draw_balanced(candidates: Sequence[Candidate], selection: Selection) -> Iterator[Pick]:
    """LIMO v1's third step (arXiv 2502.03387v1, section 3.1), which the paper names but does not
    define: balanced over domain and complexity, without redundancy.

    Our definition: the next candidate is from the domain with the fewest chosen (ties: a seeded
    order), in it from the band with the fewest (ties: the longest chains), in it the one least
    similar to all chosen ones. Candidates too similar to a chosen one are skipped. Complexity is
    the length of the chain, since the filter has already selected by difficulty.
    """
    config = selection.config
    index = SimilarityIndex(candidates)
    index.add_all_chosen(selection)
    cells = _cells(index.candidates, config.num_bands)
    domains = sorted({cell.domain for cell in cells})
    order = {name: n for n, name in enumerate(selection.rng.sample(domains, len(domains)))}
    per_domain, per_cell = Counter[str](), Counter[tuple[str, int]]()
    for cell in cells:
        chosen = sum(index.candidates[n].id in selection.chosen for n in cell.positions)
        per_domain[cell.domain] += chosen
        per_cell[cell.domain, cell.band] = chosen
    while cells:
        cell = min(
            cells,
            key=lambda cell: (per_domain[cell.domain], order[cell.domain],
                              per_cell[cell.domain, cell.band], -cell.band),
        )  # fmt: skip
        position = _pop_farthest(cell, index, selection)
        if position is None:
            cells.remove(cell)
            continue
        candidate = index.candidates[position]
        why = f"{cell.domain}, band {cell.band + 1} of {config.num_bands}"
        yield Pick(candidate, f"{why}: {index.similarity(position):.2f} like the nearest chosen")
        if candidate.id in selection.chosen:
            index.add_chosen(position)
            per_cell[cell.domain, cell.band] += 1
            per_domain[cell.domain] += 1


def _cells(candidates: Sequence[Candidate], num_bands: int) -> list[_Cell]:
    """Bands of equally many candidates of the pool; the last band has the longest chains."""
    cells: dict[tuple[str, int], _Cell] = {}
    for position, candidate in enumerate(candidates):
        band = num_bands - 1 - position * num_bands // len(candidates)
        key = (candidate.domain, band)
        cells.setdefault(key, _Cell(*key, positions=[])).positions.append(position)
    return list(cells.values())


def _pop_farthest(cell: _Cell, index: SimilarityIndex, selection: Selection) -> int | None:
    """Remove the least similar candidate from the cell, and all redundant ones; None if empty."""
    limit = math.floor(selection.config.max_similarity * SCALE**2)
    for position in [n for n in cell.positions if index.products[n] >= limit]:
        cell.positions.remove(position)
        candidate = index.candidates[position]
        if candidate.id not in selection.chosen:
            other = index.candidates[int(index.nearest[position])].id
            evidence = f"{index.similarity(position):.2f} like {other}, which is chosen"
            selection.rejected[candidate.id] = Rejection("redundant", evidence)
    if not cell.positions:
        return None
    farthest = min(cell.positions, key=lambda n: (float(index.products[n]), n))
    cell.positions.remove(farthest)
    return farthest
