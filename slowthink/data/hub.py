"""Rows of a set on a hub, in a folder with a copy of it, or in a file; and where they are from.

open_hub(HubSet(hub_id="openai/gsm8k", config="main"), setting="pool.sources.0").facts ==
    {"hub_id": "openai/gsm8k", "hub_config": "main", "split": "train", "revision": "e53f…"}
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slowthink.data.rows import READERS, BadRow, SourceRow, read_rows
from slowthink.errors import ConfigError, DataError, missing_extra
from slowthink.serialise import file_sha256

COMMIT = re.compile(r"[0-9a-f]{40}")
_COMMIT_IN_PATH = re.compile(rf"[/\\]({COMMIT.pattern})[/\\]")


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """One split of a set on a hub."""

    hub_id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    """None: the newest."""
    files: tuple[str, ...] = ()
    """Files of the set to read instead of the split, for sets that only a script can load."""
    site: str = "huggingface"
    """huggingface | modelscope."""


@dataclass(frozen=True, kw_only=True)
class OpenedSet:
    """Rows that can be read once, and where they are from."""

    name: str
    """Of the file or the hub's set; part of the rows' addresses."""
    rows: Iterable[SourceRow | BadRow]
    facts: dict[str, Any]
    """path and sha256 of a file; or hub_id, hub_config, split and revision (None: not known)."""


def open_file(path: str | Path, *, setting: str) -> OpenedSet:
    """Rows of a file. Reading them raises DataError where it is missing or of another kind."""
    path = Path(path)
    sha256 = file_sha256(path) if path.is_file() else None
    rows = read_rows(path, setting=setting)
    return OpenedSet(name=path.name, rows=rows, facts={"path": str(path), "sha256": sha256})


def open_hub(hub_set: HubSet, *, setting: str) -> OpenedSet:
    """Rows of a set on a hub, or in the local cache of it; HF_ENDPOINT names a mirror.

    Raises ConfigError where a package is not installed, and DataError where the set is unavailable
    or cached at another commit than the requested one.
    """
    if hub_set.site == "modelscope":
        return open_folder(_from_modelscope(hub_set, setting), hub_set, setting=setting)
    commit = _resolve_commit(hub_set.hub_id, hub_set.revision)
    if hub_set.files:
        paths = [
            _hub_file(hub_set, name, revision=commit, setting=setting) for name in hub_set.files
        ]
        rows, loaded = _chain_files(paths, setting), _commit_in(str(paths[0])) or commit
    else:
        data = _load_split(hub_set, revision=commit or hub_set.revision, setting=setting)
        rows, loaded = _arrow_rows(data), _cached_commit(data) or commit
    _check_commit(hub_set, loaded, setting)
    facts = _facts(hub_set, loaded or hub_set.revision)
    return OpenedSet(name=hub_set.hub_id, rows=rows, facts=facts)


def _facts(hub_set: HubSet, revision: str | None) -> dict[str, Any]:
    return {
        "hub_id": hub_set.hub_id,
        "hub_config": hub_set.config,
        "split": hub_set.split,
        "revision": revision,
    }


def _check_commit(hub_set: HubSet, loaded: str | None, setting: str) -> None:
    requested = hub_set.revision
    if requested and loaded and COMMIT.fullmatch(requested) and loaded != requested:
        raise DataError(
            f"{setting}.revision: {hub_set.hub_id} is cached at {loaded}; expected {requested}, "
            f"and the hub is unreachable. Go online, or use the cached commit: "
            f"--set {setting}.revision={loaded}"
        )


def _arrow_rows(data: Any) -> Iterator[SourceRow | BadRow]:
    batches = data.with_format("arrow").iter(batch_size=1024)
    values = (row for table in batches for row in table.to_pylist())
    return (SourceRow(number, row) for number, row in enumerate(values, start=1))


def _chain_files(paths: Iterable[Path], setting: str) -> Iterator[SourceRow | BadRow]:
    """Rows of several files, numbered consecutively."""
    rows = (row for path in paths for row in read_rows(path, setting=setting))
    return (replace(row, line=number) for number, row in enumerate(rows, start=1))


# --- a copy in a folder ---------------------------------------------------------------------------


def open_folder(folder: str | Path, hub_set: HubSet, *, setting: str) -> OpenedSet:
    """Rows of a copy of a set: of the files whose paths name its configuration and its split.

    The copy is the folder itself, or is in it under the set's id. Raises DataError where no file
    matches.
    """
    top = Path(folder)
    top = top / hub_set.hub_id if (top / hub_set.hub_id).is_dir() else top
    rows = _chain_files(_matching_files(top, hub_set, setting), setting)
    facts = _facts(hub_set, _commit_in(f"{top.resolve()}/"))
    return OpenedSet(name=hub_set.hub_id, rows=rows, facts=facts)


def _matching_files(top: Path, hub_set: HubSet, setting: str) -> list[Path]:
    files = sorted(path for path in top.rglob("*") if path.suffix.lower() in READERS)
    matching = [path for path in files if path.relative_to(top).as_posix() in hub_set.files]
    if not hub_set.files:
        matching = files
        for name in filter(None, (hub_set.config, hub_set.split)):
            named = [path for path in matching if name in _path_names(path.relative_to(top))]
            matching = named or (matching if len(matching) == 1 else [])
    if not matching:
        what = hub_set.config or ", ".join(hub_set.files) or hub_set.hub_id
        names = ", ".join(path.name for path in files[:8]) or "none"
        raise DataError(
            f"{top}: no file of {what}, split {hub_set.split}; the folder's are {names}. "
            f"Expected e.g. {hub_set.split}.jsonl. Name the right folder, or use the hub: "
            f"see {setting}"
        )
    return matching


def _path_names(path: Path) -> set[str]:
    """The parts of a path, with and without the suffixes that a hub adds to a split's name."""
    stem = path.stem
    return {*path.parts, stem, re.sub(r"-\d+-of-\d+.*$", "", stem), stem.split(".")[0]}


