"""The run folder: what each stage read, wrote and dropped, and whether it must run again.

    runs/NAME/
      recipe.yaml        settings, resolved ledger.sqlite      every chain and answer STAGE/
      data.parquet  dropped.parquet  manifest.json  (and what else the stage makes) work/STAGE/
      a stage's unfinished work: checkpoints superseded/        folders that --update replaced;
      nothing is deleted

A stage writes into `STAGE.partial/`, which is renamed when complete, so a folder of a stage's name
is always whole. Rows are sorted by id: the same decisions give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from slowthink.data.tables import read_records, write_records
from slowthink.environment import versions
from slowthink.errors import ConfigError, EngineError
from slowthink.recipe import STAGES, Recipe
from slowthink.recipe.loading import without_removed_settings
from slowthink.records import Dropped
from slowthink.sampling.ledger import Ledger
from slowthink.serialise import digest, plain

R = TypeVar("R")

# Settings outside its own section that change what a stage decides.
SHARED_KEYS: dict[str, tuple[str, ...]] = {
    "pool": ("seed",),
    "filter": ("seed", "model", "revision", "engine", "formats"),
    "trace": ("seed", "model", "revision"),
    "select": ("seed",),
    "train": ("seed", "model", "revision", "chat", "formats"),
    "evaluate": ("seed", "model", "revision", "engine", "chat", "formats"),
    "report": ("name", "seed"),
}
INPUTS: dict[str, tuple[str, ...]] = {
    "pool": (),
    "filter": ("pool",),
    "trace": ("filter", "pool"),
    "select": ("trace",),
    "train": ("select",),
    "evaluate": ("train", "pool"),
    "report": ("pool", "filter", "trace", "select", "train", "evaluate"),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the funnel: rows in, rows out, and why the others left."""

    name: str
    num_in: int
    num_out: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage hands over to be written."""

    records: Sequence[Any]
    record_type: type
    dropped: Sequence[Dropped] = ()
    steps: Sequence[Step] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """JSON for the manifest and the report: seeds, tokens, versions, warnings."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage is given to work with."""

    stage: str
    recipe: Recipe
    root: Path
    """The run folder."""
    folder: Path
    """Where this stage may write files of its own; becomes `root/STAGE` when the stage is done."""
    work: Path
    """Kept between attempts: checkpoints of unfinished work. Removed when the stage is done."""
    inputs: Mapping[str, Path]
    """Folders of the earlier stages that this recipe runs."""
    notify: Callable[[str], None] = print
    """Talk to the user; goes to stderr."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Told how much of the long work is done."""

    @property
    def config(self) -> Any:
        """This stage's own section of the recipe."""
        return getattr(self.recipe, self.stage)

    @property
    def ledger_path(self) -> Path:
        """The ledger that this run uses."""
        return Path(self.recipe.ledger) if self.recipe.ledger else self.root / "ledger.sqlite"

    def open_ledger(self) -> Ledger:
        """The ledger, ready; a context manager."""
        return Ledger(self.ledger_path, full_sync=self.recipe.ledger_sync == "full")

    def load(self, cls: type[R], *stages: str) -> list[R]:
        """Records of the first of these stages that the recipe runs, else of the section's `input`.

        Raises ConfigError where there is neither, DataError where the file has other rows.
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

    def manifest(self, stage: str) -> dict[str, Any]:
        """Manifest of an earlier stage."""
        return read_manifest(self.inputs[stage])


# --- manifests ------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict[str, Any]:
    """Manifest of a finished stage."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return manifest


def stage_settings(recipe: Recipe, stage: str) -> dict[str, Any]:
    """All settings that decide what this stage makes."""
    values = recipe.model_dump(mode="json")
    return {stage: values[stage], **{key: values[key] for key in SHARED_KEYS[stage]}}


def stage_inputs(recipe: Recipe, root: Path, stage: str) -> dict[str, Path]:
    """Folders of the earlier stages that this one reads."""
    present = recipe.stages()
    return {name: root / name for name in INPUTS[stage] if name in present}


def input_digests(recipe: Recipe, root: Path, stage: str) -> dict[str, str]:
    """What the stage reads: the outputs of earlier stages, and files that its section names."""
    digests = {}
    for name, folder in stage_inputs(recipe, root, stage).items():
        if (folder / "manifest.json").exists():
            digests[name] = read_manifest(folder)["output_digest"]
    for file in _named_files(getattr(recipe, stage)):
        digests[file] = _file_digest(Path(file))
    return digests


