"""Rows of a set on a hub, in a folder that holds a copy of it, or in a file; with what they were.

open_set(HubSet(hub_id="openai/gsm8k", config="main"), setting="pool.sources.0").facts ==
    {"hub_id": "openai/gsm8k", "hub_config": "main", "split": "train", "revision": "e53f…"}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.data.rows import READERS, BadRow, SourceRow, read_rows
from slowthink.errors import ConfigError, DataError, missing_extra

COMMIT = re.compile(r"[0-9a-f]{40}")
_COMMIT_IN_PATH = re.compile(rf"[/\\]({COMMIT.pattern})[/\\]")


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """One split of a set."""

    hub_id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    """None: the newest."""
    files: tuple[str, ...] = ()
    """Files in the set, read instead of the split: for sets that only a script can load."""
    site: str = "huggingface"
    """huggingface | modelscope."""


@dataclass(frozen=True, kw_only=True)
class OpenedSet:
    """Rows that can be read once, and which they are."""

    name: str
    """Of the file or the hub's set; part of the rows' addresses."""
    rows: Iterable[SourceRow | BadRow]
    facts: dict[str, Any]
    """path and sha256 of a file; or hub_id, hub_config, split and revision (None: not known)."""


def open_file(path: str | Path, *, setting: str) -> OpenedSet:
    """Rows of a file. Raises DataError where it is missing or of another kind."""
    path = Path(path)
    rows = read_rows(path, setting=setting)
    return OpenedSet(name=path.name, rows=rows, facts={"path": str(path), "sha256": _sha256(path)})


def _sha256(path: Path) -> str | None:
    """None for no file: reading its rows says so."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_hub(wanted: HubSet, *, setting: str) -> OpenedSet:
    """Rows of a set on a hub, or in the local cache of it; HF_ENDPOINT names a mirror.

    Raises ConfigError where a package is not installed, and DataError where the set cannot be had
    or is cached at another commit than the one asked for.
    """
    if wanted.site == "modelscope":
        return open_folder(_from_modelscope(wanted, setting), wanted, setting=setting)
    found = _newest(wanted.hub_id, wanted.revision)
    if wanted.files:
        paths = [_hub_file(wanted, name, revision=found, setting=setting) for name in wanted.files]
        rows, loaded = _chained(paths, setting), _commit_in(str(paths[0])) or found
    else:
        data = _load(wanted, revision=found or wanted.revision, setting=setting)
        rows, loaded = _arrow_rows(data), _cached_revision(data) or found
    _check_commit(wanted, loaded, setting)
    return OpenedSet(name=wanted.hub_id, rows=rows, facts=_facts(wanted, loaded or wanted.revision))


def _facts(wanted: HubSet, revision: str | None) -> dict[str, Any]:
    return {
        "hub_id": wanted.hub_id,
        "hub_config": wanted.config,
        "split": wanted.split,
        "revision": revision,
    }


def _check_commit(wanted: HubSet, loaded: str | None, setting: str) -> None:
    asked = wanted.revision
    if asked and loaded and COMMIT.fullmatch(asked) and loaded != asked:
        raise DataError(
            f"{setting}.revision: {wanted.hub_id} is cached at {loaded}; expected {asked}, and the "
            f"hub is out of reach. Go online, or take the cached one: "
            f"--set {setting}.revision={loaded}"
        )


def _arrow_rows(data: Any) -> Iterator[SourceRow | BadRow]:
    number = 0
    for table in data.with_format("arrow").iter(batch_size=1024):
        for values in table.to_pylist():
            number += 1
            yield SourceRow(number, values)


def _chained(paths: Iterable[Path], setting: str) -> Iterator[SourceRow | BadRow]:
    """Rows of several files, numbered on."""
    number = 0
    for path in paths:
        for row in read_rows(path, setting=setting):
            number += 1
            if isinstance(row, SourceRow):
                yield SourceRow(number, row.values)
            else:
                yield BadRow(number, row.reason, row.evidence)


# --- a copy in a folder ---------------------------------------------------------------------------


