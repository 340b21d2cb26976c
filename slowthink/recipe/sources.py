"""Settings of the pool stage: the sources of problems.

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


class SampledSource(Settings):
    """A source of existing rows, of which some may be sampled or held out."""

    name: str | None = None
    """Source name in every row. null: the file's name without its suffix, or the dataset's."""
    split: Literal["train", "heldout"] = "train"
    """Whether its problems are for training or held out for evaluation."""
    num_heldout: int = Field(default=0, ge=0)
    """For a train source: number of rows, sampled by seed, that are held out for evaluation."""
    max_problems: int | None = Field(default=None, ge=1)
    """Use this many rows, sampled by seed. null: all, or the published dataset's limit."""


class MappedSource(SampledSource):
    """A source whose columns the recipe names."""

    question_field: str = "question"
    """Column of the question. If no column has the default name of this or of the next two, a usual
    one (problem, 题目, final_answer, 答案, rationale, 解析, …) is guessed and reported."""
    answer_field: str | None = "answer"
    """Column of the answer. If it is absent or empty, the last boxed answer of the solution is used
    and marked as derived."""
    solution_field: str | None = "solution"
    """Column of the worked solution."""
    choices_field: str | None = None
    """Column of the answer options."""
    domain_field: str | None = None
    """Column of the domain."""
    licence: str | None = None
    """Licence of every row."""
    language: str = "en"
    """Language of rows that state none in `language` or `meta`; en: unless their script shows
    another (zh, ja, ko, ru, ar)."""


class FileSource(MappedSource):
    """Problems from a JSONL, CSV or Parquet file."""

    kind: Literal["file"] = "file"
    path: str
    """Path of the file, relative to the current folder."""


class HubSource(MappedSource):
    """Problems from a dataset on a hub."""

    kind: Literal["hub"] = "hub"
    hub_id: str
    """Id of the dataset, e.g. openai/gsm8k."""
    hub_config: str | None = None
    """Configuration of the dataset. null: its only one."""
    hub_split: str = "train"
    """Split of the dataset."""
    revision: str | None = None
    """Commit, branch or tag. null: the newest; the loaded one is recorded."""
    site: Literal["huggingface", "modelscope"] = "huggingface"
    """The hub; HF_ENDPOINT names a mirror of Hugging Face."""
    mirror: str | None = None
    """A folder with a copy (at its top, or in HUB_ID), read instead. null: the hub."""


class CatalogueSource(SampledSource):
    """A published dataset that s1 or LIMO used, with its columns, rules and limit."""

    kind: Literal["catalogue"] = "catalogue"
    name: str
    """Name of the dataset in the registry, and in every row."""
    variant: Literal["paper", "code"] = "paper"
    """Which rules apply if a paper and its code differ."""
    path: str | None = None
    """A file of its rows, or a folder with a copy of it. null: the hub."""
    revision: str | None = None
    """Revision on the hub. null: the newest; the loaded one is recorded."""
    site: Literal["huggingface", "modelscope"] = "huggingface"
    """The hub."""


class FamilyConfig(Settings):
    """One family of procedural problems."""

    difficulty: tuple[int, int] = (1, 3)
    """Lowest and highest difficulty, from 1."""
    weight: float = Field(default=1.0, gt=0)
    """Share of the problems, relative to the other families."""

    @model_validator(mode="after")
    def _check_range(self) -> FamilyConfig:
        if not 1 <= self.difficulty[0] <= self.difficulty[1]:
            raise ValueError("difficulty is [lowest, highest] with 1 <= lowest <= highest")
        return self


class SandboxSource(Settings):
    """Procedural problems with exact answers and worked chains of thought."""

    kind: Literal["sandbox"] = "sandbox"
    families: dict[str, FamilyConfig] = Field(default_factory=dict)
    """Families by name. Empty: all, at their default difficulty."""
    num_problems: int = Field(default=400, ge=0)
    """Number of training problems."""
    num_heldout: int = Field(default=200, ge=0)
    """Number of held-out problems, disjoint from the others by parameters and normalised question.
    """
    check_share: float = Field(default=0.25, ge=0, le=1)
    """Share of chains that check their result and confirm it."""
    correct_share: float = Field(default=0.1, ge=0, le=1)
    """Share of chains that make a mistake, find it by a check and correct it."""

    @model_validator(mode="after")
    def _check_shares(self) -> SandboxSource:
        if self.check_share + self.correct_share > 1:
            raise ValueError("check_share and correct_share are above 1 together")
        if self.num_problems + self.num_heldout == 0:
            raise ValueError("num_problems and num_heldout are both 0; the source would be empty")
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
    """Tasks by name. Empty: all tasks with a single correct answer that slowthink can grade."""
    num_problems: int = Field(default=400, ge=0)
    """Number of training problems."""
    num_heldout: int = Field(default=0, ge=0)
    """Number of held-out problems, disjoint from the others by normalised question."""

    @model_validator(mode="after")
    def _check_size(self) -> GymSource:
        if self.num_problems + self.num_heldout == 0:
            raise ValueError("num_problems and num_heldout are both 0; the source would be empty")
        return self


PoolSource = Annotated[
    FileSource | HubSource | CatalogueSource | SandboxSource | GymSource,
    Field(discriminator="kind"),
]


class PoolConfig(Settings):
    """Gather problems."""

    sources: tuple[PoolSource, ...] = Field(min_length=1)
    """Sources in order; of equal questions the first source's is kept, and within a source one with
    an answer."""
