"""Checkpoints for resuming: each is complete or absent, and the last two are kept.

work/train/checkpoint-50/   weights, optimiser with fp32 masters, LR schedule, random state, log
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
    paths = [path for path in work.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(paths, key=checkpoint_step)


def checkpoint_step(checkpoint: Path) -> int:
    """Number of optimiser steps before the checkpoint."""
    return int(checkpoint.name[11:])


def move_into_place(work: Path) -> None:
    """Move a checkpoint from `partial/` into place, and remove all but the last two."""
    for checkpoint in checkpoints(work / PARTIAL):
        for file in checkpoint.iterdir():
            _fsync(file)
        target = work / checkpoint.name
        shutil.rmtree(target, ignore_errors=True)
        os.replace(checkpoint, target)
    _fsync(work)
    for old in checkpoints(work)[:-NUM_KEPT]:
        shutil.rmtree(old)


def _fsync(path: Path) -> None:
    """Write a file or folder to the disk, before a rename makes it count as complete."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
