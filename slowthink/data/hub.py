"""Rows of a dataset on a hub, in a folder with its copy, or in a file; and where they are from.

open_hub(HubDataset(hub_id="openai/gsm8k", config="main"), setting="pool.sources.0").facts ==
    {"hub_id": "openai/gsm8k", "hub_config": "main", "split": "train", "revision": "e53f…"}
"""

from __future__ import annotations

import os
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
class HubDataset:
    """One split of a dataset on a hub."""

    hub_id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    """None: the newest."""
    files: tuple[str, ...] = ()
    """Files to read instead of the split, for datasets that only a script can load."""
    site: str = "huggingface"
    """huggingface | modelscope."""


@dataclass(frozen=True, kw_only=True)
class OpenedDataset:
    """Rows that can be read once, and where they are from."""

    name: str
    """The file's name or the dataset's id; part of the rows' locations."""
    rows: Iterable[SourceRow | BadRow]
    facts: dict[str, Any]
    """path and sha256 of a file; or hub_id, hub_config, split and revision (None: unknown)."""


def open_file(path: str | Path, *, setting: str) -> OpenedDataset:
    """Rows of a file. Reading them raises DataError if it is missing or of an unsupported type."""
    path = Path(path)
    sha256 = file_sha256(path) if path.is_file() else None
    rows = read_rows(path, setting=setting)
    return OpenedDataset(name=path.name, rows=rows, facts={"path": str(path), "sha256": sha256})


def open_hub(dataset: HubDataset, *, setting: str) -> OpenedDataset:
    """Rows of a dataset on a hub, or in its local cache; HF_ENDPOINT names a mirror.

    Raises ConfigError if a package is not installed, and DataError if the dataset is unavailable or
    cached at another commit than the requested one.
    """
    if dataset.site == "modelscope":
        return open_folder(_download_from_modelscope(dataset, setting), dataset, setting=setting)
    commit = _resolve_commit(dataset.hub_id, dataset.revision)
    if dataset.files:
        paths = [
            _download(dataset, name, revision=commit, setting=setting) for name in dataset.files
        ]
        rows, loaded_commit = _read_files(paths, setting), _commit_in_path(str(paths[0])) or commit
    else:
        data = _load_split(dataset, revision=commit or dataset.revision, setting=setting)
        rows, loaded_commit = _read_arrow_rows(data), _cached_commit(data) or commit
    _check_commit(dataset, loaded_commit, setting)
    facts = _source_facts(dataset, loaded_commit or dataset.revision)
    return OpenedDataset(name=dataset.hub_id, rows=rows, facts=facts)


def can_download(dataset: HubDataset) -> bool:
    """Whether the Hub may be asked for this dataset: not with HF_HUB_OFFLINE, nor, where `datasets`
    loads it, with HF_DATASETS_OFFLINE. Also without the packages for it, which `open_hub` names."""
    try:
        from huggingface_hub.constants import ENV_VARS_TRUE_VALUES, HF_HUB_OFFLINE
    except ImportError:
        return True
    is_offline = os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES
    return not (HF_HUB_OFFLINE or (is_offline and not dataset.files))


def is_cached(dataset: HubDataset) -> bool:
    """Whether `open_hub` has a copy to open without a network, of any configuration: files in the
    Hub's cache, what `datasets` prepared from them, or a folder of the dataset's name, which
    `datasets` prefers. Asks no network."""
    try:
        from huggingface_hub import constants, try_to_load_from_cache
    except ImportError:
        return False
    if dataset.files:
        paths = [
            try_to_load_from_cache(
                dataset.hub_id, name, repo_type="dataset", revision=dataset.revision
            )
            for name in dataset.files
        ]
        return all(isinstance(path, str) for path in paths)
    if Path(dataset.hub_id).is_dir():
        return True
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME, "datasets"))
    owner, _, name = dataset.hub_id.rpartition("/")
    # `datasets` writes names in snake case: owner___math-500/default/0.0.0/COMMIT.
    name = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name))
    folder = cache.expanduser() / "___".join(filter(None, (owner, name.lower())))
    return any(copy.is_dir() for copy in folder.glob("*/*/*"))


def _source_facts(dataset: HubDataset, revision: str | None) -> dict[str, Any]:
    return {
        "hub_id": dataset.hub_id,
        "hub_config": dataset.config,
        "split": dataset.split,
        "revision": revision,
    }


def _check_commit(dataset: HubDataset, loaded: str | None, setting: str) -> None:
    requested = dataset.revision
    if requested and loaded and COMMIT.fullmatch(requested) and loaded != requested:
        raise DataError(
            f"{setting}.revision: {dataset.hub_id} is cached at {loaded}; expected {requested}, "
            f"and the hub is unreachable. Go online, or use the cached commit: "
            f"--set {setting}.revision={loaded}"
        )


