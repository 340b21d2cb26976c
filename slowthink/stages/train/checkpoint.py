"""Checkpoints for resuming: written whole or not at all, the last two kept.

work/train/checkpoint-50/   weights, optimiser with fp32 masters, schedule, random state, log
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PARTIAL = "partial"
"""Where one is written before it is moved into place."""
NUM_KEPT = 2


def checkpoints(work: Path) -> list[Path]:
    """The whole ones, oldest first."""
    found = [path for path in work.glob("checkpoint-*") if path.name[11:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[11:]))


def put_in_place(work: Path) -> None:
    """Move what was written under `partial/` into place, and remove all but the last two."""
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
    """Have the file's data on the disk before its name means it is there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
