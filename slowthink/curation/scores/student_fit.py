"""Rank-surprisal ratio (RSR): how well a chain suits this student; lower is better.

    fit = Σ min(rank, 100) / Σ surprisal        over the tokens of the assistant's turn

(Yang et al. 2026, arXiv 2601.14249: over 5 students and 11 teachers, Spearman 0.86 with what the
trained students scored.) The rank, from 1, is among the vocabulary by the student's own logits, the
surprisal is -log p in nats. So improbable tokens that the student ranks high give a low value.

A teacher's value is the mean of its chains' mean ranks over the mean of their mean surprisals, from
200 chains (the paper's appendix A.8), not a mean of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.curation.scores.student import measure_chains
from slowthink.recipe import StudentFitScore
from slowthink.records import group_by, item_seed

TEACHER_CHAINS = 200
"""Chains by which a teacher is judged: the paper finds the order of teachers stable from here."""
MIN_SURPRISAL = 1e-12
"""Against division by zero, for a chain that the student is sure of (the paper's code)."""


class StudentFit:
    """`student-fit`, and its parts `.rank` and `.surprisal`, which are means per token."""

    name, version, higher_is_better = "student-fit", 1, False

    def __init__(self, config: StudentFitScore) -> None:
        self.config = config

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """The values of each chain; none if it is longer than the student's context."""
        values: list[Values] = []
        for sums in measure_chains(chains, self.config, context):
            if sums is None:
                values.append({})
                continue
            rank, surprisal = sums.rank / sums.num_tokens, sums.surprisal / sums.num_tokens
            fit = rank / max(surprisal, MIN_SURPRISAL)
            parts = {"student-fit.rank": rank, "student-fit.surprisal": surprisal}
            values.append({"student-fit": fit} | parts)
        return values


def teacher_fits(
    chains: Iterable[tuple[str, str, Mapping[str, float]]], *, seed: int
) -> dict[str, dict[str, Any]]:
    """The value of each teacher, best first, from its name and each chain's id and values.

    {"r1": {"fit": 3.91, "ci95": [3.87, 3.95], "rank": 3.05, "surprisal": 0.78, "num_chains": 200}}
    """
    scored = [chain for chain in chains if "student-fit" in chain[2]]
    fits = {
        teacher: _teacher_fit(
            sorted(same, key=lambda chain: (item_seed(seed, "teacher fit", chain[1]), chain[1]))
        )
        for teacher, same in group_by(scored, lambda chain: chain[0]).items()
    }
    return dict(sorted(fits.items(), key=lambda item: (item[1]["fit"], item[0])))


def _teacher_fit(chains: Sequence[tuple[str, str, Mapping[str, float]]]) -> dict[str, Any]:
    """Ratio of the means over the first chains, with an interval by the delta method."""
    sample = [values for _, _, values in chains[:TEACHER_CHAINS]]
    ranks = np.array([values["student-fit.rank"] for values in sample])
    surprisals = np.array([values["student-fit.surprisal"] for values in sample])
    rank, surprisal = float(ranks.mean()), max(float(surprisals.mean()), MIN_SURPRISAL)
    fit, interval = rank / surprisal, None
    if len(sample) > 1:
        error = float((ranks - fit * surprisals).std(ddof=1)) / surprisal / math.sqrt(len(sample))
        interval = [round(fit - 1.96 * error, 4), round(fit + 1.96 * error, 4)]
    return {
        "fit": round(fit, 4), "ci95": interval, "rank": round(rank, 4),
        "surprisal": round(surprisal, 4), "num_chains": len(sample),
    }  # fmt: skip
