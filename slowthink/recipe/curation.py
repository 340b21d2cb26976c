"""Settings of the stages filter and trace."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from slowthink.recipe.base import Settings
from slowthink.recipe.contamination import ContaminationConfig
from slowthink.recipe.difficulty import DifficultyConfig
from slowthink.recipe.domains import DomainsConfig
from slowthink.recipe.duplicates import DuplicatesConfig
from slowthink.recipe.quality import QualityConfig


class FilterConfig(Settings):
    """Drop problems not worth learning from, each with its reason."""

    input: str | None = None
    """A file of problems, for a recipe without a pool stage."""
    quality: Literal["s1", "strict"] | QualityConfig | None = "s1"
    """Preset of quality rules, or `strict` with settings. null: off."""
    duplicates: Literal["exact"] | DuplicatesConfig | None = "exact"
    """exact: by normalised question; of equal ones, one with an answer stays. null: off."""
    contamination: ContaminationConfig | None = None
    """Drop problems that overlap the held-out problems or named sets. null: off."""
    domains: DomainsConfig | None = None
    """Assign a domain to each problem. null: off."""
    difficulty: DifficultyConfig | None = None
    """Keep problems in a band of pass rates. null: off."""


class SolutionTraces(Settings):
    """Chains that are the problems' own solutions."""

    kind: Literal["solution"] = "solution"
    teacher: str = "solution"
    """Name of the teacher in every trace."""


class FileTraces(Settings):
    """Chains from a file."""

    kind: Literal["file"] = "file"
    path: str
    """JSONL, JSON or Parquet."""
    rows: Literal[
        "auto", "slowthink", "s1k-1.1", "s1k", "chain", "limo", "sharegpt", "messages", "alpaca"
    ] = "auto"  # fmt: skip
    """The rows' form. auto: detected from their columns."""
    teacher: str | None = None
    """Name of the teacher. null: from the rows, else the file's name."""
    max_traces: int | None = Field(default=None, ge=1)
    """Use this many rows, sampled by seed. null: all."""


TraceSource = Annotated[SolutionTraces | FileTraces, Field(discriminator="kind")]


class TraceConfig(Settings):
    """Gather chains, grade them, and keep the correct ones, one per problem."""

    sources: tuple[TraceSource, ...] = (SolutionTraces(),)
    """Sources of chains, best first; of several correct chains for a problem the first is kept."""
    contamination: ContaminationConfig | None = None
    """Drop chains that contain a test problem (strict only). null: off."""
    ungraded: Literal["drop", "keep"] = "drop"
    """What happens to chains of problems without a usable reference answer."""

    @field_validator("contamination")
    @classmethod
    def _without_paraphrase(cls, config: ContaminationConfig | None) -> ContaminationConfig | None:
        if config is not None and config.paraphrase is not None:
            raise ValueError(
                "paraphrases are searched among questions, not in chains; "
                "set filter.contamination.paraphrase instead"
            )
        return config
