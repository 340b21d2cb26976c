"""`slowthink passk`: pass@k and maj@k of a file of samples, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json, print_result
from slowthink.errors import ConfigError

if TYPE_CHECKING:
    from slowthink.data.sample_files import GradedSamples

SamplesFile = Annotated[
    Path,
    typer.Argument(
        help="Rows of question, answer and response, one a sample; rows with `correct` or "
        "`verdict`; or samples of lm-eval, inspect or NeMo-Skills. - reads JSONL from stdin."
    ),
]


def passk(
    samples: SamplesFile,
    k: Annotated[
        list[int] | None,
        typer.Option(
            "--k", min=1, help="Samples per problem; repeat for several. Default: 1, 2, 4 …"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Which model's samples, if the file has several.")
    ] = None,
    last_number: Annotated[
        bool, typer.Option("--last-number", help="Take the last number where no answer is marked.")
    ] = False,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
) -> None:
    """Compute pass@k and maj@k of samples, each with a 95 % interval over problems.

    Answers are graded first; labels in `verdict`, or in `correct` where there is no response, are
    used as they are.

    Example: slowthink passk samples.jsonl --k 1 --k 8
    """
    from slowthink.api.answers import shared_grader
    from slowthink.data.sample_files import read_samples

    graded = read_samples(samples, shared_grader(), model=model, last_number=last_number)
    table = graded.table
    report_samples(graded, skip_bad=skip_bad)
    data = {
        "file": str(samples),
        "num_rows": len(graded.rows),
        "num_problems": len(graded.names),
        "verdicts": dict(Counter(row["verdict"] for row in graded.rows)),
        "labels": graded.labels,
        "points": _points(graded, k),
        "bad_rows": row_files.bad_rows_json(table.bad_rows),
    }
    print_result(_text(data), data, as_json=json_)
    row_files.fail_on_bad_rows(table.bad_rows, skip_bad=skip_bad)


def report_samples(graded: GradedSamples, *, skip_bad: bool) -> None:
    """Print what was guessed about a file of samples, and its bad rows."""
    table = graded.table
    row_files.report_guesses(table.name, table.guessed, options=())
    if graded.labels:
        row_files.say(f"{table.name}: the labels in `{graded.labels}` are used; nothing is graded")
    row_files.report_bad_rows(table.name, table.bad_rows, skip_bad=skip_bad)


def _points(graded: GradedSamples, ks: Sequence[int] | None) -> list[dict[str, Any]]:
    from slowthink.analysis.statistics import powers_of_two
    from slowthink.api.figures import maj_at_k, pass_at_k

    uncounted = ("ungradable", "grader_error")
    counts = Counter(r["problem_id"] for r in graded.rows if r["verdict"] not in uncounted)
    fewest = min(counts.values(), default=0)
    if not fewest:
        raise ConfigError(
            f"{graded.table.name}: no sample can be graded; expected reference answers. Name their "
            "column `answer`."
        )
    if ks and max(ks) > fewest:
        raise ConfigError(
            f"--k {max(ks)}: a problem of {graded.table.name} has {fewest} graded samples; "
            f"expected k of at most {fewest}. Name a smaller k, or remove the problems with fewer "
            "samples."
        )
    has_answers = any(row["answer"] is not None for row in graded.rows)
    points = []
    for k in sorted(set(ks or powers_of_two(fewest))):
        point: dict[str, Any] = {"k": k, "pass": asdict(pass_at_k(graded.rows, k))}
        point["maj"] = asdict(maj_at_k(graded.rows, k)) if has_answers else None
        points.append(point)
    return points


def _text(data: dict[str, Any]) -> str:
    verdicts = ", ".join(f"{num} {name}" for name, num in data["verdicts"].items())
    lines = [
        f"{data['num_rows']} samples of {data['num_problems']} problems: {verdicts}",
        f"{'k':>5}  {'pass@k':27}  maj@k",
        *(
            f"{point['k']:>5}  {_interval(point['pass']):27}  {_interval(point['maj'])}"
            for point in data["points"]
        ),
    ]
    return "\n".join(lines)


def _interval(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "unknown: the file has labels only"
    return f"{estimate['value']:.1%} ({estimate['low']:.1%} to {estimate['high']:.1%})"
