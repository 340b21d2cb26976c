"""Checkpoints for resuming: each is complete or absent, and the last two are kept.

work/train/checkpoint-50/   weights, optimiser with fp32 masters, LR schedule, random state, log
    processes.json          {"num_processes": 2, "sharded": true}
    digests.json            SHA-256 of each file

Under FSDP2 there are no weights apart: each process writes its share of the optimiser, with its
masters, to `optimizer-RANK.pt`. A checkpoint is for the number of processes that wrote it.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from slowthink.data.manifests import file_digests
from slowthink.errors import ConfigError, DataError
from slowthink.serialise import file_sha256, is_file

PARTIAL = "partial"
"""Folder in which a checkpoint is written before it is moved into place."""
NUM_KEPT = 2
CANDIDATES = "candidates"
"""Folder of the models from which the development problems choose, see `candidates`."""
PROCESSES_FILE = "processes.json"
DIGESTS_FILE = "digests.json"


def checkpoints(work: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    paths = [path for path in work.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(paths, key=checkpoint_step)


def checkpoint_step(checkpoint: Path) -> int:
    """Number of optimiser steps before the checkpoint."""
    return int(checkpoint.name[11:])


def candidates(work: Path) -> dict[int, Path]:
    """Folders of the models saved by `checkpoint: dev`, by step, in order."""
    folders = (work / CANDIDATES).glob("step-*")
    return dict(sorted((int(folder.name[5:]), folder / "model") for folder in folders))


def move_into_place(work: Path) -> None:
    """Move a checkpoint from `partial/` into place, and remove all but the last two."""
    for checkpoint in checkpoints(work / PARTIAL):
        text = json.dumps(file_digests(checkpoint), indent=1)
        (checkpoint / DIGESTS_FILE).write_text(text, "utf-8")
        for file in checkpoint.iterdir():
            _fsync(file)
        target = work / checkpoint.name
        shutil.rmtree(target, ignore_errors=True)
        os.replace(checkpoint, target)
    _fsync(work)
    for old in checkpoints(work)[:-NUM_KEPT]:
        shutil.rmtree(old)


def check_files(checkpoint: Path) -> None:
    """Raise DataError unless a checkpoint's files are as they were written; without a record, they
    are not checked."""
    path = checkpoint / DIGESTS_FILE
    if not path.exists():
        return
    try:
        digests = dict(json.loads(path.read_text("utf-8")))
    except ValueError:
        digests = {DIGESTS_FILE: ""}
    for name, digest in digests.items():
        file = checkpoint / name
        if not is_file(file) or file_sha256(file) != digest:
            raise DataError(
                f"{file}: is missing or has changed since it was written; expected the checkpoint "
                "as training wrote it. Remove it, to resume from the one before it: "
                f"rm -r {checkpoint}"
            )


def write_processes(checkpoint: Path, *, num_processes: int, sharded: bool) -> None:
    """Record by how many processes a checkpoint was written, and how they shared the work."""
    text = json.dumps({"num_processes": num_processes, "sharded": sharded})
    (checkpoint / PROCESSES_FILE).write_text(text, "utf-8")


def check_processes(checkpoint: Path, *, num_processes: int, sharded: bool) -> None:
    """Raise ConfigError if other processes wrote the checkpoint; without a record, it was one."""
    path = checkpoint / PROCESSES_FILE
    saved = json.loads(path.read_text("utf-8")) if path.exists() else {}
    number, was_sharded = saved.get("num_processes", 1), saved.get("sharded", False)
    if (number, was_sharded) == (num_processes, sharded):
        return
    kind = {True: "fsdp2", False: "data"}
    raise ConfigError(
        f"{checkpoint}: was written by {number} process(es) with train.parallel "
        f"{kind[was_sharded]}, and this run has {num_processes} with {kind[sharded]}; expected the "
        f"same. Run with --processes {number} --set train.parallel={kind[was_sharded]}, or move "
        f"{checkpoint.parent} away to train from the start."
    )


def _fsync(path: Path) -> None:
    """Write a file or folder to the disk, before a rename makes it count as complete."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
