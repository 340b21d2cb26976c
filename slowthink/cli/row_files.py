"""What the commands on files of rows share: options, and reports of guesses and bad rows.

A row that cannot be used is reported with its line and reason; results of the others are written,
and the command exits 1 unless --skip-bad is given.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.errors import ConfigError
from slowthink.serialise import printable

if TYPE_CHECKING:
    from slowthink.data.rows import BadRow, SourceRow
    from slowthink.data.user_files import UserFile
    from slowthink.records import Problem

MAX_PRINTED_ROWS = 10
"""Maximum number of printed rows of a kind; the JSON has all."""

RowsFile = Annotated[
    Path, typer.Argument(help="JSONL, JSON, CSV or Parquet; - reads JSONL from stdin.")
]
QuestionField = Annotated[
    str | None,
    typer.Option("--question-field", help="Column of the question. Default: guessed, and printed."),
]
AnswerField = Annotated[
    str | None,
    typer.Option("--answer-field", help="Column of the answer. Default: guessed, and printed."),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Exit 0 even if rows cannot be used; they are left out.")
]


def say(text: str) -> None:
    """Print a message on stderr."""
    typer.echo(printable(text), err=True)


def report_guesses(
    name: str, guessed: Mapping[str, str], *, options: Collection[str] = ("question", "answer")
) -> None:
    """Print which columns were guessed, if any, and how to change that: `options` are the roles for
    which the command has an option."""
    from slowthink.data.column_names import guesses_text

    if guessed:
        role = next((role for role in guessed if role in options), None)
        remedy = f"--{role}-field COLUMN" if role else "rename the column"
        say(f"{name}: {guesses_text(guessed)}; to change it: {remedy}")


def report_bad_rows(name: str, bad_rows: Sequence[BadRow], *, skip_bad: bool) -> None:
    """Print the bad rows, if any."""
    for row in sorted(bad_rows, key=lambda row: row.line)[:MAX_PRINTED_ROWS]:
        say(f"{name}:{row.line}: {row.reason}: {row.evidence.strip():.80}")
    if len(bad_rows) > MAX_PRINTED_ROWS:
        say(f"{name}: {len(bad_rows) - MAX_PRINTED_ROWS} more rows cannot be used")
    if bad_rows and not skip_bad:
        say(
            f"{name}: {len(bad_rows)} rows cannot be used; expected none. The results of the "
            "others are complete. Fix the rows, or leave them out: --skip-bad"
        )


def print_summary(text: str, data: Any, *, as_json: bool, out: Path | None) -> None:
    """Print a command's result on stdout, or on stderr if the rows themselves go to stdout."""
    import json

    from slowthink.cli.options import print_result

    if out is not None and str(out) == "-":
        say(json.dumps(data, indent=1, ensure_ascii=False) if as_json else text)
    else:
        print_result(text, data, as_json=as_json)


def fail_on_bad_rows(bad_rows: Sequence[BadRow], *, skip_bad: bool) -> None:
    """Exit 1 if rows could not be used."""
    sys.stdout.flush()
    if bad_rows and not skip_bad:
        raise typer.Exit(1)


def bad_rows_json(bad_rows: Sequence[BadRow]) -> list[dict[str, Any]]:
    """Line, reason and evidence of each bad row."""
    return [vars(row) for row in sorted(bad_rows, key=lambda row: row.line)]


def unusable_text(bad_rows: Sequence[Any]) -> str:
    """The end of a command's count of rows: those that could not be used, if any."""
    return f", {len(bad_rows)} unusable" if bad_rows else ""


def row_problem(row: SourceRow, question: str, answer: str | None = None) -> Problem:
    """The question of a row as a problem, with its options and, of a column, its answer if they
    can be read."""
    from slowthink.api.model import as_problem
    from slowthink.data.rows import UnusableValue, optional_text
    from slowthink.data.stored.columns import read_choices

    problem = as_problem(question, row.line)
    with suppress(UnusableValue):
        problem = replace(problem, choices=read_choices(row.values))
    with suppress(UnusableValue):
        text = optional_text(row.values.get(answer), answer) if answer else None
        problem = replace(problem, answer=text)
    return problem


def write_split(
    file: UserFile,
    added: dict[int, dict[str, Any]],
    *,
    out: Path | None,
    dropped: Path | None,
) -> None:
    """Write the kept rows as they are, and the dropped ones with the columns that say why.

    `added` has those columns by the line of each dropped row. Bad rows are among the dropped, with
    their reason in `error`: every readable row is in one of the two files.
    """
    from slowthink.data.user_files import with_columns, write_rows

    errors = {row.line: row.reason for row in file.bad_rows}
    if out is not None:
        kept = [r.values for r in file.rows if r.line not in added and r.line not in errors]
        write_rows(out, kept)
    if dropped is not None:
        rows = [
            with_columns(
                row.values, added.get(row.line) or {"error": errors[row.line]}, file.columns
            )
            for row in file.rows
            if row.line in added or row.line in errors
        ]
        write_rows(dropped, rows)


def check_outputs(*outputs: Path | None, inputs: Sequence[Path]) -> None:
    """Raise ConfigError before any work if an output cannot be written, is one of the files that
    are read, or is named twice."""
    from slowthink.data.user_files import check_output

    named = [path for path in outputs if path is not None]
    for path, source in itertools.product(named, inputs):
        check_output(path, source=source)
    if len({str(path) for path in named}) < len(named):
        raise ConfigError(f"{named[0]}: is named twice; expected two files. Name another.")
