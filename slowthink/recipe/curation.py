"""Settings of the stages that make the training set: pool, filter, trace, select."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slowthink.recipe.base import Settings

# --- pool -----------------------------------------------------------------------------------------


class FileSource(Settings):
    """Problems from a JSONL, CSV or Parquet file."""

    kind: Literal["file"] = "file"
    path: str
    """The file; relative to the folder the command runs in."""
    name: str | None = None
    """Source name in every row. None: the file's name without its ending."""
    split: Literal["train", "heldout"] = "train"
    """What its problems are for."""
    num_heldout: int = Field(default=0, ge=0)
    """Of a train file: this many rows, drawn by seed, are held out for evaluation."""
    max_problems: int | None = Field(default=None, ge=1)
    """Take this many rows, drawn by seed. None: all."""
    question_field: str = "question"
    """Column of the question."""
    answer_field: str | None = "answer"
    """Column of the answer; where it is absent or empty, the solution's last box is taken (marked
    derived)."""
    solution_field: str | None = "solution"
    """Column of the worked solution."""
    choices_field: str | None = None
    """Column of the answer options."""
    domain_field: str | None = None
    """Column of the domain."""
    licence: str | None = None
    """Licence of every row."""
    language: str = "en"
    """Language of every row."""


class FamilyConfig(Settings):
    """One family of the sandbox."""

    difficulty: tuple[int, int] = (1, 3)
    """Lowest and highest difficulty drawn, from 1."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the problems, relative to the other families."""

    @model_validator(mode="after")
    def _range(self) -> FamilyConfig:
        if not 1 <= self.difficulty[0] <= self.difficulty[1]:
            raise ValueError("difficulty is [lowest, highest] with 1 <= lowest <= highest")
        return self


class SandboxSource(Settings):
    """Procedural problems with exact answers and worked chains of thought."""

    kind: Literal["sandbox"] = "sandbox"
    families: dict[str, FamilyConfig] = Field(default_factory=dict)
    """Which families, by name. Empty: all, at their default difficulty."""
    num_problems: int = Field(default=400, ge=0)
    """Problems for training."""
    num_heldout: int = Field(default=200, ge=0)
    """Problems for evaluation, disjoint from the others by parameters and by normalised question.
    """
    check_share: float = Field(default=0.25, ge=0, le=1)
    """Share of chains with a check that finds nothing wrong."""
    correct_share: float = Field(default=0.1, ge=0, le=1)
    """Share of chains with a slip that a check finds and the chain corrects."""

    @model_validator(mode="after")
    def _shares(self) -> SandboxSource:
        if self.check_share + self.correct_share > 1:
            raise ValueError("check_share and correct_share are above 1 together")
        if self.num_problems + self.num_heldout == 0:
            raise ValueError("num_problems and num_heldout are both 0; the sandbox would be empty")
        return self


PoolSource = Annotated[FileSource | SandboxSource, Field(discriminator="kind")]


class PoolConfig(Settings):
    """Gather problems."""

    sources: tuple[PoolSource, ...] = Field(min_length=1)
    """Where problems come from, in order; of equal questions the first is kept."""


# --- filter, trace, select ------------------------------------------------------------------------


class DifficultyConfig(Settings):
    """Keep the problems that a model solves rarely enough."""

    num_attempts: int = Field(default=2, ge=1)
    """Samples per problem."""
    max_problems: int | None = Field(default=150, ge=1)
    """Problems tried, drawn by seed; the rest pass untested and are counted. None: all."""
    min_pass_rate: float = Field(default=0.0, ge=0, le=1)
    """Problems solved less often are dropped, in [0, 1]."""
    max_pass_rate: float = Field(default=0.5, ge=0, le=1)
    """Problems solved more often are dropped, in [0, 1]."""
    max_thinking_tokens: int = Field(default=32, ge=0)
    """Cap of an attempt's thinking, after which the answer is forced."""
    answer_tokens: int = Field(default=12, ge=1)
    """Limit of an attempt's answer."""
    temperature: float = Field(default=0.7, ge=0)
    """Of the attempts' sampling."""

    @model_validator(mode="after")
    def _band(self) -> DifficultyConfig:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError("min_pass_rate is above max_pass_rate; no problem could be kept")
        return self


class FilterConfig(Settings):
    """Drop what is not worth learning from, each with its reason."""

    input: str | None = None
    """A file of problems, where the recipe has no pool stage."""
    quality: Literal["s1"] | None = "s1"
    """Preset of quality rules. null: off."""
    duplicates: Literal["exact"] | None = "exact"
    """exact: by normalised question. null: off."""
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
    ungraded: Literal["drop", "keep"] = "drop"
    """What happens to chains of problems without a usable key."""


class SelectConfig(Settings):
    """Choose the training set."""

    input: str | None = None
    """A file of traces, where the recipe has no trace stage."""
    method: Literal["s1", "random", "full"] = "s1"
    """s1: uniform domain, within it weight 2^-rank of trace length. random: uniform. full: all."""
    num_problems: int | None = Field(default=1000, ge=1)
    """Size of the training set. None: all."""
