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
      superseded/          folders that --update replaced, and an edited recipe

A folder that has none of these, but other files, is refused: nothing that slowthink did not write
is overwritten or deleted. The digests of a stage's files, in its manifest, are checked on use.

A stage writes into `STAGE.partial/`, which is renamed when complete, so a folder named after a
stage is always complete. Rows are sorted by id: the same decisions give the same bytes.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import platform
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slowthink.data.manifests import check_files, file_digests, output_digest, read_manifest
from slowthink.data.reviews import review_digest, review_file
from slowthink.data.tables import write_records
from slowthink.environment import versions
from slowthink.errors import ConfigError, DataError, EngineError
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    stage_inputs,
    stage_settings,
)
from slowthink.recipe import STAGES, Recipe
from slowthink.recipe.saved import parse_saved
from slowthink.records import Dropped
from slowthink.serialise import file_sha256, load_yaml, move_folder, plain, sync, write_atomic

NEUTRAL_FILES = frozenset(
    {"run.lock", *(f"ledger.sqlite{end}" for end in ("", ".lock", "-wal", "-shm", "-journal"))}
)
"""Files with which a folder still counts as empty: a lock, and a ledger copied there for reuse."""
MANY_ROWS = 10_000
"""Rows that take so long to write that it is reported."""
OWN_FOLDER = ".made-by-slowthink"
"""A file in the folders that hold unfinished work, which are removed when it is finished."""

# --- files of a run -------------------------------------------------------------------------------


@contextmanager
def locked(root: Path) -> Iterator[int]:
    """Lock the run folder, since two processes in one folder would overwrite each other's work.

    Makes the folder. Yields the lock's file descriptor. Raises ConfigError if the folder is
    somebody else's, EngineError if another process holds the lock or the folder is not writable.
    """
    check_run_folder(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / "run.lock").open("a")
    except OSError as error:
        raise folder_error(root, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(
                f"{root}: another slowthink process is using this run folder. "
                "Wait until it ends, or choose another --out."
            ) from None
        RunLog(root).mark()
        yield file.fileno()


def check_run_folder(root: Path) -> None:
    """Raise ConfigError unless a run may write here: the folder is absent, empty, or a run's."""
    try:
        names = sorted(path.name for path in root.iterdir()) if root.exists() else []
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{str(root)[:200]}: {getattr(error, 'strerror', None) or error}; expected a folder "
            "for the run, or a new name. Choose another: --out DIR"
        ) from None
    others = [name for name in names if name not in NEUTRAL_FILES]
    if others and not is_run_folder(root):
        shown = ", ".join(f"`{name}`" for name in others[:3]) + ("…" if len(others) > 3 else "")
        raise ConfigError(
            f"{root}: has files that no run of slowthink wrote ({shown}); expected a new or empty "
            "folder, or that of an earlier run. Choose another: --out DIR"
        )


def is_run_folder(root: Path) -> bool:
    """Whether slowthink made this folder: by `run.json`, or by its recipe and a stage's manifest,
    as runs of older versions have them."""
    stages = (root / stage / "manifest.json" for stage in STAGES)
    return _is_run_log(_read_json(root / "run.json")) or (
        (root / "recipe.yaml").is_file() and any(path.is_file() for path in stages)
    )


def folder_error(folder: Path, error: OSError) -> EngineError:
    """The error for a folder of a run that cannot be written."""
    return EngineError(
        f"{folder}: {error.strerror or error}; expected a folder that can be written. Nothing "
        "finished is lost. Free disk space, make the folder writable or choose another --out, "
        "then run the same command again."
    )


def write_recipe(recipe: Recipe, root: Path) -> None:
    """Write all settings into `recipe.yaml`; one that somebody edited moves to `superseded/`."""
    path = root / "recipe.yaml"
    text = _recipe_text(recipe.model_dump(mode="json"))
    if path.exists() and path.read_bytes() != text.encode():
        if _is_edited(path):
            set_aside(root, path)
        write_atomic(path, text)
    elif not path.exists():
        write_atomic(path, text)


def _is_edited(path: Path) -> bool:
    """Whether a recipe has comments, or another form than ours."""
    try:
        text = path.read_text("utf-8")
        return _recipe_text(load_yaml(text)) != text
    except (ValueError, yaml.YAMLError):
        return True


def _recipe_text(settings: Any) -> str:
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


class RunLog:
    """`run.json`: wall time spent on a run folder by all commands that ran a stage in it, and the
    choices for `auto` settings."""

    def __init__(self, root: Path) -> None:
        self._path = root / "run.json"
        self._started = time.monotonic()
        self._data: dict[str, Any] = {"wall_seconds": 0.0, "seconds": {}}
        if self._path.exists():
            saved = _read_json(self._path)
            if not _is_run_log(saved):
                raise DataError(
                    f"{self._path}: is damaged; expected JSON with `wall_seconds` and `seconds`, "
                    "as slowthink wrote it. It has only times: move it away, then run the same "
                    "command again."
                )
            self._data |= saved
        self._seconds_before = self._data["wall_seconds"]

    def mark(self) -> None:
        """Write the file unless it is there: it marks the folder as a run's."""
        if not self._path.exists():
            self._write()

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


