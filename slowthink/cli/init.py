"""`slowthink init`: write a short recipe for a user's own file, with its columns filled in.

The recipe extends a shipped one, so it holds only what concerns the file and what a person may want
to change first:

    extends: own-data
    name: exam
    pool:
      sources:
        - {kind: file, path: exam.csv, question_field: 题目, num_heldout: 40}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slowthink.cli import row_files
from slowthink.cli.options import Json, print_result
from slowthink.errors import ConfigError
from slowthink.serialise import write_atomic

if TYPE_CHECKING:
    from slowthink.data.user_files import UserFile

KINDS = ("small", "own-data", "evaluate")
MAX_HELDOUT = 100
MIN_ROWS = 4
"""Fewest rows of which some can be held out."""


def init(
    kind: Annotated[
        str,
        typer.Argument(
            help="own-data: train on the file's worked solutions. small: the same after filtering. "
            "evaluate: measure a model on the file."
        ),
    ] = "own-data",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Your problems: JSONL, JSON, CSV or Parquet."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Recipe to write. Default: the file's name, .yaml.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Base model: a folder, a hub id, or smollm2-135m.")
    ] = "smollm2-135m",
    question_field: row_files.QuestionField = None,
    answer_field: row_files.AnswerField = None,
    solution_field: Annotated[
        str | None, typer.Option("--solution-field", help="Column of the worked solution.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write a short recipe for your own problems. Change it with any editor, then run it.

    Example: slowthink init own-data --data exam.csv
    """
    from slowthink.data.user_files import read_user_file

    if kind not in KINDS or data is None:
        raise ConfigError(
            f"init: saw {kind!r} and {'no file' if data is None else data}; expected one of "
            f"{', '.join(KINDS)}, and a file of problems. Name both: "
            "slowthink init own-data --data FILE"
        )
    path = out or Path(f"{_safe_name(data.stem)}.yaml")
    if path.exists():
        raise ConfigError(
            f"{path}: exists already; expected a new file, and nothing is overwritten. Name "
            "another: --out FILE.yaml"
        )
    table = read_user_file(data)
    columns = {
        "question": table.require_column("question", question_field),
        "answer": table.column("answer", answer_field),
        "solution": table.column("solution", solution_field),
    }
    row_files.report_guesses(table.name, table.guessed, options=columns)
    row_files.report_bad_rows(table.name, table.bad_rows, skip_bad=True)
    _check_columns(table, kind, columns)
    text = _recipe_text(kind, table, columns, model=model, name=_safe_name(data.stem))
    write_atomic(path, text)
    result = {"recipe": str(path), "kind": kind, "columns": columns, "num_rows": len(table.rows)}
    lines = [
        f"recipe            {path}, for {len(table.rows)} rows of {data}",
        f"check it          slowthink run {path} --dry-run",
        f"run it            slowthink run {path}",
    ]
    print_result("\n".join(lines), result, as_json=json_)


def _check_columns(table: UserFile, kind: str, columns: dict[str, str | None]) -> None:
    """Raise ConfigError if the file lacks what the recipe needs."""
    filled = {name for row in table.rows for name, value in row.values.items() if value}
    has = {role for role, name in columns.items() if name in filled}
    if kind == "evaluate" and not has & {"answer", "solution"}:
        raise ConfigError(
            f"{table.name}: has no column of answers; expected one to grade by. Name it: "
            "--answer-field COLUMN"
        )
    if kind != "evaluate" and "solution" not in has:
        raise ConfigError(
            f"{table.name}: has no column of worked solutions, and `{kind}` trains on them; "
            "expected `solution` or a usual name of it. Name it: --solution-field COLUMN. Without "
            f"solutions you can measure a model: slowthink init evaluate --data {table.path}; have "
            "a small model write chains: slowthink run small-teacher --set "
            f"pool.sources.0.path={table.path}; or train on chains that another model wrote: "
            "slowthink recipes, own-chains"
        )
    if kind != "evaluate" and len(table.rows) < MIN_ROWS:
        raise ConfigError(
            f"{table.name}: has {len(table.rows)} rows; expected at least {MIN_ROWS}, some to "
            "train on and some to evaluate. Add rows."
        )


def _recipe_text(
    kind: str, table: UserFile, columns: dict[str, str | None], *, model: str, name: str
) -> str:
    build = _evaluation_text if kind == "evaluate" else _training_text
    return build(kind, table, columns, model=_scalar(model), name=_scalar(name))


def _fields(columns: dict[str, str | None], roles: tuple[str, ...]) -> str:
    """The settings of columns whose names are not the defaults."""
    named = {
        role: name for role, name in columns.items() if role in roles and name not in (None, role)
    }
    return "".join(f", {role}_field: {_scalar(str(name))}" for role, name in named.items())


def _training_text(
    kind: str, table: UserFile, columns: dict[str, str | None], *, model: str, name: str
) -> str:
    num_heldout = min(MAX_HELDOUT, max(1, len(table.rows) // 5))
    num_train = len(table.rows) - num_heldout
    source = f"kind: file, path: {_scalar(table.path)}" + _fields(
        columns, ("question", "answer", "solution")
    )
    return f"""\
# Written by `slowthink init {kind}`. All else is as in the recipe `{kind}`; to see every setting:
#   slowthink run THIS_FILE --dry-run --settings
extends: {kind}
name: {name}  # results go to runs/NAME
model: {model}  # a folder or a hub id, e.g. Qwen/Qwen3-0.6B
pool:
  sources:  # of {len(table.rows)} rows, {num_heldout} are held out to measure on
    - {{{source}, num_heldout: {num_heldout}}}
select: {{num_problems: {max(1, min(1000, num_train))}}}  # at most: the training set
# train: {{epochs: 3, learning_rate: 1.0e-4}}
"""


def _evaluation_text(
    kind: str, table: UserFile, columns: dict[str, str | None], *, model: str, name: str
) -> str:
    source = f"name: {name}, path: {_scalar(table.path)}" + _fields(columns, ("question", "answer"))
    return f"""\
# Written by `slowthink init {kind}`: a model's accuracy on your problems, at several budgets.
name: {name}  # results go to runs/NAME
model: {model}  # a folder or a hub id, e.g. Qwen/Qwen3-0.6B
chat: {{format: plain}}  # auto: the model's own chat template and thinking format
evaluate:
  benchmarks:  # {len(table.rows)} rows
    - {{{source}}}
  arms:  # caps: at most so many thinking tokens; free: also without a cap
    - {{name: model, model: base, caps: [128, 512], free: true, last_number: true}}
"""


def _scalar(text: str) -> str:
    """A text as YAML that stays a text, in one line."""
    plain = all(char.isalnum() or char in "_-./" for char in text) and text[:1].isalpha()
    is_word = text.lower() in ("true", "false", "yes", "no", "on", "off", "null")
    return text if plain and not is_word else json.dumps(text, ensure_ascii=False)


def _safe_name(stem: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in stem) or "recipe"
