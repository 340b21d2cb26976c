"""`slowthink generate`: budget-forced completions of one prompt or of a file of problems."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slowthink.cli import options
from slowthink.errors import ConfigError, DataError
from slowthink.records import Completion, Problem, duplicate_key, problem_id
from slowthink.serialise import json_lines, plain, printable, read_text

if TYPE_CHECKING:
    from slowthink.engines.session import Session
    from slowthink.recipe import Generation
    from slowthink.sampling.ledger import Ledger
    from slowthink.sampling.sampler import Task


def generate(
    prompt: Annotated[str | None, typer.Argument(help="One question; not with --file.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="JSONL file of rows with a `question`.")
    ] = None,
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
    if (prompt is None) == (file is None):
        raise ConfigError(
            'generate: give either one PROMPT or --file, e.g. slowthink generate "2+2?"'
        )
    questions = _read_questions(file) if file else [(prompt or "", "en")]
    settings = generation_settings(
        "generate", model=model, thinking_format=thinking_format, wait_strings=wait_string,
        answer_tokens=answer_tokens, temperature=temperature, seed=seed, overrides=set_,
    )  # fmt: skip
    rows = complete(questions, settings, cap=cap, waits=waits)
    text = "\n\n".join(row["text"] for row in rows)
    options.print_result(text, {"completions": rows}, as_json=json_)


def complete(
    questions: Sequence[tuple[str, str]], settings: Generation, *, cap: int, waits: int
) -> list[dict[str, Any]]:
    """One row per (question, language), as `completion_row`, and its `text` to print."""
    from slowthink.sampling.sampler import Sampler

    problems = [
        ungraded_problem(question, source="generate", row=index, language=language)
        for index, (question, language) in enumerate(questions)
    ]
    num_tokens = len(questions) * (cap + settings.forcing.answer_tokens)
    with open_model(settings, num_tokens=num_tokens) as (session, ledger):
        tasks = budgeted_tasks(session, problems, settings, cap=cap, waits=waits)
        samples = Sampler(session, ledger, tag="generate").complete(tasks)
    rows = [completion_row(task, sample) for task, (sample,) in zip(tasks, samples, strict=True)]
    return [row | {"text": f"{thinking_text(row)}\n{row['answer'].strip()}"} for row in rows]


# --- shared with `slowthink chat` -----------------------------------------------------------------


def generation_settings(
    command: str,
    *,
    model: str,
    thinking_format: str,
    wait_strings: Sequence[str] | None,
    answer_tokens: int,
    temperature: float,
    seed: int,
    overrides: Sequence[str] | None,
) -> Generation:
    """The settings given by a command's options. Raises ConfigError naming each wrong one."""
    from slowthink.recipe import Generation
    from slowthink.recipe.loading import parse_settings

    forcing: dict[str, Any] = {"answer_tokens": answer_tokens}
    if wait_strings:
        forcing["wait_strings"] = wait_strings
    data = {
        "model": model, "seed": seed, "chat": {"format": thinking_format},
        "forcing": forcing, "sampling": {"temperature": temperature},
    }  # fmt: skip
    return parse_settings(Generation, data, where=command, overrides=overrides or ())


@contextmanager
def open_model(settings: Generation, *, num_tokens: int = 0) -> Iterator[tuple[Session, Ledger]]:
    """Open the model and the ledger, a temporary one unless the settings name one.

    `num_tokens`: how many are to be decoded, at most; 0 if that is unknown. Raises ConfigError if
    the model is unavailable.
    """
    from slowthink.engines import open_session
    from slowthink.engines.auto import Workload
    from slowthink.pipeline.resolve import resolve
    from slowthink.recipe.models import code_that_runs
    from slowthink.sampling.ledger import Ledger

    resolved = resolve(settings, workload=lambda _: Workload(num_tokens))
    if resolved.choices:
        print(f"auto: {resolved.text}", file=sys.stderr)
    for notice in code_that_runs(resolved.recipe):
        print(f"note: {printable(notice)}", file=sys.stderr)
    engine = resolved.recipe.engine
    session = open_session(settings.model, engine, revision=settings.revision)
    with tempfile.TemporaryDirectory() as folder, session:
        path = Path(settings.ledger or Path(folder) / "ledger.sqlite")
        with Ledger(path, full_sync=settings.ledger_sync == "full") as ledger:
            yield session, ledger


def budgeted_tasks(
    session: Session,
    problems: Sequence[Problem],
    settings: Generation,
    *,
    cap: int,
    waits: int,
    history: Sequence[Mapping[str, str]] = (),
) -> list[Task]:
    """One task per problem, with this budget; `history`: the messages before the question."""
    from slowthink.engines.session import Point
    from slowthink.sampling.sampler import make_tasks

    return make_tasks(
        session, problems, recipe=settings, chat=settings.chat,
        budget=lambda problem: settings.forcing.budget(cap, waits, language=problem.language),
        sampling=settings.sampling.to_record(), history=history,
        points=[Point(cap, waits, steps=settings.forcing.max_thinking_steps)],
    )  # fmt: skip


def ungraded_problem(question: str, *, source: str, row: int, language: str) -> Problem:
    """A problem without a reference answer. Raises ConfigError for text that is not UTF-8."""
    try:
        question.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"question: {question[:80]!r} is not UTF-8; expected text. Convert it."
        ) from None
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        source=source, source_row=str(row), language=language,
    )  # fmt: skip


def completion_row(task: Task, completion: Completion) -> dict[str, Any]:
    """Question, thinking, answer, token counts, why each ended, budget violations."""
    names = ("thinking", "answer", "thinking_end", "answer_end", "events", "violations")
    values = plain(completion)
    row = {"question": task.problem.question, **{name: values[name] for name in names}}
    row["num_thinking_tokens"] = len(values["thinking_ids"])
    row["num_answer_tokens"] = len(values["answer_ids"])
    return row


def thinking_text(row: Mapping[str, Any]) -> str:
    """The thinking, and why it ended."""
    reason = f"{row['thinking_end']}, {row['num_thinking_tokens']} tokens"
    return f"{row['thinking']}\n--- thinking ended: {reason} ---"


def _read_questions(path: Path) -> list[tuple[str, str]]:
    """Questions of a JSONL file, each with its language."""
    if not path.exists():
        raise DataError(f"{path}: no such file; expected rows with a `question`. Check the path.")
    questions = []
    for number, line in json_lines(read_text(path)):
        try:
            row = json.loads(line)
            questions.append((str(row["question"]), str(row.get("language") or "en")))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(
                f"{path}:{number}: saw {line[:60]!r}; expected an object with a `question`. "
                "Fix the row."
            ) from None
    return questions
