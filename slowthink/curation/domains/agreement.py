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
MAX_SHOWN = 10
"""Maximum number of the most frequent disagreements that are listed."""


def agreement(
    left: Sequence[str | None],
    right: Sequence[str | None],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement (Wilson's interval) and kappa (percentile bootstrap over rows) at 95 %.

    Rows without a label from both methods are counted and left out. kappa is (p - e) / (1 - e) with
    p the agreement and e the agreement expected by chance from the class shares (Cohen 1960); None
    if e = 1 or no row is left. Raises ValueError if the lengths differ.
    """
    pairs = Counter(
        (a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None
    )
    total, same = sum(pairs.values()), sum(n for (a, b), n in pairs.items() if a == b)
    interval = wilson(same, total)
    different = sorted(((n, a, b) for (a, b), n in pairs.items() if a != b), key=_most_first)
    return {
        "n": total,
        "num_unlabelled": len(left) - total,
        "agreement": same / total if total else None,
        "agreement_ci95": [interval.low, interval.high],
        **_kappas(pairs, num_resamples=num_resamples, seed=seed),
        "disagreements": [{"first": a, "second": b, "n": n} for n, a, b in different[:MAX_SHOWN]],
    }


def _most_first(entry: tuple[int, str, str]) -> tuple[int, str, str]:
    return (-entry[0], entry[1], entry[2])


def _kappas(pairs: Counter[tuple[str, str]], *, num_resamples: int, seed: int) -> dict[str, Any]:
    """kappa and its interval; R resamples, P pairs of labels that occur, C classes."""
    if not pairs:
        return {"kappa": None, "kappa_ci95": None}
    cells = sorted(pairs)
    classes = {
        code: index for index, code in enumerate(sorted({c for cell in cells for c in cell}))
    }
    left_PC, right_PC = (
        np.eye(len(classes))[[classes[cell[side]] for cell in cells]] for side in (0, 1)
    )
    counts_P = np.array([pairs[cell] for cell in cells])
    same_P = np.array([a == b for a, b in cells], dtype=float)
    total = int(counts_P.sum())
    random = np.random.default_rng(seed)
    drawn_RP = random.multinomial(total, counts_P / total, size=num_resamples)
    shares_RP = np.vstack([counts_P, drawn_RP]) / total
    chance_R = ((shares_RP @ left_PC) * (shares_RP @ right_PC)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa_R = (shares_RP @ same_P - chance_R) / (1 - chance_R)
    known = kappa_R[1:][np.isfinite(kappa_R[1:])]
    if not np.isfinite(kappa_R[0]) or not len(known):
        return {"kappa": None, "kappa_ci95": None}
    low, high = np.percentile(known, [2.5, 97.5])
    return {"kappa": float(kappa_R[0]), "kappa_ci95": [float(low), float(high)]}
