"""Settings of the stage that chooses the training set.

select: {method: s1, preselect: s1, num_problems: 1000}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from slowthink.recipe.base import Settings


class PreselectRule(Settings):
    """Traces that are taken before anything is drawn."""

    sources: tuple[str, ...] = Field(min_length=1)
    """Names of sources, in any case; `*` stands for anything."""
    min_thinking_tokens: int = Field(default=0, ge=0)
    """Shorter chains are not taken."""
    correct: bool = True
    """Only chains that were graded correct."""


class QuotaConfig(Settings):
    """How many problems of one kind are chosen, at least and at most."""

    by: Literal["domain", "source", "level"]
    """What tells the kind."""
    value: str
    """Which kind: a domain, source or level as text; `*`: each kind for itself."""
    min: int = Field(default=0, ge=0)
    """Chosen first, by the method among these; fewer where there are no more."""
    max: int | None = Field(default=None, ge=0)
    """No more than these. null: no limit."""

    @model_validator(mode="after")
    def _order(self) -> QuotaConfig:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"quota of {self.by} {self.value}: min is above max")
        return self


class SelectConfig(Settings):
    """Choose the training set."""

    input: str | None = None
    """A file of traces, where the recipe has no trace stage."""
    method: Literal["s1", "limo-v1", "limo-v2", "random", "diverse", "longest", "full"] = "s1"
    """s1: uniform domain, within it weight 2^-rank of trace length. limo-v1: as many of each domain
    and complexity, none like another. limo-v2: highest score. random: uniform. diverse: farthest
    first, by words and domain. longest: by thinking tokens. full: all."""
    num_problems: int | None = Field(default=1000, ge=1)
    """Size of the training set. None: all."""
    mode: Literal["paper", "notebook"] = "paper"
    """Of method s1. paper: Algorithm 1. notebook: from `switch_at` on domains are drawn as often as
    they occur in benchmarks."""
    preselect: Literal["s1"] | tuple[PreselectRule, ...] | None = None
    """Taken first, for any method. s1: correct chains of GPQA and AIME, and of MATH with at least
    5,600 thinking tokens (notebook: more). null: none."""
    switch_at: int = Field(default=700, ge=0)
    """Of mode notebook: chosen problems from which on domains follow the benchmarks."""
    benchmark_domains: dict[str, float] | None = None
    """Of mode notebook: weight by domain. null: AIME's and GPQA's problems among the candidates,
    GPQA's scaled to half of AIME's, as s1's notebook does."""
    score: str = "quality"
    """Of method limo-v2: which of the traces' scores."""
    num_bands: int = Field(default=4, ge=1)
    """Of method limo-v1: bands of complexity, with equally many candidates each."""
    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """Of method limo-v1: candidates as like a chosen one by their words, numbers apart, are left.
    """
    domain_weight: float = Field(default=0.25, ge=0, le=1)
    """Of method diverse: what the same domain adds to the likeness of two problems."""
    quotas: tuple[QuotaConfig, ...] = ()
    """Limits by domain, source or level, for any method."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """Thinking and response tokens of the whole training set at most. null: no limit."""
    min_scores: dict[str, float] = Field(default_factory=dict)
    """Traces with a lower score of that name are left."""
    min_level: int | None = None
    """Traces of a lower level are left. null: any."""

    @model_validator(mode="after")
    def _benchmarks(self) -> SelectConfig:
        weights = self.benchmark_domains
        if weights is not None and (
            min(weights.values(), default=0) < 0 or not any(weights.values())
        ):
            raise ValueError("benchmark_domains: weights must be positive; none is")
        return self
