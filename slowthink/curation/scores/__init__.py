"""Scores of chains: numbers by which chains are compared, assigned levels and selected.

A score has a name, a version that changes with its values, and settings. It may also give named
parts. A chain that it cannot score is left out.

    SCORES["length"](LengthScore()).score(chains, context)  # [{"length": 812.0}, …]

A new score is one file here, one class of settings in `recipe.scores`, and one line in `SCORES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slowthink.curation.scores.checks import EffectiveChecks
from slowthink.curation.scores.guarded import GuardedLimo
from slowthink.curation.scores.length import Length
from slowthink.curation.scores.limo_v2 import LimoV2
from slowthink.curation.scores.redundancy import StepRedundancy
from slowthink.curation.scores.rubric import Rubric
from slowthink.curation.scores.score import ChainScore
from slowthink.curation.scores.student_fit import StudentFit
from slowthink.curation.scores.student_loss import StudentLoss

SCORES: dict[str, Callable[[Any], ChainScore]] = {
    "length": Length,
    "limo-v2": LimoV2,
    "limo-v2-guarded": GuardedLimo,
    "step-redundancy": StepRedundancy,
    "effective-checks": EffectiveChecks,
    "student-fit": StudentFit,
    "student-loss": StudentLoss,
    "rubric": Rubric,
}
"""By the kind of the settings: makes the score from them."""
