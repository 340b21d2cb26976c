"""The folder of a training set: rows, the trainer's settings and a README; complete, or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slowthink.errors import DataError
from slowthink.export.training import ExportSource, TrainingRow, json_line
from slowthink.serialise import move_folder

ROWS_FILE = "train.jsonl"


@dataclass(frozen=True, kw_only=True)
class TrainerFiles:
    """What one form writes."""

    row: Callable[[TrainingRow], dict[str, Any]] | None
    """A line of `train.jsonl`. None: the form has no such file."""
    texts: dict[str, str] = field(default_factory=dict)
    """Further files, by name."""
    tables: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    """Files that are no text: by name, the function that writes them."""
    command: str = ""
    """How the trainer is started in the folder; empty if there is none."""
    notes: tuple[str, ...] = ()
    """What changes in this form, and what a user must know."""


def write_folder(target: Path, form: str, training: ExportSource, written: TrainerFiles) -> None:
    """Write everything, on the disk when this returns. Raises DataError if the folder exists."""
    check_absent(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name[:200]}.{os.getpid()}.tmp")
    partial.mkdir()
    try:
        if written.row is not None:
            with (partial / ROWS_FILE).open("w", encoding="utf-8") as file:
                file.writelines(json_line(written.row(row)) for row in training.rows)
        for name, text in {**written.texts, "README.md": _readme(form, training, written)}.items():
            (partial / name).write_text(text, encoding="utf-8")
        for name, write in written.tables.items():
            write(partial / name)
        if target.exists():  # an empty one
            target.rmdir()
        move_folder(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_absent(target: Path) -> None:
    """Raise DataError unless the folder is new or empty."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise DataError(
            f"{target}: exists already; expected a new or an empty folder, since nothing is "
            "overwritten. Name another folder: --out DIR, or move this one away."
        )


def _readme(form: str, training: ExportSource, written: TrainerFiles) -> str:
    """What is in the folder and how it is used, with everything that changes."""
    config, recipe = training.config, training.recipe
    num_problems = len({row.trace.problem.id for row in training.rows})
    lines = [
        f"# Training set of {recipe.name}, in the form of {form}",
        "",
        f"{len(training.rows)} chains for {num_problems} problems, selected by slowthink; base "
        f"model `{recipe.model}`, thinking format `{training.format.name}`; the longest row has "
        f"{'' if training.tokenizer is not None else 'about '}{training.longest} tokens.",
        "",
    ]
    if written.command:
        lines += [
            f"    {written.command}",
            "",
            f"In this folder. {training.num_steps} steps of {config.batch_size} rows, as in the "
            "recipe's train section; rows are shuffled in the trainer's own order. On N devices, "
            f"divide the {config.batch_size} accumulation steps by N.",
            "",
        ]
    notes = [f"- {note}" for note in written.notes]
    lines += ["Notes:", "", *notes, ""] if notes else []
    return "\n".join(lines)
