"""MinHash (Broder 1997): signatures whose share of equal values estimates Jaccard similarity.

64 minima per text, in 16 bands of 4: two texts are candidates if they agree in a whole band, which
has probability 1 - (1 - J^4)^16 (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets,
section 3.4): 0.9998 at J = 0.8, 0.989 at 0.7, 0.64 at 0.5, 0.12 at 0.3.

    band_hashes(ngram_hashes(hash_tokens(["What is 17 + 25?"]), 3)).shape == (1, 16)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.tokens import HashedBatch, Hashes

NUM_BANDS = 16
MINIMA_PER_BAND = 4
NO_NGRAMS = np.uint32(0xFFFFFFFF)
"""The minimum of a text without n-grams."""

_RANDOM_INTEGERS = np.random.Generator(np.random.PCG64(2501_19393)).integers(
    0, 2**32, size=(2, NUM_BANDS * MINIMA_PER_BAND), dtype=np.uint32
)
FACTORS = _RANDOM_INTEGERS[0] | np.uint32(1)
SHIFTS = _RANDOM_INTEGERS[1]
"""Each of the 64 permutations multiplies a hash by its factor and adds its shift."""


def signatures(ngrams: HashedBatch) -> NDArray[np.uint32]:
    """[num_texts, 64]: the minimum of each permutation over each text's n-grams."""
    starts = ngrams.offsets[:-1]
    non_empty = np.flatnonzero(ngrams.lengths > 0)
    minima = np.full((len(ngrams), len(FACTORS)), NO_NGRAMS, np.uint32)
    if not len(non_empty):
        return minima
    values = (ngrams.values >> np.uint64(32)).astype(np.uint32)
    for column, (factor, shift) in enumerate(zip(FACTORS, SHIFTS, strict=True)):
        permuted = values * factor + shift
        permuted ^= permuted >> np.uint32(15)
        permuted *= np.uint32(0x85EBCA6B)
        minima[non_empty, column] = np.minimum.reduceat(permuted, starts[non_empty])
    return minima


def band_hashes(ngrams: HashedBatch) -> Hashes:
    """[num_texts, 16]: a hash of each band's 4 minima."""
    minima = signatures(ngrams).reshape(len(ngrams), NUM_BANDS, MINIMA_PER_BAND).astype(np.uint64)
    hashes = np.zeros((len(ngrams), NUM_BANDS), np.uint64)
    for index in range(MINIMA_PER_BAND):
        hashes = (hashes ^ minima[:, :, index]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes
