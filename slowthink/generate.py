"""`slowthink generate`: budget-forced completions of a prompt or of a file of problems."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.engines import open_session
from slowthink.engines.base import Point
from slowthink.errors import ConfigError, DataError
from slowthink.ledger import Ledger
from slowthink.plain import plain
from slowthink.recipe import ChatConfig, EngineConfig, Recipe
from slowthink.records import Budget, Problem, Sampling, duplicate_key, problem_id
from slowthink.sampling import Sampler, make_tasks

if TYPE_CHECKING:
    from slowthink.commands import GenerateRequest


def complete(request: GenerateRequest) -> list[dict[str, Any]]:
    """A row per problem: question, thinking, answer, counts, ends, violations, text."""
    problems = _problems(request)
    if request.cap < 0 or request.waits < 0:
        raise ConfigError(
            f"generate: --cap {request.cap}, --waits {request.waits}; expected counts of 0 or more."
        )
    recipe = Recipe(name="generate", model=request.model, seed=request.seed, engine=EngineConfig())
    budget = Budget(
        max_thinking_tokens=request.cap,
        waits=request.waits,
        wait_strings=request.wait_strings,
        answer_tokens=request.answer_tokens,
    )
    session = open_session(request.model, recipe.engine)
    with tempfile.TemporaryDirectory() as folder, session:
        path = Path(folder) / "ledger.sqlite"
        with Ledger(path) as ledger:
            tasks = make_tasks(
                session,
                problems,
                recipe=recipe,
                chat=ChatConfig(format=request.format),
                budget=budget,
                sampling=Sampling(temperature=request.temperature),
                points=[Point(request.cap, request.waits)],
            )
            found = Sampler(session, ledger, tag="generate").complete(tasks)
    return [
        _row(problem, plain(completions[0]))
        for problem, completions in zip(problems, found, strict=True)
    ]


def _row(problem: Problem, completion: dict[str, Any]) -> dict[str, Any]:
    named = ("thinking", "answer", "thinking_end", "answer_end", "events", "violations")
    row = {"question": problem.question, **{name: completion[name] for name in named}}
    row["num_thinking_tokens"] = len(completion["thinking_ids"])
    row["num_answer_tokens"] = len(completion["answer_ids"])
    row["text"] = (
        f"{completion['thinking']}\n--- thinking ended: {completion['thinking_end']}, "
        f"{row['num_thinking_tokens']} tokens ---\n{completion['answer'].strip()}"
    )
    return row


def _problems(request: GenerateRequest) -> list[Problem]:
    if (request.prompt is None) == (request.file is None):
        raise ConfigError(
            'generate: give either one PROMPT or --file, e.g. slowthink generate "2+2?"'
        )
    questions = [request.prompt] if request.prompt is not None else _questions(request.file)
    return [
        Problem(
            id=problem_id(question),
            duplicate_key=duplicate_key(question),
            question=question,
            source="generate",
            source_row=str(number),
        )
        for number, question in enumerate(questions)
    ]


def _questions(path: Path | None) -> list[str]:
    assert path is not None
    if not path.exists():
        raise DataError(f"{path}: no such file; expected JSONL rows with a `question`.")
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            found.append(str(json.loads(line)["question"]))
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path}:{number}: saw {line[:60]!r}; expected an object with a `question`. "
                "Mend the row."
            ) from None
    return found
