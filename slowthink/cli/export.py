"""`slowthink export`: a run's training set or samples in the forms of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slowthink.cli.options import Json, Set, print_result

FORM_HELP = (
    "Of the training set: trl, llama-factory, ms-swift, axolotl, sharegpt, openai-chat, parquet. "
    "Of the samples: lm-eval, inspect."
)


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, after select or after evaluate.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    form: Annotated[str, typer.Option("--form", help=FORM_HELP)] = "lm-eval",
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Write a run's training set for a trainer, or its samples for an evaluation harness.

    Example: slowthink export runs/quickstart --form trl --out training-set
    """
    from slowthink.export import export_run

    data = export_run(run, out, form=form, settings=set_ or ())
    print_result("\n".join(_lines(data)), data, as_json=json_)


def _lines(data: dict[str, Any]) -> list[str]:
    if "num_samples" in data:
        lines = [
            f"{file['path']}: {file['num_problems']} problems, {file['num_samples']} samples"
            for file in data["files"]
        ]
        hint = "to evaluate them again: an arm with `samples: PATH` under evaluate.arms"
        return [*lines, hint] if data["form"] == "lm-eval" else lines
    lines = [
        f"{data['out']}: {data['num_rows']} chains for {data['num_problems']} problems in "
        f"{', '.join(data['files'])}",
        *(f"note: {note}" for note in data["notes"]),
    ]
    return [*lines, f"to train, in that folder: {data['command']}"] if data["command"] else lines
