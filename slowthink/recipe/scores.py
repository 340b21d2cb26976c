"""Settings of the scores of chains, each with a name of its own, and of the levels cut from one.

trace:
  scores: [{kind: limo-v2}, {kind: student-fit, model: base}]
  levels: {score: limo-v2, num_levels: 5}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slowthink.recipe.base import Settings


class LengthScore(Settings):
    """Number of thinking tokens."""

    kind: Literal["length"] = "length"


ScoreConfig = Annotated[LengthScore, Field(discriminator="kind")]


class LevelsConfig(Settings):
    """Levels 1 (lowest) to `num_levels`, cut from a score: LIMO v2's bands (arXiv 2502.03387v3)."""

    score: str = "limo-v2"
    """Name of the score."""
    num_levels: int = Field(default=5, ge=2, le=9)
    """Number of levels, each with equally many chains."""


class PreferenceConfig(Settings):
    """Which of a problem's chains comes first. Ties: fewer tokens, then the chain's id."""

    by: str = "first"
    """first (in the order of sources), shortest, longest, mix (the longest for `long_share` of the
    problems, drawn by seed; the shortest for the others), or the name of a score."""
    long_share: float = Field(default=0.2, ge=0, le=1)
    """For `mix`: share of the problems whose longest chain comes first (arXiv 2502.12143: 1 to 4).
    """
