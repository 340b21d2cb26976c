"""Agreement of two methods on the same problems, and Cohen's kappa.

{"n": 812, "agreement": 0.61, "kappa": 0.57, "kappa_ci95": [0.54, 0.61], …}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from slowthink.analysis.statistics import wilson

NUM_RESAMPLES = 2_000
MAX_DISAGREEMENTS = 10
"""Number of disagreements listed, most frequent first."""


def measure_agreement(
    first: Sequence[str | None],
    second: Sequence[str | None],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement and kappa with 95 % intervals: Wilson's, and a percentile bootstrap over rows.

    Rows that only one or neither method labels are counted and left out. kappa is (p - e) / (1 - e)
    with p the agreement and e the agreement expected by chance from the class shares (Cohen 1960);
    None if e = 1 or no row is left. Raises ValueError if the lengths differ.
    """
    counts = Counter(
        (a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None
    )
    num_same = sum(n for (a, b), n in counts.items() if a == b)
    interval = wilson(num_same, counts.total())
    disagreements = sorted((-n, a, b) for (a, b), n in counts.items() if a != b)
    return {
        "n": counts.total(),
        "num_unlabelled": len(first) - counts.total(),
        "agreement": num_same / counts.total() if counts else None,
        "agreement_ci95": [interval.low, interval.high],
        **_kappa_with_interval(counts, num_resamples=num_resamples, seed=seed),
        "disagreements": [
            {"first": a, "second": b, "n": -negative_n}
            for negative_n, a, b in disagreements[:MAX_DISAGREEMENTS]
        ],
    }


def _kappa_with_interval(
    counts: Counter[tuple[str, str]], *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """kappa and its interval; P pairs of labels that occur, C classes. Row 0 of the R =
    num_resamples + 1 rows is the data, the others are resamples."""
    if not counts:
        return {"kappa": None, "kappa_ci95": None}
    pairs = sorted(counts)
    labels = sorted({label for pair in pairs for label in pair})
    first_PC, second_PC = (
        np.eye(len(labels))[[labels.index(label) for label in column]]
        for column in zip(*pairs, strict=True)
    )
    counts_P = np.array([counts[pair] for pair in pairs])
    is_same_P = np.array([a == b for a, b in pairs], dtype=float)
    total = counts.total()
    rng = np.random.default_rng(seed)
    resampled_RP = rng.multinomial(total, counts_P / total, size=num_resamples)
    shares_RP = np.vstack([counts_P, resampled_RP]) / total
    chance_R = ((shares_RP @ first_PC) * (shares_RP @ second_PC)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa_R = (shares_RP @ is_same_P - chance_R) / (1 - chance_R)
    resampled = kappa_R[1:][np.isfinite(kappa_R[1:])]
    if not np.isfinite(kappa_R[0]) or not len(resampled):
        return {"kappa": None, "kappa_ci95": None}
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"kappa": float(kappa_R[0]), "kappa_ci95": [float(low), float(high)]}
