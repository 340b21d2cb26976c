"""Options that several commands share, and the printing of a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from slowthink.serialise import printable


def _complete_recipe(incomplete: str) -> list[str]:
    from slowthink.recipe.loading import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A YAML file, the name of a shipped recipe, or a run folder.",
        autocompletion=_complete_recipe,
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder. Default: runs/NAME.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting, e.g. --set seed=1; may be repeated."),
]
Update = Annotated[
    bool,
    typer.Option(
        "--update",
        help="Rerun from the first changed stage; an old result, and all made from it, move to "
        "superseded/ when the new one is complete.",
    ),
]
Regrade = Annotated[
    bool, typer.Option("--regrade", help="Grade the stored answers again; generate nothing.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what is missing, done and planned; load no model.")
]
Preview = Annotated[
    int | None,
    typer.Option(
        "--preview", min=1, help="Show what teachers answer to this many problems; no stage runs."
    ),
]
Settings = Annotated[
    bool, typer.Option("--settings", help="As --dry-run, with all settings of the recipe.")
]
Runner = Annotated[
    str | None, typer.Option("--runner", help="Where rows are processed: local or ray (Ray Data).")
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", min=1, help="Processes that train together on this machine; one per GPU."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress messages.")]

MODEL_HELP = "Folder, hub id, or smollm2-135m."
Model = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
ThinkingFormat = Annotated[
    str, typer.Option("--format", help="Thinking format: auto, s1, think-tags, plain, …")
]
Cap = Annotated[int, typer.Option("--cap", min=0, help="Maximum number of thinking tokens.")]
Waits = Annotated[
    int,
    typer.Option(
        "--waits", min=0, help="How often the end of thinking is suppressed and 'Wait' appended."
    ),
]
WaitString = Annotated[
    list[str] | None,
    typer.Option("--wait-string", help="Text to append instead of 'Wait'; repeat to alternate."),
]
AnswerTokens = Annotated[
    int, typer.Option("--answer-tokens", help="Maximum number of answer tokens.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", help="Sampling temperature; 0 is greedy.")
]
Seed = Annotated[int, typer.Option("--seed", help="Random seed for sampling.")]


def print_result(text: str, data: Any, *, as_json: bool) -> None:
    """Print a command's result on stdout, as JSON or as text."""
    printed = json.dumps(data, indent=1, ensure_ascii=False) if as_json else text
    typer.echo(printable(printed))