def open_folder(folder: str | Path, wanted: HubSet, *, setting: str) -> OpenedSet:
    """Rows of a copy of a set: of the files whose paths name its configuration and its split.

    The folder is the copy, or holds it under its id. Raises DataError where there is none.
    """
    top = Path(folder)
    top = top / wanted.hub_id if (top / wanted.hub_id).is_dir() else top
    rows = _chained(_files_of(top, wanted, setting), setting)
    revision = _commit_in(f"{top.resolve()}/")
    return OpenedSet(name=wanted.hub_id, rows=rows, facts=_facts(wanted, revision))


def _files_of(top: Path, wanted: HubSet, setting: str) -> list[Path]:
    found = sorted(path for path in top.rglob("*") if path.suffix.lower() in READERS)
    left = [path for path in found if path.relative_to(top).as_posix() in wanted.files]
    if not wanted.files:
        left = found
        for word in filter(None, (wanted.config, wanted.split)):
            named = [path for path in left if word in _words(path.relative_to(top))]
            left = named or (left if len(left) == 1 else [])
    if not left:
        what = wanted.config or ", ".join(wanted.files) or wanted.hub_id
        names = ", ".join(path.name for path in found[:8]) or "none"
        raise DataError(
            f"{top}: no file of {what}, split {wanted.split}; the folder's are {names}. "
            f"Expected e.g. {wanted.split}.jsonl. Name the right folder, or take the hub: "
            f"see {setting}"
        )
    return left


def _words(path: Path) -> set[str]:
    """The parts of a path, with and without what a hub puts behind a split's name."""
    stem = path.stem
    return {*path.parts, stem, re.sub(r"-\d+-of-\d+.*$", "", stem), stem.split(".")[0]}


def _from_modelscope(wanted: HubSet, setting: str) -> Path:
    try:
        from modelscope.hub.snapshot_download import dataset_snapshot_download
    except ImportError:
        raise missing_extra("modelscope", extra="modelscope") from None
    try:
        return Path(dataset_snapshot_download(wanted.hub_id, revision=wanted.revision))
    except (OSError, ValueError, RuntimeError) as error:
        raise _out_of_reach(wanted, error, setting) from None


# --- the hub --------------------------------------------------------------------------------------


def _load(wanted: HubSet, *, revision: str | None, setting: str) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise ConfigError(
            f"{setting}: `datasets` is not installed; expected it, to load {wanted.hub_id} from "
            f"the hub. Run: pip install datasets, or name a file: --set {setting}.path=FILE"
        ) from None
    try:
        return load_dataset(wanted.hub_id, wanted.config, split=wanted.split, revision=revision)
    except (*_hub_errors(), DatasetsError) as error:
        raise _out_of_reach(wanted, error, setting) from None


def _out_of_reach(wanted: HubSet, error: Exception, setting: str) -> DataError:
    first = (str(error).strip().splitlines() or [""])[0]
    return DataError(
        f"{setting}: {wanted.hub_id} could not be loaded ({type(error).__name__}: {first[:200]}); "
        f"expected the hub, a mirror in HF_ENDPOINT, or a cached copy. Accept the set's terms "
        f"there if it has any, or name a file: --set {setting}.path=FILE"
    )


def _hub_file(wanted: HubSet, name: str, *, revision: str | None, setting: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise missing_extra("huggingface_hub", extra="train") from None
    asked = revision or wanted.revision
    try:
        found = hf_hub_download(wanted.hub_id, name, repo_type="dataset", revision=asked)
    except _hub_errors() as error:
        raise _out_of_reach(wanted, error, setting) from None
    return Path(found)


def _newest(hub_id: str, revision: str | None) -> str | None:
    """The commit that a revision, or the newest state, is now; None where the hub is not reached.

    Asked before loading, so that what is recorded is what is loaded.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        return None
    try:
        return HfApi().dataset_info(hub_id, revision=revision).sha
    except _hub_errors():
        return None


def _hub_errors() -> tuple[type[Exception], ...]:
    """What a hub out of reach, a gate or a wrong name raises, over the versions of its client."""
    import huggingface_hub.errors as errors

    return (OSError, ValueError, RuntimeError, getattr(errors, "HTTPError", OSError))


def _cached_revision(data: Any) -> str | None:
    """The commit in the path of a cached copy; None where it has none."""
    found = [_commit_in(str(one["filename"])) for one in data.cache_files]
    return next(filter(None, found), None)


def _commit_in(path: str) -> str | None:
    match = _COMMIT_IN_PATH.search(path)
    return match.group(1) if match else None
