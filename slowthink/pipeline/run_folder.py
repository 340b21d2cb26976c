"""The run folder: what it contains, and whether a stage's folder can be reused.

    runs/NAME/
      recipe.yaml          all settings of the run
      run.json             wall time in seconds, in all and by stage; what `auto` became, and why
      run.lock             locked while a command runs in this folder
      ledger.sqlite        every completion and every grade, for reuse
      STAGE/               output of a finished stage
        data.parquet       its rows
        dropped.parquet    rows that it dropped, each with step and reason
        manifest.json      settings, inputs, counts, funnel, facts, versions
      STAGE.partial/       output of a stage that is running
      work/STAGE/          checkpoints of an unfinished stage
      superseded/          folders that --update replaced; nothing is deleted

A stage writes into `STAGE.partial/`, which is renamed when complete, so a folder named after a
stage is always complete. Rows are sorted by id: the same decisions give the same bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowthink.data.tables import write_records
from slowthink.environment import versions
from slowthink.errors import ConfigError, EngineError
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    read_manifest,
    stage_inputs,
    stage_settings,
)
from slowthink.recipe import Recipe
from slowthink.recipe.saved import parse_saved
from slowthink.records import Dropped
from slowthink.serialise import digest, file_sha256, plain

# --- files of a run -------------------------------------------------------------------------------


@contextmanager
def locked(root: Path) -> Iterator[int]:
    """Lock the run folder, since two processes in one folder would overwrite each other's work.

    Yields the lock's file descriptor. Raises EngineError if another process holds the lock.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "run.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(
                f"{root}: another slowthink process is using this run folder. "
                "Wait until it ends, or choose another --out."
            ) from None
        yield file.fileno()


def write_recipe(recipe: Recipe, root: Path) -> None:
    """Write all settings into `recipe.yaml`."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomic(root / "recipe.yaml", text)


class RunLog:
    """`run.json`: wall time spent on a run folder by all commands that ran a stage in it, and the
    choices for `auto` settings."""

    def __init__(self, root: Path) -> None:
        self._path = root / "run.json"
        self._started = time.monotonic()
        saved = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._data: dict[str, Any] = {"wall_seconds": 0.0, "seconds": {}, **saved}
        self._seconds_before = self._data["wall_seconds"]

    def record_choices(self, choices: Mapping[str, Any]) -> None:
        """Write the choices for `auto` settings, by setting."""
        self._data["auto"] = self._data.get("auto", {}) | choices
        self._write()

    def record_stage(self, stage: str, seconds: float) -> None:
        """Write the duration of a stage that has run."""
        self._data["seconds"][stage] = round(seconds, 1)
        wall_seconds = self._seconds_before + time.monotonic() - self._started
        self._data["wall_seconds"] = round(wall_seconds, 1)
        self._write()

    def _write(self) -> None:
        write_atomic(self._path, json.dumps(self._data, indent=1, ensure_ascii=False))


def supersede(root: Path, stage: str) -> None:
    """Move a stage's folder, and its unfinished work, to `superseded/`; nothing is deleted."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for folder in (root / stage, root / "work" / stage):
        if not folder.exists():
            continue
        name = f"{folder.relative_to(root).as_posix().replace('/', '-')}-{stamp}"
        target, num_tries = root / "superseded" / name, 0
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            num_tries += 1
            target = target.with_name(f"{name}~{num_tries}")
        folder.rename(target)


def write_atomic(path: Path, text: str) -> None:
    """Write the whole file, or leave the old one unchanged."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


# --- whether a stage's folder can be reused -------------------------------------------------------


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage's folder can be reused."""

    done: bool
    changed: tuple[str, ...] = ()
    """Settings and inputs in which the finished folder differs from the recipe."""


def stage_status(recipe: Recipe, root: Path, stage: str, *, version: int) -> StageStatus:
    """Compare a stage's finished folder with the recipe."""
    folder = root / stage
    if not (folder / "manifest.json").exists():
        return StageStatus(done=False)
    manifest = read_manifest(folder)
    changed = changed_settings(
        _saved_settings(folder, manifest["settings"], stage), stage_settings(recipe, stage)
    )
    if manifest["stage_version"] != version:
        changed.append(f"stage_version: {manifest['stage_version']} -> {version}")
    changed += changed_settings(
        manifest["inputs"], input_digests(recipe, root, stage), prefix="inputs"
    )
    return StageStatus(done=not changed, changed=tuple(changed))


