"""The run: stages in order, each skipped when its folder is what the recipe asks for.

A stage that loads a model runs in a process of its own, so the next finds memory (and the GPU)
empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, EngineError
from slowthink.pipeline import run_folder as runs
from slowthink.pipeline.progress import ProgressReporter
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe
from slowthink.recipe.models import model_parts


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """What became of one stage."""

    stage: str
    skipped: bool
    seconds: float
    manifest: dict[str, Any]


def stage_module(stage: str) -> Any:
    """The stage's package: `STAGE_VERSION`, `run(context)`, `plan(recipe)`."""
    return importlib.import_module(f"slowthink.stages.{stage}")


def run_recipe(
    recipe: Recipe,
    root: Path,
    *,
    stages: Sequence[str] | None = None,
    update: bool = False,
    reporter: ProgressReporter | None = None,
) -> list[StageRun]:
    """Run the recipe's stages (or only those named) into `root`; what is done is skipped.

    Raises ConfigError where a finished stage was made with other settings and not `update`; with it
    the old folders move to `superseded/` and the stages run again.
    """
    reporter = reporter or ProgressReporter()
    wanted = [stage for stage in recipe.stages() if stages is None or stage in stages]
    clock = _Clock(root)
    with _alone(root) as lock:
        _refuse_or_supersede(recipe, root, wanted, update=update)
        _save_recipe(recipe, root)
        ran = []
        for stage in wanted:
            ran.append(_run_one(recipe, root, stage, reporter, lock=lock))
            clock.note(ran)
    return ran


def regrade(
    recipe: Recipe, root: Path, *, reporter: ProgressReporter | None = None
) -> list[StageRun]:
    """Grade the stored answers of a finished evaluation again; no model is run.

    Raises ConfigError where there is none, or where it was made with other settings.
    """
    evaluate = stage_module("evaluate")

    reporter = reporter or ProgressReporter()
    with _alone(root):
        found = runs.stage_status(recipe, root, "evaluate", version=evaluate.STAGE_VERSION)
        ours = ("stage_version", "inputs")
        changed = [line for line in found.changed if not line.startswith(ours)]
        if changed or not (found.done or found.changed):
            seen = "\n".join(f"  {line}" for line in changed) or "  no finished evaluation"
            raise ConfigError(
                f"{root / 'evaluate'}: --regrade found\n{seen}\nexpected a finished evaluation of "
                "this recipe. Undo the change, or evaluate with --update."
            )
        context = runs.make_context(
            recipe, root, "evaluate", notify=reporter.notify, progress=reporter.progress
        )
        started = time.monotonic()
        manifest = runs.execute(context, evaluate.regrade, version=evaluate.STAGE_VERSION)
        seconds = time.monotonic() - started
    ran = [StageRun(stage="evaluate", skipped=False, seconds=seconds, manifest=manifest)]
    return ran + run_recipe(recipe, root, stages=("report",), reporter=reporter)


def _refuse_or_supersede(
    recipe: Recipe, root: Path, wanted: Sequence[str], *, update: bool
) -> None:
    """Deal with folders that other settings made: from the first changed stage on."""
    for stage in wanted:
        standing = runs.stage_status(recipe, root, stage, version=stage_module(stage).STAGE_VERSION)
        if not standing.changed:
            continue
        if not update and stage != "report":  # a page is made anew from what lies there
            changes = "\n".join(f"  {change}" for change in standing.changed)
            raise ConfigError(
                f"{root / stage}: was made with other settings:\n{changes}\n"
                "Undo the change, add --update (redo from this stage on; answers in the ledger are "
                "used again, old folders move to superseded/), or give another --out."
            )
        for later in (stage, *runs.stages_after(stage)):
            runs.supersede(root, later)
        return


def _run_one(
    recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter, *, lock: int
) -> StageRun:
    version = stage_module(stage).STAGE_VERSION
    if runs.stage_status(recipe, root, stage, version=version).done:
        reporter.notify(f"{stage}: done before, skipped")
        manifest = runs.read_manifest(root / stage)
        return StageRun(stage=stage, skipped=True, seconds=0.0, manifest=manifest)
    if (root / stage).exists():
        runs.supersede(root, stage)  # made before a stage that it reads
    started = time.monotonic()
    reporter.begin(stage)
    if needs_model(recipe, stage):
        _in_own_process(root, stage, reporter, lock=lock)
    else:
        run_stage(recipe, root, stage, reporter)
    manifest = runs.read_manifest(root / stage)
    seconds = time.monotonic() - started
    reporter.end(stage, manifest, seconds)
    return StageRun(stage=stage, skipped=False, seconds=seconds, manifest=manifest)


