"""The length of the thinking."""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.recipe import LengthScore


class Length:
    """Number of thinking tokens, by the recipe's tokenizer."""

    name, version, higher_is_better = "length", 1, True

    def __init__(self, config: LengthScore) -> None:
        del config

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """The number of each chain."""
        return [{"length": float(chain.num_thinking_tokens)} for chain in chains]
