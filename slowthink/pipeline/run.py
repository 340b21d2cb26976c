"""Run the stages of a recipe in order; a stage is skipped if its folder has the recipe's result.

A stage that loads a model runs in a process of its own, so that the next one starts with free
memory (and a free GPU).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink import errors
from slowthink.data.tables import missing_stage
from slowthink.errors import ConfigError, EngineError, SlowthinkError
from slowthink.pipeline.contract import read_manifest, stage_module
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
from slowthink.recipe import STAGES, Recipe
from slowthink.recipe.loading import load_recipe
from slowthink.recipe.models import model_loading_settings


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
    Raises ConfigError if a finished stage was made with other settings. With `update` its folder
    and the later ones move to `superseded/` instead, and these stages run again.
    """
    reporter = reporter or ProgressReporter()
    selected = [stage for stage in recipe.stages() if stages is None or stage in stages]
    log = RunLog(root)
    runs = []
    with locked(root) as lock_fd:
        resolved = resolve_run(recipe, root)
        recipe = resolved.recipe
        if resolved.choices:
            reporter.notify(f"auto: {resolved.text}")
        _check_finished(recipe, root, selected, update=update)
        log.record_choices(resolved.to_json())
        write_recipe(recipe, root)
        for stage in selected:
            stage_run = _run_unless_done(recipe, root, stage, reporter, lock_fd=lock_fd)
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


def _check_finished(recipe: Recipe, root: Path, stages: Sequence[str], *, update: bool) -> None:
    """Raise ConfigError for folders made with other settings, or supersede them if `update`."""
    for stage in stages:
        status = stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION)
        if not status.changed:
            continue
        if not update and stage != "report":  # a report is cheap and is always written again
            changes = "\n".join(f"  {change}" for change in status.changed)
            raise ConfigError(
                f"{root / stage}: was made with other settings:\n{changes}\n"
                "Undo the change, add --update (reruns this stage and the later ones; cached "
                "completions are reused, old folders move to superseded/), or choose another --out."
            )
        for later in STAGES[STAGES.index(stage) :]:
            supersede(root, later)
        return


def _run_unless_done(
    recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter, *, lock_fd: int
) -> StageRun:
    version = stage_module(stage).STAGE_VERSION
    if stage_status(recipe, root, stage, version=version).done:
        reporter.notify(f"{stage}: already done, skipped")
        manifest = read_manifest(root / stage)
        return StageRun(stage=stage, skipped=True, seconds=0.0, manifest=manifest)
    if (root / stage).exists():
        supersede(root, stage)  # made from an older output of an earlier stage
    started = time.monotonic()
    reporter.report_start(stage)
    if needs_model(recipe, stage):
        _run_in_subprocess(root, stage, reporter, lock_fd=lock_fd)
    else:
        run_stage(recipe, root, stage, reporter)
    manifest = read_manifest(root / stage)
    seconds = time.monotonic() - started
    reporter.report_end(stage, manifest, seconds)
    return StageRun(stage=stage, skipped=False, seconds=seconds, manifest=manifest)


def needs_model(recipe: Recipe, stage: str) -> bool:
    """Whether this stage of this recipe loads a model."""
    return bool(model_loading_settings(recipe, stage))


def run_stage(recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter) -> dict[str, Any]:
    """Run one stage in this process, even if it is done; returns its manifest."""
    module = stage_module(stage)
    context = make_context(recipe, root, stage, notify=reporter.notify, progress=reporter.progress)
    return execute(context, module.run, version=module.STAGE_VERSION)


# --- a stage in a process of its own --------------------------------------------------------------


def _run_in_subprocess(root: Path, stage: str, reporter: ProgressReporter, *, lock_fd: int) -> None:
    """Run one stage by `python -m slowthink.pipeline.run`; its messages are printed on stderr.

    The child inherits the folder's lock, so that no other run starts while the child lives.
    """
    command = [sys.executable, "-m", "slowthink.pipeline.run", str(root), stage]
    command += ["--quiet"] if reporter.quiet else []
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, pass_fds=(lock_fd,))
    if child.returncode == 130:
        raise KeyboardInterrupt
    if child.returncode:
        raise _child_error(root, stage, child.stdout, child.returncode)


def _child_error(root: Path, stage: str, stdout: str, code: int) -> SlowthinkError:
    """The error that the child reported, or an EngineError if it ended without a report."""
    try:
        report = json.loads(stdout.strip().splitlines()[-1])
        error: SlowthinkError = getattr(errors, report["kind"])(report["message"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return EngineError(
            f"{stage}: its process {end}; expected it to finish. Everything recorded in "
            f"{root / 'ledger.sqlite'} is kept: run the same command again. Signal 9 often means "
            "that memory ran out; then lower engine.batch_size or train.micro_batch_size."
        )
    return error


def die_with_parent() -> None:
    """Make Linux kill this process as soon as its parent process ends."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            set_parent_death_signal = 1
            ctypes.CDLL("libc.so.6").prctl(set_parent_death_signal, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run one stage of a run folder in this process; errors are printed as JSON for the parent."""
    die_with_parent()
    root, stage = Path(arguments[0]), arguments[1]
    try:
        with ProgressReporter(quiet="--quiet" in arguments) as reporter:
            run_stage(load_recipe(str(root / "recipe.yaml")), root, stage, reporter)
    except SlowthinkError as error:
        print(json.dumps({"kind": type(error).__name__, "message": str(error)}))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
