"""LIMO v2's score of a chain: its length and the rates of three kinds of words, weighted.

    0.30 length + 0.20 verification + 0.25 exploration + 0.25 granularity     (arXiv 2502.03387v3)

The paper publishes the weights and six words, not the units, the scale, its scope or the word
lists: those are settings of `LimoV2Score`. Padding raises the length part, and sprinkled words
raise the other three; `limo-v2-guarded` is our answer to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from slowthink.analysis.statistics import average_ranks
from slowthink.curation.scores.lexicons import KINDS, load_lexicon
from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.recipe import LimoV2Score
from slowthink.records import group_by

Floats = npt.NDArray[np.float64]
PARTS = ("length", *KINDS)


class LimoV2:
    """The published score, by the settings' reading of it."""

    name, version, higher_is_better = "limo-v2", 1, True

    def __init__(self, config: LimoV2Score) -> None:
        self._config = config
        self._lexicon = load_lexicon(
            config.lexicon,
            whole_words=config.match == "words",
            ignore_case=config.ignore_case,
        )

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """Score and parts, each in [0, 1]; {} for a chain without thinking."""
        scored = [(index, chain) for index, chain in enumerate(chains) if chain.thinking.strip()]
        values: list[Values] = [{} for _ in chains]
        raw_NP = np.array([self._raw_parts(chain) for _, chain in scored]).reshape(-1, len(PARTS))
        scaled_NP = np.zeros_like(raw_NP)
        for rows in self._scopes([chain for _, chain in scored]):
            scaled_NP[rows] = self._scale(raw_NP[rows])
        weights = self._config.weights
        totals = scaled_NP @ np.array([getattr(weights, part) for part in PARTS])
        for (index, _), parts, total in zip(scored, scaled_NP, totals, strict=True):
            values[index] = {"limo-v2": round(float(total), 6)} | {
                f"limo-v2.{name}": round(float(part), 6)
                for name, part in zip(PARTS, parts, strict=True)
            }
        return values

    def _raw_parts(self, chain: ChainText) -> tuple[float, ...]:
        """Length, and words of each kind per unit of length."""
        length = max(1, LENGTHS[self._config.length_unit](chain))
        counts = self._lexicon.count(chain.thinking)
        return (float(length), *(counts[kind] / length for kind in KINDS))

    def _scopes(self, chains: Sequence[ChainText]) -> list[list[int]]:
        """Indices of the chains that are brought to a scale together."""
        if self._config.scope == "pool":
            return [list(range(len(chains)))]
        return list(group_by(range(len(chains)), lambda i: chains[i].problem.id).values())

    def _scale(self, raw_NP: Floats) -> Floats:
        """Each part brought to [0, 1]; 0.5 where all chains are equal, unless capped."""
        if self._config.scale == "cap":
            caps = np.array([self._config.length_cap] + [self._config.rate_cap] * len(KINDS))
            capped: Floats = np.minimum(1.0, raw_NP / caps)
            return capped
        if self._config.scale == "rank":
            ranks: Floats = np.column_stack([average_ranks(part) for part in raw_NP.T])
            return (ranks - 0.5) / max(1, len(raw_NP))
        low, high = raw_NP.min(axis=0), raw_NP.max(axis=0)
        scaled = (raw_NP - low) / np.where(high > low, high - low, 1.0)
        return np.where(high > low, scaled, 0.5)


LENGTHS: dict[str, Callable[[ChainText], int]] = {
    "tokens": lambda chain: chain.num_thinking_tokens,
    "words": lambda chain: len(chain.thinking.split()),
    "characters": lambda chain: len(chain.thinking),
}
"""Unit of length → length of a chain's thinking."""
