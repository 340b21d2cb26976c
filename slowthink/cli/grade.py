"""`slowthink grade`: grade a file of answers by the rules, and optionally by a judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json, Quiet, print_result
from slowthink.errors import ConfigError

if TYPE_CHECKING:
    from slowthink.grading.files import GradedRows, PairFile

GradedRowsOut = Annotated[
    Path | None,
    typer.Option(
        "--out", help="File of all rows with verdict, extracted and method; - for stdout."
    ),
]
GoldField = Annotated[
    str | None,
    typer.Option("--gold-field", help="Column of the reference answer. Default: gold, answer …"),
]
PredField = Annotated[
    str | None, typer.Option("--pred-field", help="Column of the answer to grade.")
]
ResponseField = Annotated[
    str | None, typer.Option("--response-field", help="Column of the text with the answer in it.")
]
JudgeModel = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="Model (folder, hub id, smollm2-135m) that grades rows which the rules cannot "
        "decide; audited on 50 rows that they decide.",
    ),
]
JudgeLedger = Annotated[
    Path | None,
    typer.Option("--ledger", help="Cache of the judge's replies. Default: FILE.judge.sqlite."),
]


def grade(
    file: row_files.RowsFile,
    out: GradedRowsOut = None,
    mode: Annotated[
        str, typer.Option("--mode", help="strict, limo-compat, s1-compat or math-verify.")
    ] = "strict",
    gold_field: GoldField = None,
    pred_field: PredField = None,
    response_field: ResponseField = None,
    workers: Annotated[int, typer.Option("--workers", help="Worker processes.")] = 2,
    compare: Annotated[
        bool, typer.Option("--compare", help="Grade the rows in every mode, in one table.")
    ] = False,
    judge: JudgeModel = None,
    ledger: JudgeLedger = None,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Grade a file of answers. Prints the verdicts and their agreement with known labels.

    Rows have `gold` (or `answer`) and `pred`, or `response`, a text with the answer in it; with
    `equal`, a known label, the agreement is measured.

    Example: slowthink grade answers.csv --out graded.csv
    """
    from slowthink.data.pair_files import open_pairs
    from slowthink.data.user_files import write_rows
    from slowthink.grading.files import summarize_grades
    from slowthink.grading.reference.table import compare_graders, format_table

    if compare and (judge or mode != "strict" or out):
        raise ConfigError(
            "grade: --compare grades in every mode; leave --mode, --judge and --out out."
        )
    row_files.check_outputs(out, inputs=[file])
    columns = {"gold": gold_field, "pred": pred_field, "response": response_field}
    source = open_pairs(file, columns=columns)
    table = source.table
    row_files.report_guesses(table.name, table.guessed, options=columns)
    row_files.report_bad_rows(table.name, table.bad_rows, skip_bad=skip_bad)
    if compare:
        data = compare_graders(source.pairs, num_workers=workers)
        print_result(format_table(data), data, as_json=json_)
    else:
        if judge and ledger is None:
            ledger = Path(f"{table.name if str(file) == '-' else file}.judge.sqlite")
        graded, judge_report = _grade(
            source.pairs, mode, judge=judge, ledger=ledger, num_workers=workers, quiet=quiet
        )
        data = summarize_grades(source.pairs, graded, mode=mode) | judge_report
        data |= {"guessed_columns": table.guessed} if table.guessed else {}
        if out is not None:
            write_rows(out, source.graded_rows(graded.grades))
        row_files.print_summary(_text(data, out), data, as_json=json_, out=out)
    row_files.fail_on_bad_rows(table.bad_rows, skip_bad=skip_bad)


def _grade(
    pairs: PairFile,
    mode: str,
    *,
    judge: str | None,
    ledger: Path | None,
    num_workers: int,
    quiet: bool,
) -> tuple[GradedRows, dict[str, Any]]:
    """Grade by the rules; then let the judge, if there is one, grade rows that these leave
    undecided. Returns the grades and the judge's report."""
    from slowthink.grading import Grader
    from slowthink.grading.files import grade_rows

    with Grader(mode, num_workers=num_workers) as grader:
        graded = grade_rows(pairs, grader)
    if judge is None or ledger is None:
        return graded, {}
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.recipe import JudgeConfig, Recipe
    from slowthink.sampling.judge import judge_rows, open_judge
    from slowthink.sampling.ledger import Ledger

    config, recipe = JudgeConfig(model=judge), Recipe(name="grade", model=judge)
    with (
        ProgressReporter(quiet=quiet) as reporter,
        Ledger(ledger) as cache,
        open_judge(
            config, recipe, ledger=cache, notify=reporter.notify, progress=reporter.progress
        ) as opened,
    ):
        graded, report = judge_rows(opened, pairs, graded)
    return graded, {"judge": report | {"ledger": str(ledger)}}


def _text(data: Mapping[str, Any], out: Path | None) -> str:
    verdicts = ", ".join(f"{count} {name}" for name, count in data["verdicts"].items())
    agreement = "" if data.get("agreement") is None else f"; agreement {data['agreement']:.1%}"
    text = f"{data['n']} rows: {verdicts}{agreement}"
    text += f"\nverdicts          {'stdout' if str(out) == '-' else out}" if out else ""
    if "judge" not in data:
        return text
    judge = data["judge"]
    agreed = "unknown" if judge["agreement"] is None else f"{judge['agreement']:.1%}"
    num_audited = judge["audited"] - judge["audited_no_opinion"]
    return (
        f"{text}\njudge: {judge['num_decided']} of {judge['num_asked']} undecided rows decided; "
        f"agreement with the rules {agreed} on {num_audited} audited rows"
    )
