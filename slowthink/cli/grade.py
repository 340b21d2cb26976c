"""`slowthink grade`: grade a file of answers by the rules, and optionally by a judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from slowthink.cli.options import Json, Quiet, print_result
from slowthink.errors import ConfigError


def grade(
    file: Annotated[Path, typer.Argument(help="JSONL rows {gold, pred | response[, equal]}.")],
    mode: Annotated[
        str, typer.Option("--mode", help="strict, limo-compat, s1-compat or math-verify.")
    ] = "strict",
    workers: Annotated[int, typer.Option("--workers", help="Worker processes.")] = 2,
    compare: Annotated[
        bool, typer.Option("--compare", help="Grade the rows in every mode, in one table.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Model (folder, hub id, smollm2-135m) that grades rows which the rules cannot "
            "decide; audited on 50 rows that they decide.",
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="Cache of the judge's replies. Default: FILE.judge.sqlite."),
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Grade a file of answers. Prints the verdicts and their agreement with known labels.

    Example: slowthink grade answers.jsonl --json
    """
    from slowthink.grading.files import grade_file
    from slowthink.grading.reference.table import compare_graders, format_table

    if compare and (judge or mode != "strict"):
        raise ConfigError("grade: --compare grades in every mode; leave --mode and --judge out.")
    if compare:
        data = compare_graders(file, num_workers=workers)
        print_result(format_table(data), data, as_json=json_)
        return
    if judge:
        ledger = ledger or file.with_name(file.name + ".judge.sqlite")
        data = _grade_with_judge(file, judge, mode, ledger=ledger, num_workers=workers, quiet=quiet)
    else:
        data = grade_file(file, mode=mode, num_workers=workers)
    print_result(_text(data), data, as_json=json_)


def _grade_with_judge(
    file: Path, model: str, mode: str, *, ledger: Path, num_workers: int, quiet: bool
) -> dict[str, Any]:
    """Grade by the rules, then let the judge grade the rows that these leave undecided."""
    from slowthink.grading import Grader
    from slowthink.grading.files import grade_rows, read_pairs, summarize_grades
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.recipe import JudgeConfig, Recipe
    from slowthink.sampling.judge import judge_rows, open_judge
    from slowthink.sampling.ledger import Ledger

    rows = read_pairs(file)
    with Grader(mode, num_workers=num_workers) as grader:
        graded = grade_rows(rows, grader)
    config, recipe = JudgeConfig(model=model), Recipe(name="grade", model=model)
    with (
        ProgressReporter(quiet=quiet) as reporter,
        Ledger(ledger) as cache,
        open_judge(
            config, recipe, ledger=cache, notify=reporter.notify, progress=reporter.progress
        ) as judge,
    ):
        graded, judge_report = judge_rows(judge, rows, graded)
    summary = summarize_grades(rows, graded, mode=mode)
    return summary | {"judge": judge_report | {"ledger": str(ledger)}}


def _text(data: Mapping[str, Any]) -> str:
    verdicts = ", ".join(f"{count} {name}" for name, count in data["verdicts"].items())
    agreement = "" if data.get("agreement") is None else f"; agreement {data['agreement']:.1%}"
    text = f"{data['n']} rows: {verdicts}{agreement}"
    if "judge" not in data:
        return text
    judge = data["judge"]
    agreed = "unknown" if judge["agreement"] is None else f"{judge['agreement']:.1%}"
    num_audited = judge["audited"] - judge["audited_no_opinion"]
    return (
        f"{text}\njudge: {judge['num_decided']} of {judge['num_asked']} undecided rows decided; "
        f"agreement with the rules {agreed} on {num_audited} audited rows"
    )