def _read_arrow_rows(data: Any) -> Iterator[SourceRow | BadRow]:
    batches = data.with_format("arrow").iter(batch_size=1024)
    values = (row for table in batches for row in table.to_pylist())
    return (SourceRow(line, row) for line, row in enumerate(values, start=1))


def _read_files(paths: Iterable[Path], setting: str) -> Iterator[SourceRow | BadRow]:
    """Rows of several files, numbered consecutively."""
    rows = (row for path in paths for row in read_rows(path, setting=setting))
    return (replace(row, line=line) for line, row in enumerate(rows, start=1))


# --- a copy in a folder ---------------------------------------------------------------------------


def open_folder(folder: str | Path, dataset: HubDataset, *, setting: str) -> OpenedDataset:
    """Rows of a copy of a dataset: of the files whose paths name its configuration and its split.

    The copy is the folder itself, or in its subfolder named by the dataset's id. Raises DataError
    if no file matches.
    """
    root = Path(folder)
    root = root / dataset.hub_id if (root / dataset.hub_id).is_dir() else root
    rows = _read_files(_matching_files(root, dataset, setting), setting)
    facts = _source_facts(dataset, _commit_in_path(f"{root.resolve()}/"))
    return OpenedDataset(name=dataset.hub_id, rows=rows, facts=facts)


def _matching_files(root: Path, dataset: HubDataset, setting: str) -> list[Path]:
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in READERS)
    matching = [path for path in files if path.relative_to(root).as_posix() in dataset.files]
    if not dataset.files:
        matching = files
        for name in filter(None, (dataset.config, dataset.split)):
            with_name = [
                path for path in matching if name in _names_in_path(path.relative_to(root))
            ]
            matching = with_name or (matching if len(matching) == 1 else [])
    if not matching:
        wanted = dataset.config or ", ".join(dataset.files) or dataset.hub_id
        names = ", ".join(path.name for path in files[:8]) or "none"
        raise DataError(
            f"{root}: no file of {wanted}, split {dataset.split}; the folder's are {names}. "
            f"Expected e.g. {dataset.split}.jsonl. Name the right folder, or use the hub: "
            f"see {setting}"
        )
    return matching


def _names_in_path(path: Path) -> set[str]:
    """The parts of a path; its file name also without the suffixes that a hub adds to a split."""
    stem = path.stem
    return {*path.parts, stem, re.sub(r"-\d+-of-\d+.*$", "", stem), stem.split(".")[0]}


def _download_from_modelscope(dataset: HubDataset, setting: str) -> Path:
    try:
        from modelscope.hub.snapshot_download import dataset_snapshot_download
    except ImportError:
        raise missing_extra("modelscope", extra="modelscope") from None
    try:
        return Path(dataset_snapshot_download(dataset.hub_id, revision=dataset.revision))
    except (OSError, ValueError, RuntimeError) as error:
        raise _unavailable_error(dataset, error, setting) from None


# --- the hub --------------------------------------------------------------------------------------


def _load_split(dataset: HubDataset, *, revision: str | None, setting: str) -> Any:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise ConfigError(
            f"{setting}: `datasets` is not installed; expected it, to load {dataset.hub_id} from "
            f"the hub. Run: pip install datasets, or name a file: --set {setting}.path=FILE"
        ) from None
    try:
        return load_dataset(dataset.hub_id, dataset.config, split=dataset.split, revision=revision)
    except (*_hub_errors(), DatasetsError) as error:
        raise _unavailable_error(dataset, error, setting) from None


def _unavailable_error(dataset: HubDataset, error: Exception, setting: str) -> DataError:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return DataError(
        f"{setting}: {dataset.hub_id} could not be loaded ({type(error).__name__}: "
        f"{first_line[:200]}); expected the hub, a mirror in HF_ENDPOINT, or a cached copy. "
        f"Accept the dataset's terms there if it has any, or name a file: --set {setting}.path=FILE"
    )


def _download(dataset: HubDataset, name: str, *, revision: str | None, setting: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise missing_extra("huggingface_hub", extra="train") from None
    revision = revision or dataset.revision
    try:
        return Path(hf_hub_download(dataset.hub_id, name, repo_type="dataset", revision=revision))
    except _hub_errors() as error:
        raise _unavailable_error(dataset, error, setting) from None


def _resolve_commit(hub_id: str, revision: str | None) -> str | None:
    """The commit of a revision, or the newest one; None if the hub is unreachable.

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
    """Exceptions of all client versions for an unreachable hub, a gated dataset or a wrong name."""
    import huggingface_hub.errors as errors

    return (OSError, ValueError, RuntimeError, getattr(errors, "HTTPError", OSError))


def _cached_commit(data: Any) -> str | None:
    """The commit in the path of a cached copy; None if there is none."""
    commits = (_commit_in_path(str(file["filename"])) for file in data.cache_files)
    return next(filter(None, commits), None)


def _commit_in_path(path: str) -> str | None:
    match = _COMMIT_IN_PATH.search(path)
    return match.group(1) if match else None
