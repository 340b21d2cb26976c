"""Agreement of raters on an ordered scale: Krippendorff's alpha and quadratic-weighted kappa.

    krippendorff_alpha([(5, 4), (2, 2), (3, 1)])

1: full agreement; 0: as by chance; below 0: worse than by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def krippendorff_alpha(units: Iterable[Sequence[float]]) -> float | None:
    """Ordinal alpha of units with any number of ratings each; units with fewer than two are left
    out. None without two ratings of a unit, or if all ratings are equal.

    1 - D_o / D_e, with (the ratings between two values, half of those equal to either)^2 as the
    distance of two values (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).
    """
    rated = [unit for unit in units if len(unit) >= 2]
    values = sorted({value for unit in rated for value in unit})
    if len(values) < 2:
        return None
    counts_UV = np.array([[unit.count(value) for value in values] for unit in map(list, rated)])
    sizes_U = counts_UV.sum(axis=1)
    pairs_UVV = counts_UV[:, :, None] * counts_UV[:, None, :]
    pairs_UVV -= np.eye(len(values), dtype=int) * counts_UV[:, :, None]
    observed_VV = (pairs_UVV / (sizes_U - 1)[:, None, None]).sum(axis=0)
    counts_V = counts_UV.sum(axis=0)
    middles_V = np.cumsum(counts_V) - counts_V / 2
    distances_VV = (middles_V[:, None] - middles_V[None, :]) ** 2
    expected_VV = np.outer(counts_V, counts_V) / (counts_V.sum() - 1)
    return float(1 - (observed_VV * distances_VV).sum() / (expected_VV * distances_VV).sum())


def quadratic_kappa(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Cohen's kappa of paired ratings, weighted by the squared difference (Cohen 1968); None
    without ratings, or if all are equal. Raises ValueError if the lengths differ.

    1 - mean (a_i - b_i)^2 / mean (a_i - b_j)^2, the second over all i and j.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} ratings; expected as many")
    if not len(a):
        return None
    expected = float(np.var(a) + np.var(b) + (np.mean(a) - np.mean(b)) ** 2)
    observed = float(np.mean((np.asarray(a, dtype=float) - np.asarray(b, dtype=float)) ** 2))
    return 1 - observed / expected if expected else None