def _from_modelscope(hub_set: HubSet, setting: str) -> Path:
    try:
        from modelscope.hub.snapshot_download import dataset_snapshot_download
    except ImportError:
        raise missing_extra("modelscope", extra="modelscope") from None
    try:
        return Path(dataset_snapshot_download(hub_set.hub_id, revision=hub_set.revision))
    except (OSError, ValueError, RuntimeError) as error:
        raise _unavailable(hub_set, error, setting) from None


# --- the hub --------------------------------------------------------------------------------------


def _load_split(hub_set: HubSet, *, revision: str | None, setting: str) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise ConfigError(
            f"{setting}: `datasets` is not installed; expected it, to load {hub_set.hub_id} from "
            f"the hub. Run: pip install datasets, or name a file: --set {setting}.path=FILE"
        ) from None
    try:
        return load_dataset(hub_set.hub_id, hub_set.config, split=hub_set.split, revision=revision)
    except (*_hub_errors(), DatasetsError) as error:
        raise _unavailable(hub_set, error, setting) from None


def _unavailable(hub_set: HubSet, error: Exception, setting: str) -> DataError:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return DataError(
        f"{setting}: {hub_set.hub_id} could not be loaded ({type(error).__name__}: "
        f"{first_line[:200]}); expected the hub, a mirror in HF_ENDPOINT, or a cached copy. "
        f"Accept the set's terms there if it has any, or name a file: --set {setting}.path=FILE"
    )


def _hub_file(hub_set: HubSet, name: str, *, revision: str | None, setting: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise missing_extra("huggingface_hub", extra="train") from None
    revision = revision or hub_set.revision
    try:
        return Path(hf_hub_download(hub_set.hub_id, name, repo_type="dataset", revision=revision))
    except _hub_errors() as error:
        raise _unavailable(hub_set, error, setting) from None


def _resolve_commit(hub_id: str, revision: str | None) -> str | None:
    """The commit of a revision, or the newest one; None where the hub is unreachable.

    Resolved before loading, so that the recorded commit is the loaded one.
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
    """What the client's versions raise for an unreachable hub, a gated set or a wrong name."""
    import huggingface_hub.errors as errors

    return (OSError, ValueError, RuntimeError, getattr(errors, "HTTPError", OSError))


def _cached_commit(data: Any) -> str | None:
    """The commit in the path of a cached copy; None where there is none."""
    commits = (_commit_in(str(file["filename"])) for file in data.cache_files)
    return next(filter(None, commits), None)


def _commit_in(path: str) -> str | None:
    match = _COMMIT_IN_PATH.search(path)
    return match.group(1) if match else None