def _read_json(path: Path) -> Any:
    """The file's data; None if it is absent or damaged, or no file but e.g. a pipe."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_run_log(data: Any) -> bool:
    """Whether this is the data of a `run.json`."""
    if not isinstance(data, dict) or not isinstance(data.get("seconds"), dict):
        return False
    return type(data.get("wall_seconds")) in (int, float) and isinstance(data.get("auto", {}), dict)


def supersede(root: Path, stage: str) -> None:
    """Move a stage's folder, and its unfinished work, to `superseded/`; nothing is deleted."""
    for folder in (root / stage, root / "work" / stage):
        set_aside(root, folder)


def set_aside(root: Path, path: Path) -> None:
    """Move a file or folder of a run, if it is there, to `superseded/`, under a new name."""
    if not os.path.lexists(path):
        return
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{path.relative_to(root).as_posix().replace('/', '-')}-{stamp}"
    target, num_tries = root / "superseded" / name, 0
    target.parent.mkdir(parents=True, exist_ok=True)
    while os.path.lexists(target):
        num_tries += 1
        target = target.with_name(f"{name}~{num_tries}")
    path.rename(target)
    sync(target.parent)
    sync(path.parent)


# --- whether a stage's folder can be reused -------------------------------------------------------


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage's folder can be reused."""

    done: bool
    changed: tuple[str, ...] = ()
    """Settings and inputs in which the finished folder differs from the recipe."""


def stage_status(recipe: Recipe, root: Path, stage: str, *, version: int) -> StageStatus:
    """Compare a stage's finished folder with the recipe. Raises DataError if it is damaged."""
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
    if not changed:
        check_files(folder)
    return StageStatus(done=not changed, changed=tuple(changed))


def _saved_settings(folder: Path, settings: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    """The settings of a manifest, with those that did not exist then at their former defaults."""
    try:
        saved = parse_saved(settings, where=str(folder / "manifest.json"))
    except ConfigError:  # of settings that no longer exist; they are reported as changed
        return settings
    return stage_settings(saved, stage)


def changed_settings(old: Any, new: Any, *, prefix: str = "") -> list[str]:
    """Dotted names of the settings that differ, down to the items of lists, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            line
            for key in keys
            for line in changed_settings(old.get(key), new.get(key), prefix=f"{prefix}.{key}")
        ]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        pairs = itertools.zip_longest(old, new)
        return [
            line
            for index, (old_item, new_item) in enumerate(pairs)
            for line in changed_settings(old_item, new_item, prefix=f"{prefix}.{index}")
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
    review = review_file(getattr(getattr(recipe, stage), "review", None), root)
    if review and (judged := review_digest(review)):
        digests["review"] = judged
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
    quiet: bool = False,
) -> StageContext:
    """The context of one attempt at a stage, with an empty output folder."""
    folder, work_folder = root / f"{stage}.partial", root / "work" / stage
    try:
        _remove(folder)
        set_aside(root, folder)  # somebody else's
        _make(folder)
        if not work_folder.is_dir():
            _make(work_folder)
    except OSError as error:
        raise folder_error(root, error) from None
    return StageContext(
        stage=stage, recipe=recipe, root=root, folder=folder, work_folder=work_folder,
        inputs=stage_inputs(recipe, root, stage), notify=notify, progress=progress,
        quiet=quiet,
    )  # fmt: skip


def _make(folder: Path) -> None:
    """Make a folder that `_remove` may remove."""
    folder.mkdir(parents=True)
    (folder / OWN_FOLDER).touch()


def renew_work_folder(context: StageContext) -> None:
    """Move the stage's unfinished work to `superseded/`, and make its folder anew."""
    set_aside(context.root, context.work_folder)
    _make(context.work_folder)


def _remove(folder: Path) -> None:
    """Remove a folder with its files if `_make` made it; nothing else."""
    if (folder / OWN_FOLDER).is_file() and not folder.is_symlink():
        shutil.rmtree(folder)


def execute(
    context: StageContext, run: Callable[[StageContext], StageResult], *, version: int
) -> dict[str, Any]:
    """Run a stage, write its folder and return the manifest. The folder is complete or absent.

    Raises DataError if the files of an earlier stage are damaged, EngineError if the disk is full;
    finished stages stay.
    """
    started = time.monotonic()
    for folder in context.inputs.values():
        if (folder / "manifest.json").exists():
            check_files(folder)
    try:
        result = run(context)
        manifest = _write_result(
            context, result, version=version, seconds=time.monotonic() - started
        )
        target = context.root / context.stage
        set_aside(context.root, target)  # the old folder stays until the new one is complete
        move_folder(context.folder, target)
        _remove(context.work_folder)
    except OSError as error:
        raise folder_error(context.folder, error) from error
    return manifest


def _write_result(
    context: StageContext, result: StageResult, *, version: int, seconds: float
) -> dict[str, Any]:
    folder, num_rows = context.folder, len(result.records)
    if num_rows >= MANY_ROWS:
        context.notify(f"{context.stage}: writing {num_rows} rows")
    write_records(folder / "data.parquet", result.records, result.record_type)
    write_records(folder / "dropped.parquet", result.dropped, Dropped)
    (folder / OWN_FOLDER).unlink(missing_ok=True)
    files = file_digests(folder)
    manifest = {
        "stage": context.stage,
        "stage_version": version,
        "settings": stage_settings(context.recipe, context.stage),
        "inputs": input_digests(context.recipe, context.root, context.stage),
        "output_digest": output_digest(files["data.parquet"], result.facts),
        "files": files,
        "num_records": num_rows,
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
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins with the peak of the process that started this
        peak_line = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if peak_line:
            return int(peak_line[1]) // 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024 * 1024 if platform.system() == "Darwin" else 1024))
