"""`slowthink dedup`: drop the rows of a file whose question repeats an earlier one."""

from __future__ import annotations

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
    question_field: row_files.QuestionField = None,
    answer_field: row_files.AnswerField = None,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
) -> None:
    """Find questions that occur twice. Of equal ones the first row is kept.

    Case, LaTeX spelling, white space and the order of options do not matter; numbers and operators
    do. Near duplicates have the same numbers and nearly the same words. Questions whose answers
    are known to differ are kept, unless their texts are equal.

    Example: slowthink dedup pool.jsonl --out unique.jsonl --dropped repeated.jsonl
    """
    from slowthink.api.problems import find_duplicates
    from slowthink.data.user_files import read_user_file

    row_files.check_outputs(out, dropped, inputs=[file])
    table = read_user_file(file)
    column = table.require_column("question", question_field)
    answer = table.column("answer", answer_field)
    row_files.report_guesses(table.name, table.guessed)
    usable = table.texts(column)
    clusters = find_duplicates(
        [row_files.row_problem(row, text, answer) for row, text in usable], near=not exact
    )
    added = {
        usable[member.row][0].line: {
            "duplicate_of": table.row_id(usable[cluster.kept][0]),
            "duplicate_of_line": usable[cluster.kept][0].line,
            "duplicate_score": member.score,
        }
        for cluster in clusters
        for member in cluster.members
    }
    row_files.report_bad_rows(table.name, table.bad_rows, skip_bad=skip_bad)
    row_files.write_split(table, added, out=out, dropped=dropped)
    data = _summary(table, usable, added)
    row_files.print_summary(_text(data, out), data, as_json=json_, out=out)
    row_files.fail_on_bad_rows(table.bad_rows, skip_bad=skip_bad)


def _summary(table: UserFile, usable: Usable, added: dict[int, dict[str, Any]]) -> dict[str, Any]:
    rows = {row.line: table.row_id(row) for row, _ in usable}
    return {
        "num_rows": table.num_rows,
        "num_kept": len(usable) - len(added),
        "num_dropped": len(added),
        "guessed_columns": table.guessed,
        "duplicates": [{"row": rows[line], "line": line, **added[line]} for line in sorted(added)],
        "bad_rows": row_files.bad_rows_json(table.bad_rows),
    }


def _text(data: dict[str, Any], out: Path | None) -> str:
    lines = [
        f"{data['num_rows']} rows: {data['num_kept']} to keep, {data['num_dropped']} duplicates"
        + row_files.unusable_text(data["bad_rows"]),
        *(
            f"  line {row['line']} ({row['row']}) repeats line {row['duplicate_of_line']} "
            f"({row['duplicate_of']}), score {row['duplicate_score']:.2f}"
            for row in data["duplicates"][: row_files.MAX_PRINTED_ROWS]
        ),
    ]
    if (more := len(data["duplicates"]) - row_files.MAX_PRINTED_ROWS) > 0:
        lines.append(f"  {more} more, see --json")
    lines.append(
        f"kept rows         {out}" if out else "nothing written; --out FILE writes the kept rows"
    )
    return "\n".join(lines)
