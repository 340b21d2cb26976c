"""Manifests of finished stages, and whether a stage's files are still as the stage wrote them.

    manifest["files"] == {"data.parquet": "9f86d081…", "model/model.safetensors": "60303ae2…"}

Files of a stage are checked whenever they are used: a bit that flipped on a disk would otherwise
change a result in silence. Manifests made before digests were recorded cover `data.parquet` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from slowthink.errors import DataError
from slowthink.serialise import digest, file_sha256

MANIFEST = "manifest.json"
TABLE = "data.parquet"
_REMEDY = (
    "Restore the file; or make this stage and the later ones anew, from cached completions: "
    "slowthink run RECIPE --update"
)
_REQUIRED: dict[str, type] = {
    "stage_version": int, "settings": dict, "inputs": dict, "output_digest": str,
    "num_records": int, "num_dropped": int, "facts": dict,
}  # fmt: skip


def _are_steps(value: Any) -> bool:
    """Steps of a stage: name, numbers of rows before and after, reasons by number."""
    return value is None or all(
        isinstance(step["name"], str)
        and type(step["num_in"]) is type(step["num_out"]) is int
        and isinstance(step.get("reasons") or {}, dict)
        for step in value
    )


def _are_versions(value: Any) -> bool:
    return value is None or all(isinstance(version, str) for version in value.values())


_OPTIONAL: dict[str, Callable[[Any], bool]] = {"steps": _are_steps, "versions": _are_versions}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Manifest of a finished stage, from the stage's folder. Raises DataError if it is damaged."""
    path = folder / MANIFEST
    try:
        if not path.is_file():
            raise ValueError("no such file")
        manifest = json.loads(path.read_text("utf-8"))
        wrong = [name for name, kind in _REQUIRED.items() if type(manifest.get(name)) is not kind]
        wrong += [name for name, is_form in _OPTIONAL.items() if not is_form(manifest.get(name))]
        problem = f"`{wrong[0]}` is missing or of another type" if wrong else ""
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    except (AttributeError, KeyError, TypeError):
        problem = "a value is missing or of another type"
    if problem:
        raise DataError(
            f"{path}: {problem[:200]}; expected the manifest as the stage wrote it. {_REMEDY}"
        )
    return dict(manifest)


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that a stage wrote, by its path in the stage's folder."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def output_digest(table_sha256: str, facts: Mapping[str, Any]) -> str:
    """Digest of a stage's output, which the manifests of later stages name as their input."""
    return digest([table_sha256[:32], facts.get("model_fingerprint")])


def check_files(folder: Path) -> None:
    """Raise DataError unless all files of a finished stage are as the stage wrote them."""
    for name, problem in _damages(folder, read_manifest(folder)):
        raise _damaged(folder, name, problem)


def check_table(folder: Path) -> None:
    """Raise DataError unless the rows of a stage's folder, which may be unfinished, are as written.

    A folder without a manifest is not checked.
    """
    if (folder / MANIFEST).exists():
        for name, problem in _damages(folder, read_manifest(folder)):
            if name == TABLE:
                raise _damaged(folder, name, problem)


def _damages(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and problem of each file that is not as written."""
    recorded = manifest.get("files")
    if not isinstance(recorded, dict):
        recorded = {TABLE: None}
    for name, sha256 in recorded.items():
        path = folder / name
        if not path.is_file():
            yield name, "no such file"
            continue
        found = file_sha256(path)
        is_as_written = found == sha256 if sha256 else True
        if name == TABLE:
            is_as_written &= output_digest(found, manifest["facts"]) == manifest["output_digest"]
        if not is_as_written:
            yield name, f"its SHA-256 is {found[:12]}…, not the manifest's"


def _damaged(folder: Path, name: str, problem: str) -> DataError:
    return DataError(
        f"{folder / name}: {problem}; expected the file as the stage wrote it. {_REMEDY}"
    )
