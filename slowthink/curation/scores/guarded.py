"""LIMO v2's four aims by what a chain does instead of the words it uses.

Words are cheap, so none is looked for. The parts, each in [0, 1):

- length: the number of new facts N, saturating: N / (N + 100)
- verification: earlier values that another expression of known values gives again, each once
- exploration: the share of the chain's tenths in which something new comes in, times length
- granularity: new facts per word in steps that build on a value found before

Their weighted sum is multiplied by density ** 0.75, where density is the number of new facts per
word. So text that is added pays only if it holds about as many new facts per word as the rest.
A chain's values are far below 1: compare them, or cut levels from them.
"""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.curation.scores.steps import ReasoningStep, read_steps
from slowthink.recipe import GuardedLimoScore

HALF_LENGTH = 100
"""Number of new facts at which the length part is 1/2."""
HALF_CHECKS = 2
"""Values found again at which the verification part is 1/2."""
DENSITY_POWER = 0.75
"""1 would rank a solution in bare equations above the same one explained; at 1/2 padding that holds
a third as much as the rest would pay in a short chain."""
NUM_PARTS = 10
"""Parts of a chain in which new content is looked for."""


class GuardedLimo:
    """LIMO v2's aims, measured so that repetition, padding and sprinkled words do not pay."""

    name, version, higher_is_better = "limo-v2-guarded", 1, True

    def __init__(self, config: GuardedLimoScore) -> None:
        self._weights = config.weights

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """Score and parts; {} for a chain without words or values."""
        return [self._score(read_steps(chain.problem.question, chain.thinking)) for chain in chains]

    def _score(self, steps: Sequence[ReasoningStep]) -> Values:
        if not steps:
            return {}
        size = sum(step.size for step in steps)
        content = sum(step.content for step in steps)
        density = content / size
        parts = {
            "length": _saturating(content, HALF_LENGTH),
            "verification": _saturating(_num_recomputed(steps), HALF_CHECKS),
            "exploration": _spread(steps, size) * _saturating(content, HALF_LENGTH),
            "granularity": sum(s.content for s in steps if s.builds) / size,
        }
        total = density**DENSITY_POWER * sum(
            getattr(self._weights, name) * part for name, part in parts.items()
        )
        named = {f"limo-v2-guarded.{name}": round(part, 6) for name, part in parts.items()}
        return {
            "limo-v2-guarded": round(total, 6),
            **named,
            "limo-v2-guarded.density": round(density, 6),
        }


def _saturating(value: float, half: float) -> float:
    """0 at 0, 1/2 at `half`, towards 1."""
    return value / (value + half)


def _num_recomputed(steps: Sequence[ReasoningStep]) -> int:
    return len(frozenset[str]().union(*(step.recomputes for step in steps)))


def _spread(steps: Sequence[ReasoningStep], size: float) -> float:
    """Share of the chain's tenths with new facts; a tenth counts fully with one per five words."""
    content, position = [0.0] * NUM_PARTS, 0.0
    for step in steps:
        part = min(NUM_PARTS - 1, int((position + step.size / 2) * NUM_PARTS / size))
        content[part] += step.content
        position += step.size
    return sum(min(1.0, 5 * part * NUM_PARTS / size) for part in content) / NUM_PARTS
