"""Settings of the scores of chains, each with a name of its own, and of the levels cut from one.

trace:
  scores: [{kind: limo-v2}, {kind: student-fit, model: base}]
  levels: {score: limo-v2, num_levels: 5}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slowthink.errors import ConfigError, did_you_mean
from slowthink.recipe.base import EngineConfig, PromptedModelConfig, Settings


class LengthScore(Settings):
    """Number of thinking tokens."""

    kind: Literal["length"] = "length"
    parts: ClassVar[tuple[str, ...]] = ()
    """Values that the score has besides its own, named KIND.PART; so in all the others."""


class LimoWeights(Settings):
    """Weights of the parts; the defaults are published (arXiv 2502.03387v3)."""

    length: float = Field(default=0.30, ge=0)
    """Elaborated reasoning."""
    verification: float = Field(default=0.20, ge=0)
    """Self-verification."""
    exploration: float = Field(default=0.25, ge=0)
    """Exploratory approach."""
    granularity: float = Field(default=0.25, ge=0)
    """Adaptive granularity."""


class LimoV2Score(Settings):
    """LIMO v2's score: length, and rates of verifying, tentative and connective words.

    Published are the weights and six of the words; everything else is a reading of ours.
    """

    kind: Literal["limo-v2"] = "limo-v2"
    parts: ClassVar = tuple(LimoWeights.model_fields)
    weights: LimoWeights = LimoWeights()
    """Weights of the four parts."""
    length_unit: Literal["tokens", "words", "characters"] = "tokens"
    """Unit of length, and of the text that a rate is per. words: separated by white space, so
    useless for Chinese."""
    scale: Literal["rank", "min-max", "cap"] = "rank"
    """How length (thousands) and rates (thousandths) become comparable. rank: share of the chains
    that are below, which no outlier moves. cap: value over a cap, independent of other chains."""
    scope: Literal["pool", "problem"] = "pool"
    """Chains that are ranked together. pool: all, since the score also compares problems."""
    length_cap: float = Field(default=16_384, gt=0)
    """For `cap`: length at which the part is 1, in `length_unit` (LIMO's training cutoff)."""
    rate_cap: float = Field(default=0.02, gt=0)
    """For `cap`: words per unit of length at which a part is 1."""
    lexicon: str = "standard"
    """standard (English and Chinese, ours), published (the six words), or a YAML file."""
    match: Literal["words", "substring"] = "words"
    """words: whole words, and no 可能 in 不可能. substring: anywhere."""
    ignore_case: bool = True
    """Whether "Therefore" counts as "therefore"."""


class GuardedLimoScore(Settings):
    """LIMO v2's four aims by what a chain does: no word counts, and text that adds nothing lowers
    the score."""

    kind: Literal["limo-v2-guarded"] = "limo-v2-guarded"
    parts: ClassVar = (*LimoWeights.model_fields, "density")
    weights: LimoWeights = LimoWeights()
    """Weights of the four parts."""


class RedundancyScore(Settings):
    """Share of steps that add nothing to the question and the steps before; lower is better."""

    kind: Literal["step-redundancy"] = "step-redundancy"
    parts: ClassVar = ("steps",)


class ChecksScore(Settings):
    """Number of results that are found again in another way, or changed for good."""

    kind: Literal["effective-checks"] = "effective-checks"
    parts: ClassVar = ("announced", "share")


class StudentScore(Settings):
    """A score by what a model, the student, thinks of a chain's tokens before it is trained."""

    model: str = "base"
    """The student: base (the recipe's model), a folder, or a hub id."""
    revision: str | None = None
    """Revision of a hub model."""
    engine: EngineConfig | None = None
    """How transformers loads it, whatever the `kind`: dtype, device, max_context. null: as the
    recipe's engine."""


class StudentFitScore(StudentScore):
    """Rank-surprisal ratio (RSR, arXiv 2601.14249): a chain from which the student can learn has
    tokens that it finds improbable, but ranks high. Lower is better."""

    kind: Literal["student-fit"] = "student-fit"
    parts: ClassVar = ("rank", "surprisal")


class StudentLossScore(StudentScore):
    """Mean surprisal of the chain's tokens, in nats: the loss on its first training step."""

    kind: Literal["student-loss"] = "student-loss"
    parts: ClassVar = ()


class RubricScore(PromptedModelConfig):
    """Structure, scaffolding, verification and a level, each 1 to 5, by a model.

    LIMO v1's attributes (arXiv 2502.03387v1) in a rubric of ours: its levels came from people.
    """

    kind: Literal["rubric"] = "rubric"
    parts: ClassVar = ("structure", "scaffolding", "verification", "level")


ModelScore = StudentFitScore | StudentLossScore | RubricScore
"""Settings of the scores that are computed by a model."""
ScoreConfig = Annotated[
    LengthScore | LimoV2Score | GuardedLimoScore | RedundancyScore | ChecksScore | ModelScore,
    Field(discriminator="kind"),
]


class LevelsConfig(Settings):
    """Levels 1 (worst) to `num_levels`, from a score: LIMO v2's bands (arXiv 2502.03387v3)."""

    score: str = "limo-v2"
    """Name of a score, or of a part (rubric.level)."""
    num_levels: int = Field(default=5, ge=2, le=9)
    """Number of levels."""
    cut: Literal["equal", "value"] = "equal"
    """equal: bands with equally many chains. value: the score, rounded, is the level, for a score
    that is one (rubric.level)."""
    scope: Literal["pool", "problem"] = "pool"
    """For `equal`: chains that are divided together. pool: all (LIMO v2), so levels also differ in
    their problems. problem: each problem's chains."""


class PreferenceConfig(Settings):
    """Which of a problem's chains comes first. Ties: fewer tokens, then the chain's id."""

    by: str = "first"
    """first (in the order of sources), shortest, longest, mix (the longest for `long_share` of the
    problems, drawn by seed; the shortest for the others), or the name of a score."""
    long_share: float = Field(default=0.2, ge=0, le=1)
    """For `mix`: share of the problems whose longest chain comes first (arXiv 2502.12143: 1 to 4).
    """


ORDERS = ("first", "shortest", "longest", "mix")
"""Values of `PreferenceConfig.by` that name no score."""


def check_score_name(name: str, scores: Sequence[ScoreConfig], *, setting: str) -> None:
    """Raise ConfigError unless this is the name of a score of `trace.scores`, or of its part."""
    kinds: list[str] = [config.kind for config in scores]
    parts = [f"{config.kind}.{part}" for config in scores for part in config.parts]
    if name in (*kinds, *parts):
        return
    same_kind = [part for part in parts if part.startswith(name.split(".")[0] + ".")]
    known = ", ".join(same_kind or kinds) or "there are none"
    raise ConfigError(
        f"{setting}: names the score `{name}`; expected one of trace.scores ({known})"
        f"{did_you_mean(name, [*kinds, *parts])}. Add it to trace.scores, or name another: "
        f"--set {setting}=SCORE"
    )
