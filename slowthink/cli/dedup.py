"""`slowthink dedup`: drop the rows of a file whose question repeats an earlier one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json

if TYPE_CHECKING:
    from slowthink.data.rows import SourceRow
    from slowthink.data.user_files import UserFile

Usable = list[tuple["SourceRow", str]]


def dedup(
    file: row_files.RowsFile,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File of the rows to keep, unchanged; - for JSONL on stdout."),
    ] = None,
    dropped: Annotated[
        Path | None,
        typer.Option("--dropped", help="File of the dropped rows, with what each one repeats."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Only questions that are equal but for their form.")
    ] = False,
    min_overlap: Annotated[
        float,
        typer.Option("--min-overlap", min=0.1, max=1, help="Near: minimum share of equal n-grams."),
    ] = 0.8,
    question_field: row_files.QuestionField = None,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
) -> None:
    """Find questions that occur twice. Of equal ones the first row is kept.

    Case, LaTeX spelling, white space and the order of options do not matter; numbers and operators
    do. Near duplicates have the same numbers and nearly the same words.

    Example: slowthink dedup pool.jsonl --out unique.jsonl --dropped repeated.jsonl
    """
    from slowthink.curation.overlap.duplicates import find_duplicates
    from slowthink.data.user_files import read_user_file

    row_files.check_outputs(file, out, dropped)
    table = read_user_file(file)
    column = table.require_column("question", question_field)
    row_files.report_guesses(table.name, table.guessed)
    usable = table.texts(column)
    questions = [(text, _choices(table, row)) for row, text in usable]
    duplicates = find_duplicates(questions, near=not exact, min_overlap=min_overlap)
    added = {
        usable[duplicate.row][0].line: {
            "duplicate_of": table.row_id(usable[duplicate.kept][0]),
            "duplicate_of_line": usable[duplicate.kept][0].line,
            "duplicate_kind": duplicate.kind,
            "duplicate_score": duplicate.score,
        }
        for duplicate in duplicates
    }
    row_files.report_bad_rows(table.name, table.bad_rows, skip_bad=skip_bad)
    row_files.write_split(table, added, out=out, dropped=dropped)
    data = _summary(table, usable, added)
    row_files.print_summary(_text(data, out), data, as_json=json_, out=out)
    row_files.fail_on_bad_rows(table.bad_rows, skip_bad=skip_bad)


def _choices(table: UserFile, row: SourceRow) -> tuple[str, ...]:
    from slowthink.data.rows import UnusableValue
    from slowthink.data.stored.columns import read_choices

    try:
        return read_choices(row.values)
    except UnusableValue:
        return ()


def _summary(table: UserFile, usable: Usable, added: dict[int, dict[str, Any]]) -> dict[str, Any]:
    rows = {row.line: table.row_id(row) for row, _ in usable}
    return {
        "num_rows": len(table.rows),
        "num_kept": len(usable) - len(added),
        "num_dropped": dict(Counter(columns["duplicate_kind"] for columns in added.values())),
        "guessed_columns": table.guessed,
        "duplicates": [{"row": rows[line], "line": line, **added[line]} for line in sorted(added)],
        "bad_rows": row_files.bad_rows_json(table.bad_rows),
    }


def _text(data: dict[str, Any], out: Path | None) -> str:
    kinds = ", ".join(f"{num} {kind}" for kind, num in data["num_dropped"].items()) or "none"
    lines = [
        f"{data['num_rows']} rows: {data['num_kept']} to keep; duplicates: {kinds}",
        *(
            f"  line {row['line']} ({row['row']}) repeats line {row['duplicate_of_line']} "
            f"({row['duplicate_of']}): {row['duplicate_kind']}, {row['duplicate_score']:.2f}"
            for row in data["duplicates"][: row_files.MAX_PRINTED_ROWS]
        ),
    ]
    if (more := len(data["duplicates"]) - row_files.MAX_PRINTED_ROWS) > 0:
        lines.append(f"  {more} more, see --json")
    lines.append(
        f"kept rows         {out}" if out else "nothing written; --out FILE writes the kept rows"
    )
    return "\n".join(lines)