def needs_model(recipe: Recipe, stage: str) -> bool:
    """Whether this stage of this recipe loads a model."""
    return bool(model_parts(recipe, stage))


def run_stage(recipe: Recipe, root: Path, stage: str, reporter: ProgressReporter) -> dict[str, Any]:
    """Run one stage in this process, whether or not it is done; returns its manifest."""
    module = stage_module(stage)
    context = runs.make_context(
        recipe, root, stage, notify=reporter.notify, progress=reporter.progress
    )
    return runs.execute(context, module.run, version=module.STAGE_VERSION)


def _in_own_process(root: Path, stage: str, reporter: ProgressReporter, *, lock: int) -> None:
    """The same through `python -m slowthink.pipeline.run`, whose talk goes to our stderr.

    The child holds the folder's lock too, so that no other run begins while it lives.
    """
    command = [sys.executable, "-m", "slowthink.pipeline.run", str(root), stage]
    command += ["--quiet"] if reporter.quiet else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, pass_fds=(lock,))
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        _raise_again(root, stage, done.stdout, done.returncode)


def _raise_again(root: Path, stage: str, said: str, code: int) -> None:
    """The child's own error, with its kind."""
    from slowthink import errors

    try:
        told = json.loads(said.strip().splitlines()[-1])
        kind = getattr(errors, told["kind"])
    except (ValueError, KeyError, IndexError, AttributeError):
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise EngineError(
            f"{stage}: its process {how}; expected it to finish. What it had recorded in "
            f"{root / 'ledger.sqlite'} is kept: give the same command again. Killed by signal 9 "
            "often means memory ran out: then lower engine.batch_size or train.micro_batch_size."
        ) from None
    raise kind(told["message"])


@contextmanager
def _alone(root: Path) -> Iterator[int]:
    """Hold the run folder: two processes in one folder would undo each other's work.

    Yields the lock's file descriptor.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "run.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(
                f"{root}: another slowthink is at work in this folder; expected to be alone. "
                "Wait for it, or give another --out."
            ) from None
        yield file.fileno()


def _save_recipe(recipe: Recipe, root: Path) -> None:
    import yaml

    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    runs.write_atomic(root / "recipe.yaml", text)


class _Clock:
    """Wall time that went into a run folder, over all commands that ran a stage of it."""

    def __init__(self, root: Path) -> None:
        self._path = root / "run.json"
        self._started = time.monotonic()
        kept = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._before = kept.get("wall_seconds", 0.0)
        self._seconds = kept.get("seconds", {})

    def note(self, ran: Sequence[StageRun]) -> None:
        """Write what has gone in so far, unless every stage was skipped."""
        if all(one.skipped for one in ran):
            return
        now = {one.stage: round(one.seconds, 1) for one in ran if not one.skipped}
        wall = self._before + time.monotonic() - self._started
        note = {"wall_seconds": round(wall, 1), "seconds": self._seconds | now}
        runs.write_atomic(self._path, json.dumps(note, indent=1))


def die_with_parent() -> None:
    """Have Linux end this process when the one that started it ends, however it ends."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            set_parent_death_signal = 1
            ctypes.CDLL("libc.so.6").prctl(set_parent_death_signal, signal.SIGKILL)


def main(arguments: Sequence[str], notify: Callable[[str], None] = print) -> int:
    """Run one stage of a run folder in this process; errors go out as JSON for the parent."""
    from slowthink.errors import SlowthinkError

    die_with_parent()
    root, stage = Path(arguments[0]), arguments[1]
    reporter = ProgressReporter(quiet="--quiet" in arguments)
    try:
        with reporter:
            run_stage(load_recipe(str(root / "recipe.yaml")), root, stage, reporter)
    except SlowthinkError as error:
        notify(json.dumps({"kind": type(error).__name__, "message": str(error)}))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
