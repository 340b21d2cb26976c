"""How well a scorer separates right chains from wrong ones: the area under the ROC curve (AUC).

Over all pairs of a right and a wrong text, which also rewards recognising hard problems; and over
pairs within a problem, which is what a search or a vote needs. One real record:
`auc_report([...])["auc"]` is 0.81 with `ci95` [0.74, 0.88].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

NUM_RESAMPLES = 1_000

Groups = Iterable[Sequence[tuple[float, bool]]]
"""For each problem, the score and label of its texts."""


class LabelledScore(NamedTuple):
    """The score of a text, and whether its chain is right."""

    problem_id: str
    score: float
    label: bool


def auc_report(items: Sequence[LabelledScore], *, seed: int = 0) -> dict[str, Any]:
    """Return both AUCs with 95 % bootstrap intervals over problems; None if there is no pair."""
    groups: dict[str, list[tuple[float, bool]]] = {}
    for item in items:
        groups.setdefault(item.problem_id, []).append((item.score, item.label))
    return {
        "n": len(items),
        "num_right": sum(item.label for item in items),
        "auc": _round(_pooled_auc(groups.values())),
        "ci95": _bootstrap_interval(groups, _pooled_auc, seed=seed),
        "auc_within_problem": _round(_auc_within_problem(groups.values())),
        "within_ci95": _bootstrap_interval(groups, _auc_within_problem, seed=seed),
        "num_pairs_within": sum(len(_pair_wins(group)) for group in groups.values()),
    }


def auc(scores: Sequence[float], labels: Iterable[bool]) -> float:
    """Probability that a right text has a higher score than a wrong one, ties counting half.

    Computed from ranks (Mann and Whitney 1947). NaN if all texts have the same label.
    """
    values, right = np.asarray(scores, dtype=float), np.asarray(list(labels), dtype=bool)
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    if not num_right or not num_wrong:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    wins = ranks[right].sum() - num_right * (num_right + 1) / 2
    return float(wins / (num_right * num_wrong))


def _pooled_auc(groups: Groups) -> float:
    texts = [text for group in groups for text in group]
    return auc([score for score, _ in texts], [label for _, label in texts])


def _auc_within_problem(groups: Groups) -> float:
    """AUC over pairs of the same problem."""
    wins = [win for group in groups for win in _pair_wins(group)]
    return float(np.mean(wins)) if wins else float("nan")


def _pair_wins(group: Sequence[tuple[float, bool]]) -> list[float]:
    """For each pair of a right and a wrong text: 1 if the right one scores higher, 0.5 if equal."""
    right = [score for score, label in group if label]
    wrong = [score for score, label in group if not label]
    return [float(a > b) + 0.5 * (a == b) for a, b in itertools.product(right, wrong)]


def _bootstrap_interval(
    groups: Mapping[str, Sequence[tuple[float, bool]]],
    measure: Callable[[Groups], float],
    *,
    seed: int,
) -> list[float | None]:
    rng = np.random.default_rng(seed)
    problems = list(groups.values())
    resampled = [
        measure([problems[i] for i in rng.integers(len(problems), size=len(problems))])
        for _ in range(NUM_RESAMPLES if problems else 0)
    ]
    finite = [value for value in resampled if not math.isnan(value)]
    if not finite:
        return [None, None]
    low, high = np.quantile(finite, [0.025, 0.975])
    return [_round(float(low)), _round(float(high))]


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
