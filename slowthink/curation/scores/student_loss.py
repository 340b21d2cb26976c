"""The student's mean surprisal over the assistant's turn, in nats a token; lower is more familiar.

It is the loss that training would start from. Its pass is that of `student-fit`.
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.curation.scores.student import measure_chains
from slowthink.recipe import StudentLossScore


class StudentLoss:
    """`student-loss`."""

    name, version, higher_is_better = "student-loss", 1, False

    def __init__(self, config: StudentLossScore) -> None:
        self.config = config

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """The value of each chain; none if it is longer than the student's context."""
        return [
            {} if sums is None else {"student-loss": sums.surprisal / sums.num_tokens}
            for sums in measure_chains(chains, self.config, context)
        ]
