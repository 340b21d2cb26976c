"""`slowthink compare`: two runs, or two arms of one run, on the questions that both answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slowthink.cli.options import Json, print_result


def compare(
    run_a: Annotated[Path, typer.Argument(help="A run folder.")],
    run_b: Annotated[
        Path, typer.Argument(help="Another run folder, or the same to compare two arms.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="HTML page to write, with the questions whose result changed."),
    ] = None,
    arm_a: Annotated[
        str | None, typer.Option("--arm-a", help="Arm of the first run. Default: the tuned one.")
    ] = None,
    arm_b: Annotated[
        str | None, typer.Option("--arm-b", help="Arm of the second run. Default: the tuned one.")
    ] = None,
    json_: Json = False,
) -> None:
    """Compare two runs, or two arms of one run. Uses the questions that both answered.

    Example: slowthink compare runs/one runs/two --out compare.html
    """
    from slowthink.stages.report.compare import compare as compare_arms, difference_line, open_pair
    from slowthink.stages.report.compare_page import write_page

    pair = open_pair(run_a, run_b, arm_a=arm_a, arm_b=arm_b)
    data = compare_arms(pair)
    arm_names = [f"{arm['arm']} of {arm['run']}" for arm in (data["a"], data["b"])]
    page = write_page(pair, data, out) if out else "--out compare.html writes one"
    lines = [
        " -> ".join(arm_names),
        *map(difference_line, data["sets"]),
        f"page              {page}",
    ]
    print_result("\n".join(lines), data, as_json=json_)
