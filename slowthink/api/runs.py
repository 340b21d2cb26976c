"""Runs of recipes: start one, and read what it left.

run = run("quickstart", out="runs/q", settings={"train.epochs": 2})
run.rows("evaluate").to_pandas()
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.api.rows import Rows
from slowthink.errors import ConfigError, require_list, wrong_type
from slowthink.records import Dropped, Problem, Trace
from slowthink.serialise import is_file
from slowthink.stage_rows import EvaluationRow, TrainingStep

if TYPE_CHECKING:
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.pipeline.run import StageRun
    from slowthink.recipe import Recipe
    from slowthink.recipe.loading import Overrides

STAGE_RECORDS: dict[str, type[Any]] = {
    "pool": Problem, "filter": Problem, "trace": Trace, "select": Trace, "train": TrainingStep,
    "evaluate": EvaluationRow,
}  # fmt: skip
"""Class of each stage's rows."""


class Run:
    """A run folder. `Run("runs/quickstart")` opens one that exists."""

    def __init__(self, root: str | Path, *, stages: Sequence[StageRun] = ()) -> None:
        if not isinstance(root, str | os.PathLike):
            raise ConfigError(wrong_type(root, "root", "the folder of a run. Give its path."))
        self.root = Path(root)
        """The folder."""
        self.stages = tuple(stages)
        """The stages of this call, each with its duration and manifest."""
        if not is_file(self.root / "recipe.yaml"):
            raise ConfigError(
                f"{self.root}: no recipe.yaml; expected the folder of a run. "
                "Name one, or start a run: slowthink.run(RECIPE, out=FOLDER)"
            )

    def __repr__(self) -> str:
        return f"Run({str(self.root)!r})"

    def rows(self, stage: str) -> Rows[Any]:
        """The rows of a finished stage (see STAGE_RECORDS), and those that it dropped.

        Raises ConfigError for an unknown stage, DataError if it is not finished.
        """
        from slowthink.data.tables import read_records

        if stage not in STAGE_RECORDS:
            raise ConfigError(
                f"rows: stage {stage!r:.40} has no rows; expected one of "
                f"{', '.join(STAGE_RECORDS)}. Name one of these."
            )
        folder = self.root / stage
        records = read_records(folder, STAGE_RECORDS[stage])
        table = folder / "dropped.parquet"
        return Rows(records, dropped=read_records(table, Dropped) if table.exists() else ())

    def export(
        self, out: str | Path, *, form: str = "trl", settings: Overrides = ()
    ) -> dict[str, Any]:
        """Write the training set or the samples for other programs: see `slowthink export`.

        Returns and raises as `slowthink.export.export_run`.
        """
        from slowthink.export import export_run

        return export_run(self.root, out, form=form, settings=settings)

    @property
    def summary(self) -> dict[str, Any]:
        """The main figures, as `slowthink report RUN --json` prints them; null if not measured."""
        from slowthink.stages.report.data import headline

        return headline(self.root)

    @property
    def report(self) -> Path:
        """The HTML page. Raises DataError if the report is not written."""
        from slowthink.errors import DataError

        page = self.root / "report" / "report.html"
        if not page.exists():
            raise DataError(
                f"{page}: no such file; expected the report of a finished run. "
                f"Run: slowthink report {self.root}"
            )
        return page


def run(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    settings: Overrides = (),
    stages: Sequence[str] | None = None,
    update: bool = False,
    quiet: bool = False,
    reporter: ProgressReporter | None = None,
) -> Run:
    """Run a recipe (a YAML file, a shipped one's name, a run folder); finished stages are skipped.

    `out`: the run folder, by default runs/NAME. `settings`: changes by dotted name, e.g.
    {"train.epochs": 2}. `stages`: only these. `update`: run again what other settings made; nothing
    is deleted. `quiet`: no progress on stderr. Raises ConfigError before any work if the settings
    cannot be used or differ from the folder's, DataError and EngineError if a stage fails; start it
    again to continue.
    """
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.pipeline.run import run_recipe
    from slowthink.recipe import Recipe

    if out is not None and not isinstance(out, str | os.PathLike):
        raise ConfigError(wrong_type(out, "out", "the run folder. Give its path."))
    if isinstance(recipe, Recipe):
        opened, root = recipe, Path(out or Path("runs") / recipe.name)
    elif not isinstance(recipe, str | os.PathLike):
        expected = "a recipe. Give its file, the name of a shipped one, or a run folder."
        raise ConfigError(wrong_type(recipe, "recipe", expected))
    else:
        opened, root = open_recipe(recipe, out=out, overrides=settings)
    stages = None if stages is None else require_list(stages, "stages")
    check_stages(opened, stages)
    if reporter is not None:
        done = run_recipe(opened, root, stages=stages, update=update, reporter=reporter)
    else:
        with ProgressReporter(quiet=quiet) as own:
            done = run_recipe(opened, root, stages=stages, update=update, reporter=own)
    return Run(root, stages=done)


def is_follower() -> bool:
    """True in all but the first of the processes that torchrun or Slurm started to train together,
    which set RANK."""
    return int(os.environ.get("RANK", "0")) > 0


def follow(
    recipe: Recipe, root: Path, *, stages: Sequence[str] | None, quiet: bool = False
) -> None:
    """Train together with the first process, which alone writes into the run folder.

    Raises ConfigError for other stages than train.
    """
    if stages != ("train",):
        raise ConfigError(
            "several processes (RANK is set) run more than the train stage; expected `slowthink "
            "train` alone. Run the earlier stages first, in one process."
        )
    if not (root / "train" / "manifest.json").exists():
        from slowthink.stages.train.rank import follow as train

        train(recipe, root, quiet=quiet)


def open_recipe(
    source: str | Path, *, out: str | Path | None = None, overrides: Overrides | None = None
) -> tuple[Recipe, Path]:
    """Load the recipe and name its run folder. `source` may be a run folder, which has both."""
    from slowthink.recipe.loading import load_recipe

    saved = Path(source) / "recipe.yaml"
    is_run = is_file(saved)
    recipe = load_recipe(str(saved if is_run else source), overrides=overrides or ())
    return recipe, Path(out or (source if is_run else Path("runs") / recipe.name))


def check_stages(recipe: Recipe, stages: Sequence[str] | None) -> None:
    """Raise ConfigError if the recipe lacks one of the stages."""
    missing = [stage for stage in stages or () if stage not in recipe.stages()]
    if missing:
        raise ConfigError(
            f"{missing[0]}: the recipe `{recipe.name}` has no such section; it has "
            f"{', '.join(recipe.stages())}. Add `{missing[0]}:` to the recipe."
        )
