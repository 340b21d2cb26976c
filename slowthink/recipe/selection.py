"""Settings of the select stage, which selects the training set.

select: {method: s1, preselect: s1, num_problems: 1000}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, model_validator

from slowthink.recipe.base import Settings


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

    by: Literal["domain", "source", "level"]
    """The property that defines the kind."""
    value: str
    """The kind: a domain, source or level as text; `*`: each kind separately."""
    min: int = Field(default=0, ge=0)
    """This many are selected first, by the method; fewer if the kind has fewer."""
    max: int | None = Field(default=None, ge=0)
    """Maximum number. null: no limit."""

    @model_validator(mode="after")
    def _check_limits(self) -> QuotaConfig:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"quota of {self.by} {self.value}: min is above max")
        return self


class SelectConfig(Settings):
    """Select the training set."""

    input: str | None = None
    """A file of traces, for a recipe without a trace stage."""
    method: Literal["s1", "limo-v1", "limo-v2", "random", "diverse", "longest", "full"] = "s1"
    """s1: uniform domain, within it weight 2^-rank of trace length. limo-v1: equally many of each
    domain and complexity, without similar ones. limo-v2: highest score. random: uniform. diverse:
    farthest first, by words and domain. longest: by thinking tokens. full: all."""
    num_problems: int | None = Field(default=1000, ge=1)
    """Size of the training set. null: all."""
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
    score: str = "quality"
    """For method limo-v2: name of the score."""
    num_bands: int = Field(default=4, ge=1)
    """For method limo-v1: bands of complexity, with equally many candidates each."""
    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """For method limo-v1: candidates at least this similar to a selected one, by their words
    without numbers, are skipped."""
    domain_weight: float = Field(default=0.25, ge=0, le=1)
    """For method diverse: added to the similarity of two problems of the same domain."""
    quotas: tuple[QuotaConfig, ...] = ()
    """Limits by domain, source or level, for any method."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """Maximum thinking and response tokens of the whole training set. null: no limit."""
    min_scores: dict[str, float] = Field(default_factory=dict)
    """Minimum score by name; traces with a lower one are skipped."""
    min_level: int | None = None
    """Minimum level; traces of a lower one are skipped. null: any level."""

    @model_validator(mode="after")
    def _check_weights(self) -> SelectConfig:
        weights = self.benchmark_domains
        if weights is not None and not any(weights.values()):
            raise ValueError("benchmark_domains: at least one weight must be above 0")
        return self
