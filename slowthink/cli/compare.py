"""`slowthink compare`: two runs, two arms, or two files of samples, on shared questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json, print_result
from slowthink.cli.passk import report_samples
from slowthink.errors import ConfigError


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A run folder, or a file of samples as in `passk`.")
    ],
    b: Annotated[
        Path,
        typer.Argument(
            metavar="B", help="Another one; the same run folder or file compares two of its arms."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="HTML page to write (of runs), with the questions whose result changed."
        ),
    ] = None,
    arm_a: Annotated[
        str | None,
        typer.Option(
            "--arm-a", help="Arm of the first run (default: the tuned one), or its model."
        ),
    ] = None,
    arm_b: Annotated[
        str | None,
        typer.Option(
            "--arm-b", help="Arm of the second run (default: the tuned one), or its model."
        ),
    ] = None,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
) -> None:
    """Compare two runs, or two files of samples. Uses the questions that both answered.

    Example: slowthink compare base.jsonl tuned.jsonl
    """
    are_files = [_names_samples(path) for path in (a, b)]
    if any(are_files) != all(are_files):
        raise ConfigError(
            f"compare: {a} and {b} are a file and a folder; expected two run folders or two files "
            "of samples. Name two of a kind; `slowthink export RUN` writes a run's samples."
        )
    if not all(are_files):
        _compare_runs(a, b, out=out, arm_a=arm_a, arm_b=arm_b, as_json=json_)
    elif out is not None:
        raise ConfigError("compare: --out writes a page of two runs; leave it out, or use --json.")
    else:
        _compare_files(a, b, arm_a=arm_a, arm_b=arm_b, skip_bad=skip_bad, as_json=json_)


def _names_samples(path: Path) -> bool:
    """Whether the path is of a file of samples, present or not, and not of a run folder."""
    from slowthink.data.rows import READERS, STDIN

    is_name = path.suffix.lower() in READERS and not path.exists()
    return path.is_file() or str(path) == STDIN or is_name


def _compare_runs(
    run_a: Path, run_b: Path, *, out: Path | None, arm_a: str | None, arm_b: str | None,
    as_json: bool,
) -> None:  # fmt: skip
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
    print_result("\n".join(lines), data, as_json=as_json)


def _compare_files(
    a: Path, b: Path, *, arm_a: str | None, arm_b: str | None, skip_bad: bool, as_json: bool
) -> None:
    """Grade two files of samples and print the paired figures, with the user's ids."""
    from slowthink.api.answers import shared_grader
    from slowthink.api.figures import compare as compare_rows
    from slowthink.data.sample_files import read_samples

    sides = [
        read_samples(path, shared_grader(), model=arm) for path, arm in ((a, arm_a), (b, arm_b))
    ]
    for graded in sides:
        report_samples(graded, skip_bad=skip_bad)
    comparison = compare_rows(*(graded.rows for graded in sides))
    names = sides[1].names | sides[0].names
    figures = dict(comparison.figures)
    for kind in ("won", "lost"):
        figures[kind] = [
            {"id": names[row["problem_id"]], "a": row["a"], "b": row["b"]} for row in figures[kind]
        ]
    bad_rows = [row for graded in sides for row in graded.table.bad_rows]
    data = {
        "a": {"file": str(a), "model": arm_a}, "b": {"file": str(b), "model": arm_b},
        "figures": figures, "bad_rows": row_files.bad_rows_json(bad_rows),
    }  # fmt: skip
    print_result(_files_text(data, str(comparison)), data, as_json=as_json)
    row_files.fail_on_bad_rows(bad_rows, skip_bad=skip_bad)


def _files_text(data: dict[str, Any], comparison: str) -> str:
    from slowthink.stages.report.text import detectable_difference, p_value

    figures = data["figures"]
    sides = [side["model"] or side["file"] for side in (data["a"], data["b"])]
    lines = [
        f"{sides[0]} -> {sides[1]}",
        comparison,
        f"exact p {p_value(figures['p_exact'])}. {detectable_difference(figures)}",
    ]
    if alone := figures["num_only_a"] + figures["num_only_b"]:
        lines.append(f"{alone} problems are in one file only, and left out")
    for kind in ("won", "lost"):
        ids = [row["id"] for row in figures[kind][: row_files.MAX_PRINTED_ROWS]]
        more = ", …" if len(figures[kind]) > len(ids) else ""
        lines += [f"{kind:5} {', '.join(ids)}{more}"] if ids else []
    return "\n".join(lines)
