"""Settings of the stages that make chains of the pool: filter, trace."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from slowthink.recipe.base import Settings
from slowthink.recipe.contamination import ContaminationConfig
from slowthink.recipe.difficulty import DifficultyConfig
from slowthink.recipe.domains import DomainsConfig
from slowthink.recipe.duplicates import DuplicatesConfig
from slowthink.recipe.quality import QualityConfig

# --- filter, trace --------------------------------------------------------------------------------


class FilterConfig(Settings):
    """Drop what is not worth learning from, each with its reason."""

    input: str | None = None
    """A file of problems, where the recipe has no pool stage."""
    quality: Literal["s1", "strict"] | QualityConfig | None = "s1"
    """Preset of quality rules, or `strict` with settings. null: off."""
    duplicates: Literal["exact"] | DuplicatesConfig | None = "exact"
    """exact: by normalised question, one with an answer stays. null: off."""
    contamination: ContaminationConfig | None = None
    """Against the pool's held-out problems and named sets. null: off."""
    domains: DomainsConfig | None = None
    """Say which field each problem belongs to. null: off."""
    difficulty: DifficultyConfig | None = None
    """null: off."""


class SolutionTraces(Settings):
    """Each problem's own solution is its chain."""

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
    """The rows' form. auto: told from their columns."""
    teacher: str | None = None
    """Name of the teacher. None: what the rows say, else the file's name."""
    max_traces: int | None = Field(default=None, ge=1)
    """Take this many rows, drawn by seed. None: all."""


TraceSource = Annotated[SolutionTraces | FileTraces, Field(discriminator="kind")]


class TraceConfig(Settings):
    """Import or take chains; grade them; keep the right ones, one per problem."""

    sources: tuple[TraceSource, ...] = (SolutionTraces(),)
    """Where chains come from, best first; of several right chains for a problem the first is kept.
    """
    contamination: ContaminationConfig | None = None
    """Chains that hold a problem that is tested on are dropped (strict only). null: off."""
    ungraded: Literal["drop", "keep"] = "drop"
    """What happens to chains of problems without a usable key."""

    @field_validator("contamination")
    @classmethod
    def _by_runs_only(cls, config: ContaminationConfig | None) -> ContaminationConfig | None:
        if config is not None and config.paraphrase is not None:
            raise ValueError(
                "paraphrases are looked for among questions, not in chains; "
                "set filter.contamination.paraphrase instead"
            )
        return config
