"""Run the stages of a recipe in order; a stage is skipped if its folder has the recipe's result.

A stage that loads a model or a tokenizer runs in a process of its own (`stage_process`), so that
the next one starts with free memory (and a free GPU).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.tables import missing_stage
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.contract import read_manifest, stage_module
from slowthink.pipeline.plan import check_inputs, missing_inputs
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.resolve import resolve_run
from slowthink.pipeline.run_folder import (
    RunLog,
    StageStatus,
    execute,
    locked,
    make_context,
    stage_status,
    supersede,
    write_recipe,
)
from slowthink.pipeline.stage_process import StageServer, run_stage, shared_imports
from slowthink.recipe import STAGES, Recipe
from slowthink.recipe.models import code_that_runs, model_loading_settings


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One stage of a run: whether it was skipped, its duration and its manifest."""

    stage: str
    skipped: bool
    seconds: float
    manifest: dict[str, Any]


def run_recipe(
    recipe: Recipe,
    root: Path,
    *,
    stages: Sequence[str] | None = None,
    update: bool = False,
    reporter: ProgressReporter | None = None,
) -> list[StageRun]:
    """Run the recipe's stages (or only those named) into `root`; finished ones are skipped.

    Settings that are `auto` get their values first, which `root` keeps (see `resolve`).
    Raises ConfigError for settings with which a stage could not run, and if a finished stage was
    made with other settings. With `update` its folder and the later ones move to `superseded/`
    instead, and these stages run again.
    """
    reporter = reporter or ProgressReporter()
    selected = [stage for stage in recipe.stages() if stages is None or stage in stages]
    runs = []
    with locked(root) as lock_fd:
        log = RunLog(root)
        resolved = resolve_run(recipe, root, notify=reporter.notify)
        recipe = resolved.recipe
        if resolved.choices:
            reporter.notify(f"auto: {resolved.text}")
        for notice in code_that_runs(recipe):
            reporter.notify(f"note: {notice}")
        _check_settings(recipe, root, selected)
        _check_finished(recipe, root, selected, update=update)
        if missing_inputs(recipe, selected):
            check_inputs(recipe, [stage for stage in selected if not _is_done(recipe, root, stage)])
        log.record_choices(resolved.to_json())
        write_recipe(recipe, root)
        with _stage_server(recipe, root, selected, reporter, lock_fd=lock_fd) as server:
            for stage in selected:
                stage_run = _run_unless_done(recipe, root, stage, reporter, server)
                runs.append(stage_run)
                if not stage_run.skipped:
                    log.record_stage(stage, stage_run.seconds)
    return runs


def regrade(
    recipe: Recipe, root: Path, *, reporter: ProgressReporter | None = None
) -> list[StageRun]:
    """Grade the stored answers of a finished evaluation again, without running a model.

    Raises ConfigError if the evaluation is not finished or was made with other settings.
    """
    evaluate = stage_module("evaluate")
    reporter = reporter or ProgressReporter()
    with locked(root):
        recipe = resolve_run(recipe, root).recipe
        status = stage_status(recipe, root, "evaluate", version=evaluate.STAGE_VERSION)
        allowed = ("stage_version", "inputs")
        changed = [line for line in status.changed if not line.startswith(allowed)]
        if not (status.done or status.changed):
            raise ConfigError(str(missing_stage(root, "evaluate")))
        if changed:
            changes = "\n".join(f"  {line}" for line in changed)
            raise ConfigError(
                f"{root / 'evaluate'}: was made with other settings:\n{changes}\n--regrade expects "
                "the same ones. Undo the change, or run the evaluation again with --update."
            )
        context = make_context(
            recipe, root, "evaluate", notify=reporter.notify, progress=reporter.progress
        )
        started = time.monotonic()
        manifest = execute(context, evaluate.regrade, version=evaluate.STAGE_VERSION)
        seconds = time.monotonic() - started
    regraded = StageRun(stage="evaluate", skipped=False, seconds=seconds, manifest=manifest)
    return [regraded, *run_recipe(recipe, root, stages=("report",), reporter=reporter)]


def _check_settings(recipe: Recipe, root: Path, stages: Sequence[str]) -> None:
    """Raise ConfigError for settings with which an unfinished stage could not run, as its plan
    does."""
    for stage in stages:
        try:
            is_done = _is_done(recipe, root, stage)
        except DataError:
            is_done = False  # damaged, which is said next
        if not is_done:
            stage_module(stage).plan(recipe)


def _check_finished(recipe: Recipe, root: Path, stages: Sequence[str], *, update: bool) -> None:
    """Raise ConfigError for folders made with other settings, DataError for damaged ones; or
    supersede them if `update`."""
    for stage in stages:
        keep = not update and stage != "report"  # a report is cheap and is always written again
        try:
            status = stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION)
        except DataError:
            if keep:
                raise
            status = StageStatus(done=False, changed=("damaged",))
        if not status.changed:
            continue
        if keep:
            changes = "\n".join(f"  {change}" for change in status.changed)
            raise ConfigError(
                f"{root / stage}: was made with other settings:\n{changes}\n"
                "Undo the change, add --update (reruns this stage and the later ones; cached "
                "completions are reused, old folders move to superseded/), or choose another --out."
            )
        for later in STAGES[STAGES.index(stage) :]:
            supersede(root, later)
        return


def _stage_server(
    recipe: Recipe,
    root: Path,
    stages: Sequence[str],
    reporter: ProgressReporter,
    *,
    lock_fd: int,
) -> StageServer:
    """The server for the stages that load a model; started now if one of them is to be run."""
    apart = [stage for stage in stages if needs_model(recipe, stage)]
    imports = shared_imports(recipe, apart)
    server = StageServer(root, imports=imports, lock_fd=lock_fd, quiet=reporter.quiet)
    if any(not _is_done(recipe, root, stage) for stage in apart):
        server.start()
    return server


def _is_done(recipe: Recipe, root: Path, stage: str) -> bool:
    return stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION).done


def _run_unless_done(
    recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter, server: StageServer
) -> StageRun:
    if _is_done(recipe, root, stage):
        reporter.notify(f"{stage}: already done, skipped")
        manifest = read_manifest(root / stage)
        return StageRun(stage=stage, skipped=True, seconds=0.0, manifest=manifest)
    if (root / stage).exists():
        supersede(root, stage)  # made from an older output of an earlier stage
    started = time.monotonic()
    reporter.report_start(stage)
    if needs_model(recipe, stage):
        server.run(stage)
    else:
        run_stage(recipe, root, stage, reporter)
    manifest = read_manifest(root / stage)
    seconds = time.monotonic() - started
    reporter.report_end(stage, manifest, seconds)
    return StageRun(stage=stage, skipped=False, seconds=seconds, manifest=manifest)


def needs_model(recipe: Recipe, stage: str) -> bool:
    """Whether this stage loads a model, or a tokenizer, as `trace` does to count tokens."""
    return stage == "trace" or bool(model_loading_settings(recipe, stage))
