"""Settings of the pool: where problems come from.

sources:
  - {kind: file, path: mine.jsonl, num_heldout: 100}
  - {kind: hub, hub_id: openai/gsm8k, hub_config: main, hub_split: train}
  - {kind: catalogue, name: numinamath-s1, max_problems: 5000}
  - {kind: reasoning-gym, tasks: {chain_sum: {options: {max_terms: 4}}}}
  - {kind: sandbox}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from slowthink.recipe.base import Settings


class DrawnSource(Settings):
    """Rows that somebody else wrote: how many are taken, and what for."""

    name: str | None = None
    """Source name in every row. None: the file's name without its ending, or the set's."""
    split: Literal["train", "heldout"] = "train"
    """What its problems are for."""
    num_heldout: int = Field(default=0, ge=0)
    """Of a train source: this many rows, drawn by seed, are held out for evaluation."""
    max_problems: int | None = Field(default=None, ge=1)
    """Take this many rows, drawn by seed. None: all, or the catalogue's own cap."""


class MappedSource(DrawnSource):
    """Rows whose columns the recipe names."""

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


class FileSource(MappedSource):
    """Problems from a JSONL, CSV or Parquet file."""

    kind: Literal["file"] = "file"
    path: str
    """The file; relative to the folder the command runs in."""


class HubSource(MappedSource):
    """Problems from a set on a hub."""

    kind: Literal["hub"] = "hub"
    hub_id: str
    """Of the set, e.g. openai/gsm8k."""
    hub_config: str | None = None
    """The set's configuration. None: its only one."""
    hub_split: str = "train"
    """The set's split."""
    revision: str | None = None
    """Commit, branch or tag. None: the newest; the one that is loaded is recorded."""
    site: Literal["huggingface", "modelscope"] = "huggingface"
    """Whose hub; HF_ENDPOINT names a mirror of the first."""
    mirror: str | None = None
    """A folder with a copy of the set (itself, or at HUB_ID in it), read instead. None: the hub."""


class CatalogueSource(DrawnSource):
    """A set that s1 or LIMO took problems from, with its columns, rules and cap."""

    kind: Literal["catalogue"] = "catalogue"
    name: str
    """Its name in the catalogue, and in every row."""
    variant: Literal["paper", "code"] = "paper"
    """Where a paper and its code have other rules: whose."""
    path: str | None = None
    """A file of the set's rows, or a folder with a copy of it. None: the hub."""
    revision: str | None = None
    """On the hub. None: the newest; the one that is loaded is recorded."""
    site: Literal["huggingface", "modelscope"] = "huggingface"
    """Whose hub."""


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


class GymTaskConfig(Settings):
    """One task of reasoning-gym."""

    options: dict[str, Any] = Field(default_factory=dict)
    """The task's own configuration. Empty: its defaults."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the problems, relative to the other tasks."""


class GymSource(Settings):
    """Procedural problems of the package reasoning-gym (extra `gym`), with exact answers."""

    kind: Literal["reasoning-gym"] = "reasoning-gym"
    tasks: dict[str, GymTaskConfig] = Field(default_factory=dict)
    """Which tasks, by name. Empty: all with one right answer that our graders can tell."""
    num_problems: int = Field(default=400, ge=0)
    """Problems for training."""
    num_heldout: int = Field(default=0, ge=0)
    """Problems for evaluation, disjoint from the others by normalised question."""

    @model_validator(mode="after")
    def _some(self) -> GymSource:
        if self.num_problems + self.num_heldout == 0:
            raise ValueError("num_problems and num_heldout are both 0; there would be no problem")
        return self


PoolSource = Annotated[
    FileSource | HubSource | CatalogueSource | SandboxSource | GymSource,
    Field(discriminator="kind"),
]


class PoolConfig(Settings):
    """Gather problems."""

    sources: tuple[PoolSource, ...] = Field(min_length=1)
    """Where problems come from, in order; of equal questions the first source's is kept, and in a
    source one with an answer."""
