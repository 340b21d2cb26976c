"""The share of steps that add nothing to the question and the steps before them."""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.curation.scores.steps import ReasoningStep, read_steps
from slowthink.recipe import RedundancyScore


class StepRedundancy:
    """Number of steps without anything new, over all steps."""

    name, version, higher_is_better = "step-redundancy", 1, False

    def __init__(self, config: RedundancyScore) -> None:
        del config

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """The share, in [0, 1], and the number of steps; {} for a chain without steps."""
        return [_score(chain) for chain in chains]


MIN_CONTENT = 0.25
"""New facts (steps.py) below which a step adds nothing; a new word is a tenth of one."""


def _adds(step: ReasoningStep) -> bool:
    return step.content >= MIN_CONTENT or bool(step.recomputes)


def _score(chain: ChainText) -> Values:
    steps = read_steps(chain.problem.question, chain.thinking)
    if not steps:
        return {}
    num_redundant = sum(not _adds(step) for step in steps)
    return {
        "step-redundancy": round(num_redundant / len(steps), 6),
        "step-redundancy.steps": float(len(steps)),
    }