def _named_files(section: Any) -> Iterator[str]:
    """Files that a stage's section names: `input`, sources, sets, samples, a taxonomy."""
    paths = [getattr(section, "input", None)]
    for name, key in (("sources", "path"), ("benchmarks", "path"), ("arms", "samples")):
        paths += [getattr(item, key, None) for item in getattr(section, name, ())]
    checked = getattr(getattr(section, "contamination", None), "benchmarks", ())
    paths += [item.path for item in checked]
    difficulty = getattr(section, "difficulty", None)
    paths += difficulty.files() if difficulty else []
    taxonomy = getattr(getattr(section, "domains", None), "taxonomy", None)
    paths += [taxonomy] if taxonomy and Path(taxonomy).is_file() else []
    yield from (path for path in paths if path)


def _file_digest(path: Path) -> str:
    if path.is_dir():
        path = path / "data.parquet"
    if not path.exists():
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


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


# --- running one stage ----------------------------------------------------------------------------


@dataclass(frozen=True)
class StageStatus:
    """Whether a stage's folder can be used as it is."""

    done: bool
    changed: tuple[str, ...] = ()
    """Settings (or inputs) in which the finished folder differs from the recipe."""


def stage_status(recipe: Recipe, root: Path, stage: str, *, version: int) -> StageStatus:
    """Compare a stage's finished folder with what the recipe asks for."""
    folder = root / stage
    if not (folder / "manifest.json").exists():
        return StageStatus(done=False)
    manifest = read_manifest(folder)
    changed = changed_settings(
        without_removed_settings(manifest["settings"]), stage_settings(recipe, stage)
    )
    if manifest["stage_version"] != version:
        changed.append(f"stage_version: {manifest['stage_version']} -> {version}")
    changed += changed_settings(
        manifest["inputs"], input_digests(recipe, root, stage), prefix="inputs"
    )
    return StageStatus(done=not changed, changed=tuple(changed))


def supersede(root: Path, stage: str) -> None:
    """Move a stage's folder, and its unfinished work, to `superseded/`; nothing is deleted."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for folder in (root / stage, root / "work" / stage):
        if folder.exists():
            target = (
                root
                / "superseded"
                / f"{folder.relative_to(root).as_posix().replace('/', '-')}-{stamp}"
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            number = 0
            while target.exists():
                number += 1
                target = target.with_name(f"{target.name.split('~')[0]}~{number}")
            folder.rename(target)


def make_context(
    recipe: Recipe,
    root: Path,
    stage: str,
    *,
    notify: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StageContext:
    """Fresh folders for one attempt at a stage."""
    folder, work = root / f"{stage}.partial", root / "work" / stage
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage=stage, recipe=recipe, root=root, folder=folder, work=work,
        inputs=stage_inputs(recipe, root, stage), notify=notify,
        progress=progress,
    )  # fmt: skip


def execute(
    context: StageContext, run: Callable[[StageContext], StageResult], *, version: int
) -> dict[str, Any]:
    """Run a stage and put its folder in place, whole or not at all; returns the manifest.

    Raises EngineError where the disk is full: what was finished before stays.
    """
    started = time.monotonic()
    try:
        result = run(context)
        manifest = _write_result(
            context, result, version=version, seconds=time.monotonic() - started
        )
    except OSError as error:
        raise EngineError(
            f"{context.folder}: {error.strerror or error}. Nothing finished is lost; "
            "make room (or mend the folder) and give the same command again."
        ) from error
    final = context.root / context.stage
    if final.exists():  # the old one stays until its successor is whole
        supersede(context.root, context.stage)
    os.replace(context.folder, final)
    shutil.rmtree(context.work, ignore_errors=True)
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


def write_atomic(path: Path, text: str) -> None:
    """Write a whole file or leave the old one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def peak_rss_mb() -> int:
    """Largest resident memory of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024 * 1024 if platform.system() == "Darwin" else 1024))


def stages_after(stage: str) -> tuple[str, ...]:
    """The stages that come later."""
    return STAGES[STAGES.index(stage) + 1 :]
