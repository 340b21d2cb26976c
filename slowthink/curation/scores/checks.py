"""Checks that had an effect: a result is found again in another way, or is changed for good.

"60 - 18 = 42" counts once where 42 came from 6 * 7 and the question has 60 and 18; "Wait, let me
check. Yes, that is right." does not count, however often it is written, and neither does "6 * 7 =
43? No, 42". No word is needed, but to change the value of a variable, which also happens when it is
used for something else, a step nearby must call something wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.curation.scores.steps import ReasoningStep, read_steps
from slowthink.recipe import ChecksScore

REACH = 3
"""Steps, its own included, within which the effect of an announced check or correction lies."""


class EffectiveChecks:
    """Number of results that are found again in another way, or changed for good."""

    name, version, higher_is_better = "effective-checks", 1, True

    def __init__(self, config: ChecksScore) -> None:
        del config

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """The number, that of checks announced by a word (`.announced`), and the share of these
        with an effect (`.share`, if there are any); {} for a chain without steps."""
        return [_score(read_steps(chain.problem.question, chain.thinking)) for chain in chains]


def _score(steps: Sequence[ReasoningStep]) -> Values:
    if not steps:
        return {}
    effects = [_effects(steps, index) for index in range(len(steps))]
    announced = [index for index, step in enumerate(steps) if step.is_check]
    values = {
        "effective-checks": float(len(frozenset[str]().union(*effects))),
        "effective-checks.announced": float(len(announced)),
    }
    if announced:
        num_effective = sum(any(effects[index : index + REACH]) for index in announced)
        values["effective-checks.share"] = round(num_effective / len(announced), 6)
    return values


def _effects(steps: Sequence[ReasoningStep], index: int) -> frozenset[str]:
    """The results that a step finds again or changes."""
    step = steps[index]
    nearby = steps[max(0, index + 1 - REACH) : index + 1]
    is_correction = any(near.is_correction for near in nearby)
    return step.recomputes | {
        f"{left} =" for left in step.changes if is_correction or not re.search("[^\\W\\d]", left)
    }
