"""Settings of the select stage, which selects the training set.

select: {method: s1, preselect: s1, num_problems: 1000}
select: {method: limo-v2, score: student-fit, num_problems: 800, chains_per_problem: 2}

A problem may have several chains. Filters drop chains; `prefer` orders those that are left, and the
first stands for its problem: its length, domain, level and scores decide whether the problem is
chosen. A chosen problem brings its first chains.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from slowthink.recipe.base import Settings
from slowthink.recipe.scores import PreferenceConfig


class PreselectRule(Settings):
    """Rule for traces that are selected before the method runs."""

    sources: tuple[str, ...] = Field(min_length=1)
    """Names of sources, case-insensitive; `*` matches any text."""
    min_thinking_tokens: int = Field(default=0, ge=0)
    """Minimum number of thinking tokens."""
    correct: bool = True
    """Only correct chains."""


class QuotaConfig(Settings):
    """Minimum and maximum number of selected problems of one kind."""

    by: Literal["domain", "source", "level", "teacher", "score"]
    """The property that defines the kind."""
    value: str
    """The kind: a domain, source, level, teacher or band of the score as text; `*`: each kind
    separately."""
    score: str | None = None
    """With `by: score`: name of the score."""
    bands: int = Field(default=4, ge=2)
    """With `by: score`: bands with equally many problems each; 1 has the lowest scores."""
    min: int = Field(default=0, ge=0)
    """This many are selected first, by the method; fewer if the kind has fewer."""
    max: int | None = Field(default=None, ge=0)
    """Maximum number. null: no limit."""

    @model_validator(mode="after")
    def _check_limits(self) -> QuotaConfig:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"quota of {self.by} {self.value}: min is above max")
        if (self.by == "score") != (self.score is not None):
            raise ValueError("quota: `by: score` and the name of a score belong together")
        return self


class SelectConfig(Settings):
    """Select the training set."""

    input: str | None = None
    """A file of traces, for a recipe without a trace stage."""
    method: Literal["s1", "limo-v1", "limo-v2", "random", "diverse", "longest", "full"] = "s1"
    """s1: uniform domain, within it weight 2^-rank of trace length. limo-v1: equally many of each
    domain and complexity, without similar ones. limo-v2: best score. random: uniform. diverse:
    farthest first, by words and domain. longest: by thinking tokens. full: all."""
    num_problems: int | None = Field(default=1000, ge=1)
    """Number of problems. null: all."""
    num_chains: int | None = Field(default=None, ge=1)
    """Maximum number of chains of all problems. null: no limit."""
    chains_per_problem: int | None = Field(default=None, ge=1)
    """Maximum number of chains of a problem, in the order of `prefer`. null: all."""
    prefer: PreferenceConfig = PreferenceConfig()
    """Order of a problem's chains. first: as in the table, where `trace.prefer` put them."""
    mode: Literal["paper", "notebook"] = "paper"
    """For method s1. paper: Algorithm 1. notebook: from `switch_at` on, domains are sampled as
    often as they occur in benchmarks."""
    preselect: Literal["s1"] | tuple[PreselectRule, ...] | None = None
    """Traces that every method selects first. s1: correct chains of GPQA and AIME, and of MATH with
    at least 5,600 thinking tokens (notebook: more). null: none."""
    switch_at: int = Field(default=700, ge=0)
    """For mode notebook: number of selected problems after which domains follow the benchmarks."""
    benchmark_domains: dict[str, NonNegativeFloat] | None = None
    """For mode notebook: weight by domain. null: AIME's and GPQA's problems among the candidates,
    GPQA's scaled to half of AIME's, as in s1's notebook."""
    score: str = "limo-v2"
    """For method limo-v2: name of the score, or of its part NAME.PART. The lowest come first if low
    values of it are good, as of student-fit. Chains without it are skipped."""
    num_bands: int = Field(default=4, ge=1)
    """For method limo-v1: bands of complexity, with equally many candidates each."""
    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """For method limo-v1: candidates at least this similar to a selected one, by their words
    without numbers, are skipped."""
    domain_weight: float = Field(default=0.25, ge=0, le=1)
    """For method diverse: added to the similarity of two problems of the same domain."""
    quotas: tuple[QuotaConfig, ...] = ()
    """Limits by domain, source, level, teacher or score, for any method. They count problems."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """Maximum thinking and response tokens of the whole training set. null: no limit."""
    min_scores: dict[str, float] = Field(default_factory=dict)
    """Minimum score by name; chains with a lower one are skipped."""
    max_scores: dict[str, float] = Field(default_factory=dict)
    """Maximum score by name; chains with a higher one are skipped."""
    min_level: int | None = None
    """Minimum level; chains of a lower one are skipped. null: any level."""
    levels: tuple[int, ...] | None = None
    """Chains of other levels are skipped. null: any level."""
    review: str | None = "auto"
    """Judgements of people, a `review.sqlite` or an export of it: the median of their levels (the
    lower of two) replaces a chain's level, and a chain that at least half of them call bad is
    dropped. auto: the run's own, if there are any (`slowthink review RUN`). null: none."""

    @model_validator(mode="before")
    @classmethod
    def _drop_unused_score(cls, data: Any) -> Any:
        """Forget the former default of `score` where no method reads it, so that a stage selected
        before counts as selected with the settings of today."""
        if isinstance(data, dict) and data.get("method") != "limo-v2":
            return {k: v for k, v in data.items() if (k, v) != ("score", "quality")}
        return data

    @model_validator(mode="after")
    def _check_weights(self) -> SelectConfig:
        weights = self.benchmark_domains
        if weights is not None and not any(weights.values()):
            raise ValueError("benchmark_domains: at least one weight must be above 0")
        return self
