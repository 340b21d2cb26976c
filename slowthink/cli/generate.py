"""`slowthink generate`: budget-forced completions of a prompt or of a file of problems."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.engines import open_session
from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import Generation
from slowthink.recipe.loading import parse_settings
from slowthink.records import Completion, Problem, duplicate_key, problem_id
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task, make_tasks
from slowthink.serialise import plain


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What is to be generated, and how."""

    prompt: str | None
    file: Path | None
    cap: int
    waits: int
    settings: Mapping[str, Any]
    """Of `recipe.Generation`."""
    overrides: tuple[str, ...] = ()


Opened = tuple[Session, Ledger, Generation]


def complete(request: GenerateRequest) -> list[dict[str, Any]]:
    """A row per problem: question, thinking, answer, counts, ends, violations, text."""
    problems = _problems(request)
    with opened(request, command="generate") as (session, ledger, settings):
        point = Point(request.cap, request.waits, steps=settings.forcing.max_thinking_steps)
        tasks = make_tasks(
            session, problems, recipe=settings, chat=settings.chat,
            budget=lambda problem: settings.forcing.budget(
                request.cap, request.waits, language=problem.language
            ),
            sampling=settings.sampling.record(), points=[point],
        )  # fmt: skip
        found = Sampler(session, ledger, tag="generate").complete(tasks)
    rows = [row_of(task, completions[0]) for task, completions in zip(tasks, found, strict=True)]
    return [row | {"text": f"{thoughts_text(row)}\n{row['answer'].strip()}"} for row in rows]


@contextmanager
def opened(request: GenerateRequest, *, command: str) -> Iterator[Opened]:
    """The model, a ledger (one that is thrown away where none is named) and the settings.

    Raises ConfigError where a setting is wrong or the model is not to be had.
    """
    if request.cap < 0 or request.waits < 0:
        raise ConfigError(
            f"{command}: --cap {request.cap}, --waits {request.waits}; expected counts of 0 or "
            "more."
        )
    settings = parse_settings(
        Generation, dict(request.settings), where=command, overrides=request.overrides
    )
    session = open_session(settings.model, settings.engine, revision=settings.revision)
    with tempfile.TemporaryDirectory() as folder, session:
        path = Path(settings.ledger or Path(folder) / "ledger.sqlite")
        with Ledger(path, full_sync=settings.ledger_sync == "full") as ledger:
            yield session, ledger, settings


def row_of(task: Task, found: Completion) -> dict[str, Any]:
    """Question, thinking, answer, counts, ends and violations."""
    completion = plain(found)
    named = ("thinking", "answer", "thinking_end", "answer_end", "events", "violations")
    row = {"question": task.problem.question, **{name: completion[name] for name in named}}
    row["num_thinking_tokens"] = len(completion["thinking_ids"])
    row["num_answer_tokens"] = len(completion["answer_ids"])
    return row


def thoughts_text(row: dict[str, Any]) -> str:
    """The thinking, and why it ended."""
    ended = f"{row['thinking_end']}, {row['num_thinking_tokens']} tokens"
    return f"{row['thinking']}\n--- thinking ended: {ended} ---"


def _problems(request: GenerateRequest) -> list[Problem]:
    if (request.prompt is None) == (request.file is None):
        raise ConfigError(
            'generate: give either one PROMPT or --file, e.g. slowthink generate "2+2?"'
        )
    rows = [(request.prompt, "en")] if request.prompt is not None else _questions(request.file)
    return [
        problem_of(question, source="generate", row=number, language=language)
        for number, (question, language) in enumerate(rows)
    ]


def problem_of(question: str, *, source: str, row: int, language: str) -> Problem:
    """A problem that nobody grades."""
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        source=source, source_row=str(row), language=language,
    )  # fmt: skip


def _questions(path: Path | None) -> list[tuple[str, str]]:
    """Questions with their languages."""
    assert path is not None
    if not path.exists():
        raise DataError(f"{path}: no such file; expected JSONL rows with a `question`.")
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            found.append((str(row["question"]), str(row.get("language") or "en")))
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path}:{number}: saw {line[:60]!r}; expected an object with a `question`. "
                "Mend the row."
            ) from None
    return found
