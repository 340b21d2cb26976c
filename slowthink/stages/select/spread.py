"""Methods that look at how like each other problems are: `diverse`, and LIMO v1's balance.

Both take the problem that is least like all chosen ones (farthest first, Gonzalez 1985). Likeness
is the cosine of words weighted by idf, all numbers being one word, so that two problems of one
template are alike. Vectors hold whole numbers: sums are exact, whatever order a machine adds in.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowthink.stages.select.choose import Candidate, Drawing, Pick

NUM_FEATURES = 512
"""Words are hashed into so many columns."""
SCALE = 127
"""A vector's length, in whole numbers."""
_TOKEN = re.compile(r"\\?[a-z]+|\d+(?:\.\d+)?|[\u4e00-\u9fff]")

Floats = NDArray[np.float32]


def vectors(texts: Sequence[str]) -> Floats:
    """[num_texts, 512]: idf-weighted counts of hashed words, of length 127 each, rounded."""
    found = np.zeros((len(texts), NUM_FEATURES), np.float32)
    for row, text in enumerate(texts):
        columns = [zlib.crc32(word.encode()) % NUM_FEATURES for word in _words(text)]
        np.add.at(found[row], columns, 1)
    frequency = np.count_nonzero(found, axis=0)
    found *= np.log1p(len(texts) / np.maximum(frequency, 1)).astype(np.float32)
    norms = np.sqrt((found.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    whole: Floats = np.rint(found * (SCALE / np.maximum(norms, 1e-9))).astype(np.float32)
    return whole


def _words(text: str) -> list[str]:
    """Words, LaTeX commands, pairs of Chinese characters; every number is `#`."""
    tokens = ["#" if token[0].isdigit() else token for token in _TOKEN.findall(text.lower())]
    pairs = [
        left + right for left, right in itertools.pairwise(tokens) if not (left + right).isascii()
    ]
    return tokens + pairs


class Field:
    """Candidates, and how like each is to the most similar chosen one."""

    def __init__(self, candidates: Sequence[Candidate], *, domain_weight: float = 0.0) -> None:
        self.candidates = sorted(candidates, key=lambda one: (-one.length, one.id))
        self.vectors = vectors([one.text for one in self.candidates])
        places = {name: n for n, name in enumerate(sorted({one.domain for one in candidates}))}
        self.domains = np.array([places[one.domain] for one in self.candidates], np.int64)
        self.likeness = np.full(len(self.candidates), -1, np.float32)
        """Largest dot product with a chosen one, in units of 1 / 127^2; -1 without any."""
        self.nearest = np.full(len(self.candidates), -1, np.int64)
        self._bonus = float(round(domain_weight * SCALE**2))

    def take(self, place: int) -> None:
        """This one is chosen now."""
        likeness = self.vectors @ self.vectors[place]
        if self._bonus:
            likeness = likeness + self._bonus * (self.domains == self.domains[place])
        nearer = likeness > self.likeness
        self.likeness[nearer] = likeness[nearer]
        self.nearest[nearer] = place

    def take_chosen(self, drawing: Drawing) -> None:
        """What has been chosen before the method began."""
        for place, candidate in enumerate(self.candidates):
            if candidate.id in drawing.chosen:
                self.take(place)

    def similarity(self, place: int) -> float:
        """To the most similar chosen one, about a cosine, in [0, 1]; 0 without any."""
        return min(1.0, max(0.0, float(self.likeness[place]) / SCALE**2))


def draw_diverse(candidates: Sequence[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """Each time the one least like all chosen ones, of equals the longest; the first one by seed.

    Takes num_candidates * num_chosen * 512 multiplications.
    """
    field = Field(candidates, domain_weight=drawing.config.domain_weight)
    field.take_chosen(drawing)
    left = np.array([one.id not in drawing.chosen for one in field.candidates])
    for number in range(int(left.sum())):
        if number == 0 and not drawing.chosen:
            place = drawing.rng.randrange(len(field.candidates))
        else:
            place = int(np.where(left, field.likeness, np.inf).argmin())
        left[place] = False
        candidate, similarity = field.candidates[place], field.similarity(place)
        yield Pick(candidate, f"pick {number + 1}: {similarity:.2f} like the nearest chosen")
        if candidate.id in drawing.chosen:
            field.take(place)


@dataclass
class _Cell:
    """Candidates of one domain and one band of complexity."""

    domain: str
    band: int
    places: list[int]


def draw_balanced(candidates: Sequence[Candidate], drawing: Drawing) -> Iterator[Pick]:
    """LIMO v1's third step (arXiv 2502.03387v1, section 3.1), which the paper names and does not
    define: balanced over domain and complexity, without redundancy.

    Ours: the next comes from the domain with the fewest chosen (ties by a seeded order), there from
    the band with the fewest (ties: the longest chains), there the one least like all chosen ones;
    one that is too like a chosen one is left. Complexity is the chain's length: difficulty has been
    seen to by the filter.
    """
    field = Field(candidates)
    field.take_chosen(drawing)
    cells = _cells(field.candidates, drawing.config.num_bands)
    domains = sorted({cell.domain for cell in cells})
    order = {name: n for n, name in enumerate(drawing.rng.sample(domains, len(domains)))}
    counts = _counts_of(cells, field, drawing)
    per_domain = {name: sum(n for (d, _), n in counts.items() if d == name) for name in domains}
    while cells:
        cell = min(
            cells,
            key=lambda one: (per_domain[one.domain], order[one.domain],
                             counts[one.domain, one.band], -one.band),
        )  # fmt: skip
        place = _farthest(cell, field, drawing)
        if place is None:
            cells.remove(cell)
            continue
        candidate = field.candidates[place]
        why = f"{cell.domain}, band {cell.band + 1} of {drawing.config.num_bands}"
        yield Pick(candidate, f"{why}: {field.similarity(place):.2f} like the nearest chosen")
        if candidate.id in drawing.chosen:
            field.take(place)
            counts[cell.domain, cell.band] += 1
            per_domain[cell.domain] += 1


def _cells(candidates: Sequence[Candidate], num_bands: int) -> list[_Cell]:
    """Bands hold equally many candidates of the pool; the last one has the longest chains."""
    found: dict[tuple[str, int], _Cell] = {}
    for place, candidate in enumerate(candidates):
        band = num_bands - 1 - place * num_bands // len(candidates)
        cell = found.setdefault(
            (candidate.domain, band), _Cell(domain=candidate.domain, band=band, places=[])
        )
        cell.places.append(place)
    return list(found.values())


def _counts_of(
    cells: Sequence[_Cell], field: Field, drawing: Drawing
) -> dict[tuple[str, int], int]:
    return {
        (cell.domain, cell.band): sum(
            field.candidates[place].id in drawing.chosen for place in cell.places
        )
        for cell in cells
    }


def _farthest(cell: _Cell, field: Field, drawing: Drawing) -> int | None:
    """Takes the next one out of the cell; redundant ones on the way leave it too."""
    limit = math.floor(drawing.config.max_similarity * SCALE**2)
    for place in [place for place in cell.places if field.likeness[place] >= limit]:
        cell.places.remove(place)
        candidate = field.candidates[place]
        if candidate.id not in drawing.chosen:
            other = field.candidates[int(field.nearest[place])].id
            evidence = f"{field.similarity(place):.2f} like {other}, which is chosen"
            drawing.note(candidate.id, "redundant", evidence)
    if not cell.places:
        return None
    place = min(cell.places, key=lambda one: (float(field.likeness[one]), one))
    cell.places.remove(place)
    return place
