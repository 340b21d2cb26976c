"""`slowthink generate`: budget-forced completions of one prompt or of a file of problems."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli import options, row_files
from slowthink.errors import ConfigError, DataError
from slowthink.serialise import is_file, printable

if TYPE_CHECKING:
    from slowthink.recipe import Generation
    from slowthink.records import Problem

_PATH = re.compile(r"\S+\.(jsonl?|txt|csv|parquet)", re.IGNORECASE)
"""A prompt that is meant as a file."""


def generate(
    prompt: Annotated[str | None, typer.Argument(help="One question; not with --file.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="JSONL, CSV or Parquet file of questions.")
    ] = None,
    question_field: row_files.QuestionField = None,
    model: options.Model = "smollm2-135m",
    thinking_format: options.ThinkingFormat = "plain",
    cap: options.Cap = 128,
    waits: options.Waits = 0,
    wait_string: options.WaitString = None,
    answer_tokens: options.AnswerTokens = 64,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = 0,
    set_: options.Set = None,
    json_: options.Json = False,
) -> None:
    """Complete one prompt or a file of prompts under a thinking budget.

    Example: slowthink generate "What is 17 + 25?" --cap 64 --waits 1
    """
    if prompt is not None and file is None and is_file(Path(prompt)):
        print_notice(f"{prompt} is a file: its questions are read, as with --file")
        file, prompt = Path(prompt), None
    if (prompt is None) == (file is None):
        raise ConfigError(
            'generate: give either one PROMPT or --file, e.g. slowthink generate "2+2?"'
        )
    if prompt is not None and _PATH.fullmatch(prompt):
        raise ConfigError(
            f"generate: {prompt}: no such file; expected a question, or a file that is there. "
            "Check the path: slowthink generate --file PATH"
        )
    from slowthink.api.model import as_problem, generation_settings

    problems = [as_problem(prompt or "")] if file is None else _read_questions(file, question_field)
    settings = generation_settings(
        "generate", model=model, format=thinking_format, wait_strings=wait_string,
        answer_tokens=answer_tokens, temperature=temperature, seed=seed, settings=set_ or (),
    )  # fmt: skip
    completions = complete(problems, settings, cap=cap, waits=waits)
    text = "\n\n".join(row["text"] for row in completions)
    options.print_result(text, {"completions": completions}, as_json=json_)


def complete(
    problems: Sequence[Problem], settings: Generation, *, cap: int, waits: int
) -> list[dict[str, Any]]:
    """One row per problem, as `Thought.to_dict`, and its `text` to print."""
    from slowthink.api.model import open_model

    num_tokens = len(problems) * (cap + settings.forcing.answer_tokens)
    with open_model(settings, num_tokens=num_tokens, notify=print_notice) as model:
        thoughts = model.think(problems, max_thinking_tokens=cap, waits=waits)
    return [thought.to_dict() | {"text": str(thought)} for thought in thoughts]


def print_notice(text: str) -> None:
    """Print what `auto` became, or another notice, on stderr."""
    print(printable(text), file=sys.stderr)


def _read_questions(path: Path, question_field: str | None = None) -> list[Problem]:
    """The questions of a file, each with its options and the language that its row states, or that
    is detected. Raises DataError for a row without a question."""
    from slowthink.data.language import stated_language
    from slowthink.data.user_files import read_user_file

    file = read_user_file(path)
    texts = file.texts(file.require_column("question", question_field))
    row_files.report_guesses(file.name, file.guessed, options=("question",))
    if file.bad_rows:
        first = min(file.bad_rows, key=lambda row: row.line)
        raise DataError(
            f"{path}:{first.line}: {first.reason} ({first.evidence.strip():.60}); expected a "
            "question in each row. Fix the row."
        )
    problems = [(row_files.row_problem(row, text), row.values) for row, text in texts]
    return [
        replace(problem, language=stated_language(values) or problem.language)
        for problem, values in problems
    ]
