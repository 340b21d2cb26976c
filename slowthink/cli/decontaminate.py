"""`slowthink decontaminate`: drop the rows of a file whose question is in a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json
from slowthink.errors import ConfigError

if TYPE_CHECKING:
    from slowthink.curation.overlap.evaluation_sets import EvaluationSet
    from slowthink.data.rows import SourceRow
    from slowthink.data.user_files import UserFile
    from slowthink.recipe import ContaminationConfig

Preset = Literal["strict", "s1"]


def decontaminate(
    file: row_files.RowsFile,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[BENCHMARK]...", help="More benchmarks.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="Benchmarks: names (math500, aime24, …), files, or both.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File of the clean rows, unchanged; - for JSONL on stdout."),
    ] = None,
    dropped: Annotated[
        Path | None,
        typer.Option("--dropped", help="File of the dropped rows, with the problem each one has."),
    ] = None,
    preset: Annotated[
        Preset, typer.Option("--preset", help="strict, or s1 (any 8 equal words in a row).")
    ] = "strict",
    templates: Annotated[
        bool, typer.Option("--templates", help="Also drop problems equal but for their numbers.")
    ] = False,
    question_field: row_files.QuestionField = None,
    skip_bad: row_files.SkipBad = False,
    json_: Json = False,
) -> None:
    """Find questions that are in a benchmark, so that a model is not trained on its test.

    Copies are dropped, also inside longer texts and with other typesetting, English and Chinese.
    Problems that differ in their numbers only are reported and kept.

    Example: slowthink decontaminate pool.jsonl --against math500 aime24 --out clean.jsonl
    """
    from slowthink.api.problems import load_test_sets
    from slowthink.data.user_files import read_user_file
    from slowthink.recipe import ContaminationConfig

    if more and not file.exists() and str(file) != "-":  # --against A B FILE
        file, more = Path(more[-1]), [str(file), *more[:-1]]
    config = ContaminationConfig(preset=preset, templates="drop" if templates else "keep")
    names = _benchmark_names([*(against or ()), *(more or ())])
    row_files.check_outputs(out, dropped, inputs=[file, *map(Path, names)])
    table = read_user_file(file)
    usable = table.texts(table.require_column("question", question_field))
    row_files.report_guesses(table.name, table.guessed)
    sets = load_test_sets(names, preset=config.preset, argument="--against")
    leaks = _find_leaks(table, usable, sets, config)
    added = {leak["line"]: _columns(leak) for leak in reversed(leaks) if leak["dropped"]}
    row_files.report_bad_rows(table.name, table.bad_rows, skip_bad=skip_bad)
    row_files.write_split(table, added, out=out, dropped=dropped)
    data = _result(table, len(usable), added, sets, leaks)
    row_files.print_summary(_text(data, out), data, as_json=json_, out=out)
    row_files.fail_on_bad_rows(table.bad_rows, skip_bad=skip_bad)


def _find_leaks(
    table: UserFile,
    usable: Sequence[tuple[SourceRow, str]],
    sets: Sequence[EvaluationSet],
    config: ContaminationConfig,
) -> list[dict[str, Any]]:
    """All leaks as JSON, in the order of the rows, and of a row the nearest first."""
    from slowthink.curation.overlap.certificate import must_drop
    from slowthink.curation.overlap.evaluation_sets import compared_text
    from slowthink.curation.overlap.leaks import find_leaks

    items = [item for test_set in sets for item in test_set.items]
    texts = [compared_text(row_files.row_problem(row, text), config) for row, text in usable]
    return [
        {
            "row": table.row_id(row),
            "line": row.line,
            "leak_of": f"{leak.item.benchmark}:{leak.item.id}",
            "leak_kind": leak.kind,
            "leak_score": leak.score,
            "leak_text": leak.span,
            "dropped": must_drop(leak, config),
        }
        for (row, _), row_leaks in zip(usable, find_leaks(texts, items, config), strict=True)
        for leak in row_leaks
    ]


def _columns(leak: dict[str, Any]) -> dict[str, Any]:
    """What is written beside the user's columns of a dropped row."""
    return {name: value for name, value in leak.items() if name.startswith("leak_")}


def _benchmark_names(texts: Sequence[str]) -> list[str]:
    """Names and files of benchmarks, of texts that may have several. Raises ConfigError without
    any."""
    names = [name for text in texts for name in text.split(",") if name]
    if not names:
        raise ConfigError(
            "decontaminate: no benchmark; expected names or files of test problems. Name them: "
            "slowthink decontaminate FILE --against math500 aime24"
        )
    return list(dict.fromkeys(names))


def _result(
    table: UserFile,
    num_usable: int,
    added: Mapping[int, Any],
    sets: Sequence[EvaluationSet],
    leaks: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What is printed as JSON."""
    return {
        "num_rows": table.num_rows,
        "num_kept": num_usable - len(added),
        "num_dropped": len(added),
        "against": [_set_summary(test_set, leaks) for test_set in sets],
        "guessed_columns": table.guessed,
        "leaks": leaks,
        "bad_rows": row_files.bad_rows_json(table.bad_rows),
    }


def _set_summary(
    evaluation_set: EvaluationSet, reported: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    name = evaluation_set.name
    rows = [row for row in reported if row["leak_of"].startswith(f"{name}:")]
    return {
        "name": name,
        "num_problems": len(evaluation_set.items),
        "num_dropped": len({row["line"] for row in rows if row["dropped"]}),
        "num_reported": len({row["line"] for row in rows if not row["dropped"]}),
        "source": dict(evaluation_set.source),
    }


def _text(data: dict[str, Any], out: Path | None) -> str:
    shown = [leak for leak in data["leaks"] if leak["dropped"]][: row_files.MAX_PRINTED_ROWS]
    lines = [
        f"{data['num_rows']} rows: {data['num_kept']} clean, {data['num_dropped']} in a benchmark"
        + row_files.unusable_text(data["bad_rows"]),
        *(
            f"  {s['name']} ({s['num_problems']} problems): {s['num_dropped']} to drop, "
            f"{s['num_reported']} with other numbers"
            for s in data["against"]
        ),
        *(f"  {leak['row']} is {leak['leak_of']}: {leak['leak_text']:.70}" for leak in shown),
    ]
    if data["num_dropped"] > len(shown):
        lines.append("  more, see --json or --dropped FILE")
    written = (
        f"clean rows        {out}" if out else "nothing written; --out FILE writes the clean rows"
    )
    return "\n".join([*lines, written])
