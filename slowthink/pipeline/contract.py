"""The interface of a stage: what it reads, what it returns, and which settings decide its output.

A stage is a package `slowthink.stages.NAME` with `STAGE_VERSION`, `run(context)`, which returns a
StageResult, and `plan(recipe)`, which estimates rows and tokens without reading more than files.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from slowthink.data.manifests import read_manifest as read_manifest
from slowthink.data.tables import read_records
from slowthink.errors import ConfigError
from slowthink.recipe import Recipe, StudentScore
from slowthink.recipe.models import model_loading_settings
from slowthink.records import Dropped
from slowthink.sampling.ledger import Ledger

R = TypeVar("R")

SHARED_SETTINGS: dict[str, tuple[str, ...]] = {
    "pool": ("seed",),
    "filter": ("seed", "model", "revision", "engine", "formats"),
    "trace": ("seed", "model", "revision"),
    "select": ("seed",),
    "train": ("seed", "model", "revision", "chat", "formats"),
    "evaluate": ("seed", "model", "revision", "engine", "chat", "formats"),
    "report": ("name", "seed"),
}
"""Settings outside a stage's own section that change its output."""
INPUTS: dict[str, tuple[str, ...]] = {
    "pool": (),
    "filter": ("pool",),
    "trace": ("filter", "pool"),
    "select": ("trace",),
    "train": ("select",),
    "evaluate": ("train", "pool"),
    "report": ("pool", "filter", "trace", "select", "train", "evaluate"),
}
"""Earlier stages whose output a stage reads, if the recipe runs them."""

GENERATING_STAGES = ("filter", "trace", "evaluate")
"""Stages whose estimated tokens are generated; those of `train` are only read."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the funnel: number of rows before and after it, and of dropped rows by reason."""

    name: str
    num_in: int
    num_out: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage returns, to be written into its folder."""

    records: Sequence[Any]
    record_type: type
    dropped: Sequence[Dropped] = ()
    steps: Sequence[Step] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Figures for the manifest and the report, as JSON: seeds, tokens, versions, warnings."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage receives: recipe, folders and callbacks."""

    stage: str
    recipe: Recipe
    root: Path
    """The run folder."""
    folder: Path
    """Folder for files of this stage. Renamed to `root/STAGE` when the stage is done."""
    work_folder: Path
    """Folder for checkpoints, kept between attempts. Removed when the stage is done."""
    inputs: Mapping[str, Path]
    """Folders of the earlier stages that this recipe runs."""
    notify: Callable[[str], None] = print
    """Callback for a message to the user."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Callback for progress: the number of finished items, and the total."""
    quiet: bool = False
    """Whether processes that the stage starts print no messages."""

    @property
    def config(self) -> Any:
        """This stage's own section of the recipe."""
        return getattr(self.recipe, self.stage)

    @property
    def ledger_path(self) -> Path:
        """Path of the ledger that this run uses."""
        return Path(self.recipe.ledger) if self.recipe.ledger else self.root / "ledger.sqlite"

    def open_ledger(self) -> Ledger:
        """The run's ledger, as a context manager."""
        return Ledger(self.ledger_path, full_sync=self.recipe.ledger_sync == "full")

    def load(self, cls: type[R], *stages: str) -> list[R]:
        """Records of the first of these stages that the recipe runs, else of the section's `input`.

        Raises ConfigError if the recipe has neither, DataError if the rows are not of this class.
        """
        for stage in stages:
            if stage in self.inputs:
                return read_records(self.inputs[stage], cls)
        path = getattr(self.config, "input", None)
        if path is None:
            raise ConfigError(
                f"{self.stage}: the recipe has no {' or '.join(stages)} stage and no "
                f"`{self.stage}.input`. "
                f"Add the stage, or name a file: --set {self.stage}.input=PATH"
            )
        return read_records(Path(path), cls)


def stage_module(stage: str) -> Any:
    """The stage's package: `STAGE_VERSION`, `run(context)`, `plan(recipe)`."""
    return importlib.import_module(f"slowthink.stages.{stage}")


def stage_settings(recipe: Recipe, stage: str) -> dict[str, Any]:
    """All settings that decide the stage's output."""
    values = recipe.model_dump(mode="json")
    shared = SHARED_SETTINGS[stage]
    if stage == "trace" and model_loading_settings(recipe, stage):
        shared += ("engine", "formats")
    if stage == "train" and recipe.train and recipe.train.checkpoint == "dev":
        shared += ("engine",)
    if recipe.trace and any(isinstance(score, StudentScore) for score in recipe.trace.scores):
        shared += ("chat",) if stage == "trace" else ()
    return {stage: values[stage], **{key: values[key] for key in shared}}


def stage_inputs(recipe: Recipe, root: Path, stage: str) -> dict[str, Path]:
    """Folders of the earlier stages that this one reads."""
    stages = recipe.stages()
    return {name: root / name for name in INPUTS[stage] if name in stages}


# --- counts and quantiles -------------------------------------------------------------------------


def funnel_step(name: str, num_in: int, dropped: Iterable[Dropped]) -> Step:
    """Count the rows that the step of this name dropped."""
    reasons = count_values(drop.reason for drop in dropped if drop.step == name)
    return Step(name=name, num_in=num_in, num_out=num_in - sum(reasons.values()), reasons=reasons)


def count_values(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, most frequent first, ties by name; None counts as `unknown`."""
    counter = Counter("unknown" if value is None else value for value in values)
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Minimum, quartiles, maximum and mean; empty for no values.

    {"min": 26, "p25": 35, "p50": 59, "p75": 91, "max": 220, "mean": 68.1}
    """
    if not values:
        return {}
    names = ("min", "p25", "p50", "p75", "max")
    points = np.percentile(np.asarray(values, dtype=float), [0, 25, 50, 75, 100])
    summary = {name: round(float(point), 2) for name, point in zip(names, points, strict=True)}
    return summary | {"mean": round(float(np.mean(values)), 2)}
