"""Run the stages of a recipe in order; a stage is skipped if its folder has the recipe's result.

A stage that loads a model or a tokenizer runs in a process of its own (`stage_process`), so that
the next one starts with free memory (and a free GPU).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slowthink.data.tables import missing_stage
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.contract import read_manifest, stage_inputs, stage_module
from slowthink.pipeline.plan import check_inputs, missing_inputs
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.resolve import resolve_run
from slowthink.pipeline.run_folder import (
    RunLog,
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
    made with other settings. With `update` it runs again: its old folder moves to `superseded/`
    when the new one is complete, and with it those of later stages that were made from it.
    """
    reporter = reporter or ProgressReporter()
    selected = [stage for stage in recipe.stages() if stages is None or stage in stages]
    runs = []
    with locked(root) as lock_fd:
        log = RunLog(root)
        chosen = resolve_run(recipe, root, measure=False)
        recipe = chosen.recipe
        pending = _pending_after_checks(recipe, root, selected, update=update)
        for notice in code_that_runs(recipe):
            reporter.notify(f"note: {notice}")
        measured = resolve_run(recipe, root, notify=reporter.notify)  # takes seconds, so last
        recipe = measured.recipe
        resolved = replace(measured, choices={**chosen.choices, **measured.choices})
        if resolved.choices:
            reporter.notify(f"auto: {resolved.text}")
        log.record_choices(resolved.to_json())
        write_recipe(recipe, root)
        with _stage_server(recipe, root, selected, pending, reporter, lock_fd=lock_fd) as server:
            for stage in selected:
                stage_run = _run_unless_done(recipe, root, stage, reporter, server)
                runs.append(stage_run)
                if not stage_run.skipped:
                    log.record_stage(stage, stage_run.seconds)
                if update and not stage_run.skipped:
                    _supersede_outdated(recipe, root, stage)
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
        recipe = resolve_run(recipe, root, measure=False).recipe
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


def _pending_after_checks(
    recipe: Recipe, root: Path, stages: Sequence[str], *, update: bool
) -> list[str]:
    """The stages that are to run. Raises ConfigError or DataError where one of them could not."""
    pending = _pending(recipe, root, stages, update=update)
    for stage in pending:
        stage_module(stage).plan(recipe)  # raises for settings with which it could not run
    if "train" in pending:
        stage_module("train").require_libraries(recipe)
    if not update:
        _check_finished(recipe, root, stages)
    if missing_inputs(recipe, stages):
        check_inputs(recipe, pending)
    return pending


def _pending(recipe: Recipe, root: Path, stages: Sequence[str], *, update: bool) -> list[str]:
    """The stages that are to run: those that are not done and, in an update, those that read
    them."""
    pending: list[str] = []
    for stage in stages:
        is_outdated = update and any(name in pending for name in stage_inputs(recipe, root, stage))
        if is_outdated or not _is_done(recipe, root, stage):
            pending.append(stage)
    return pending


def _check_finished(recipe: Recipe, root: Path, stages: Sequence[str]) -> None:
    """Raise ConfigError for folders made with other settings, DataError for damaged ones. A report
    is cheap and is always written again."""
    for stage in stages:
        if stage == "report":
            continue
        status = stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION)
        if status.changed:
            changes = "\n".join(f"  {change}" for change in status.changed)
            raise ConfigError(
                f"{root / stage}: was made with other settings:\n{changes}\n"
                f"Undo the change ({root / stage / 'manifest.json'} has the old settings), add "
                "--update (reruns this stage, then those that read it; cached completions are "
                "reused; when the new folder is complete, the old one and all that were made from "
                "it move to superseded/), or choose another --out."
            )


def _supersede_outdated(recipe: Recipe, root: Path, stage: str) -> None:
    """Move the stages that were made from an older output of this one, and all after them, to
    `superseded/`."""
    later = STAGES[STAGES.index(stage) + 1 :]
    for index, name in enumerate(later):
        if name in recipe.stages() and _reads_older(recipe, root, name, stage):
            for outdated in later[index:]:
                supersede(root, outdated)
            return


def _reads_older(recipe: Recipe, root: Path, name: str, stage: str) -> bool:
    """Whether a finished stage was made from another output of the earlier `stage`."""
    try:
        status = stage_status(recipe, root, name, version=stage_module(name).STAGE_VERSION)
    except DataError:
        return False
    return any(change.startswith(f"inputs.{stage}: ") for change in status.changed)


def _stage_server(
    recipe: Recipe,
    root: Path,
    stages: Sequence[str],
    pending: Sequence[str],
    reporter: ProgressReporter,
    *,
    lock_fd: int,
) -> StageServer:
    """The server for the stages that load a model; started now if one of them is to be run."""
    apart = [stage for stage in stages if needs_model(recipe, stage)]
    imports = shared_imports(recipe, apart)
    server = StageServer(root, imports=imports, lock_fd=lock_fd, quiet=reporter.quiet)
    if any(stage in pending for stage in apart):
        server.start()
    return server


def _is_done(recipe: Recipe, root: Path, stage: str) -> bool:
    """Whether the stage can be skipped; a damaged one cannot (see `_check_finished`)."""
    try:
        return stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION).done
    except DataError:
        return False


def _run_unless_done(
    recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter, server: StageServer
) -> StageRun:
    if _is_done(recipe, root, stage):
        reporter.notify(f"{stage}: already done, skipped")
        manifest = read_manifest(root / stage)
        return StageRun(stage=stage, skipped=True, seconds=0.0, manifest=manifest)
    started = time.monotonic()
    reporter.report_start(stage)
    if (root / stage).exists() and stage != "report":
        reporter.notify(f"{stage}: {root / stage} stays until the new one is complete")
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
