"""Checkpoints for resuming: complete or absent; the last two are kept.

work/train/checkpoint-50/   weights, optimiser with fp32 masters, schedule, random state, log
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PARTIAL = "partial"
"""Folder in which a checkpoint is written before it is moved into place."""
NUM_KEPT = 2


def checkpoints(work: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    complete = [path for path in work.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(complete, key=checkpoint_step)


def checkpoint_step(checkpoint: Path) -> int:
    """Number of optimiser steps before the checkpoint."""
    return int(checkpoint.name[11:])


def move_into_place(work: Path) -> None:
    """Move the checkpoint in `partial/` into place, and remove all but the last two."""
    for written in checkpoints(work / PARTIAL):
        for file in written.iterdir():
            _flush(file)
        target = work / written.name
        shutil.rmtree(target, ignore_errors=True)
        os.replace(written, target)
    _flush(work)
    for old in checkpoints(work)[:-NUM_KEPT]:
        shutil.rmtree(old)


def _flush(path: Path) -> None:
    """Write the file's data to the disk before its name shows it as complete."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