def _saved_settings(folder: Path, settings: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    """The settings of a manifest, with those that did not exist then at their former defaults."""
    try:
        saved = parse_saved(settings, where=str(folder / "manifest.json"))
    except ConfigError:  # of settings that no longer exist; they are reported as changed
        return settings
    return stage_settings(saved, stage)


def changed_settings(old: Any, new: Any, *, prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            line
            for key in keys
            for line in changed_settings(old.get(key), new.get(key), prefix=f"{prefix}.{key}")
        ]
    return [] if old == new else [f"{prefix.lstrip('.')}: {old!r:.60} -> {new!r:.60}"]


def input_digests(recipe: Recipe, root: Path, stage: str) -> dict[str, str]:
    """Digests of what a stage reads: output of earlier stages, and files named in its section."""
    digests = {}
    for name, folder in stage_inputs(recipe, root, stage).items():
        if (folder / "manifest.json").exists():
            digests[name] = read_manifest(folder)["output_digest"]
    for file in _named_files(getattr(recipe, stage)):
        digests[file] = _file_digest(Path(file))
    return digests


def _named_files(section: Any) -> Iterator[str]:
    """Files named in a stage's section: `input`, sources, benchmarks, samples, a taxonomy."""
    paths = [getattr(section, "input", None)]
    for name, key in (("sources", "path"), ("benchmarks", "path"), ("arms", "samples")):
        paths += [getattr(item, key, None) for item in getattr(section, name, ())]
    contamination = getattr(section, "contamination", None)
    paths += [benchmark.path for benchmark in getattr(contamination, "benchmarks", ())]
    difficulty = getattr(section, "difficulty", None)
    paths += difficulty.sample_files() if difficulty else []
    taxonomy = getattr(getattr(section, "domains", None), "taxonomy", None)
    paths += [taxonomy] if taxonomy and Path(taxonomy).is_file() else []
    yield from (path for path in paths if path)


def _file_digest(path: Path) -> str:
    if path.is_dir():
        path = path / "data.parquet"
    if not path.exists():
        return "missing"
    return file_sha256(path)[:32]


# --- running one stage ----------------------------------------------------------------------------


def make_context(
    recipe: Recipe,
    root: Path,
    stage: str,
    *,
    notify: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StageContext:
    """The context of one attempt at a stage, with an empty output folder."""
    folder, work_folder = root / f"{stage}.partial", root / "work" / stage
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work_folder.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage=stage, recipe=recipe, root=root, folder=folder, work_folder=work_folder,
        inputs=stage_inputs(recipe, root, stage), notify=notify, progress=progress,
    )  # fmt: skip


def execute(
    context: StageContext, run: Callable[[StageContext], StageResult], *, version: int
) -> dict[str, Any]:
    """Run a stage, write its folder and return the manifest. The folder is complete or absent.

    Raises EngineError if the disk is full; finished stages stay.
    """
    started = time.monotonic()
    try:
        result = run(context)
        manifest = _write_result(
            context, result, version=version, seconds=time.monotonic() - started
        )
    except OSError as error:
        raise EngineError(
            f"{context.folder}: {error.strerror or error}. Nothing finished is lost. "
            "Free disk space or make the folder writable, then run the same command again."
        ) from error
    target = context.root / context.stage
    if target.exists():  # the old folder stays until the new one is complete
        supersede(context.root, context.stage)
    os.replace(context.folder, target)
    shutil.rmtree(context.work_folder, ignore_errors=True)
    return manifest


def _write_result(
    context: StageContext, result: StageResult, *, version: int, seconds: float
) -> dict[str, Any]:
    folder = context.folder
    write_records(folder / "data.parquet", result.records, result.record_type)
    write_records(folder / "dropped.parquet", result.dropped, Dropped)
    manifest = {
        "stage": context.stage,
        "stage_version": version,
        "settings": stage_settings(context.recipe, context.stage),
        "inputs": input_digests(context.recipe, context.root, context.stage),
        "output_digest": digest(
            [_file_digest(folder / "data.parquet"), result.facts.get("model_fingerprint")]
        ),
        "num_records": len(result.records),
        "num_dropped": len(result.dropped),
        "steps": [plain(step) | {"reasons": dict(step.reasons)} for step in result.steps],
        "facts": dict(result.facts),
        "wall_seconds": round(seconds, 3),
        "peak_rss_mb": peak_rss_mb(),
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


def peak_rss_mb() -> int:
    """Peak resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024 * 1024 if platform.system() == "Darwin" else 1024))
