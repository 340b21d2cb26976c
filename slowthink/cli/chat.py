"""`slowthink chat`: a talk with a model whose thinking has a budget.

Each question is put with the questions and answers before it, never with the thoughts: that is how
slow-thinking models are served. A line that begins with / changes the talk:

    /cap 512    /waits 2    /new    /help
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from slowthink.cli.generate import GenerateRequest, opened, problem_of, row_of, thoughts_text
from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError, SlowthinkError
from slowthink.recipe import Generation
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, make_tasks
from slowthink.stages.filter.quality_strict import language_of

HELP = "/cap N thinking tokens at most, /waits N ends refused, /new forgets the talk; end: Ctrl-D"


class Conversation:
    """One talk: what was said so far, and the budget of the next turn."""

    def __init__(
        self, session: Session, ledger: Ledger, settings: Generation, *, cap: int, waits: int
    ) -> None:
        self.budget = {"cap": cap, "waits": waits}
        self.said: list[dict[str, str]] = []
        """Messages so far, as the chat template takes them."""
        self._session = session
        self._sampler = Sampler(session, ledger, tag="chat")
        self._settings = settings

    def ask(self, question: str) -> dict[str, Any]:
        """The turn's thinking and answer, with counts, ends and violations.

        Raises SlowthinkError where the engine cannot, e.g. since the talk has outgrown its context;
        what was said stays as it was.
        """
        settings = self._settings
        language = language_of(question)
        problem = problem_of(question, source="chat", row=len(self.said), language=language)
        cap, waits = self.budget["cap"], self.budget["waits"]
        (task,) = make_tasks(
            self._session, [problem], recipe=settings, chat=settings.chat,
            budget=settings.forcing.budget(cap, waits, language=language),
            sampling=settings.sampling.record(), earlier=self.said,
            points=[Point(cap, waits, steps=settings.forcing.max_thinking_steps)],
        )  # fmt: skip
        turn = row_of(task, self._sampler.complete([task])[0][0])
        turn["answer"] = turn["answer"].strip()
        self.said += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": turn["answer"]},
        ]
        return turn

    def obey(self, line: str) -> str:
        """Do what a line that begins with / says; what came of it."""
        name, _, value = line[1:].strip().partition(" ")
        if name == "new":
            self.said.clear()
            return "a new talk"
        if name in self.budget:
            if not value.strip().isdecimal():
                raise ConfigError(f"/{name}: saw {value!r}; expected a count, e.g. /{name} 2")
            self.budget[name] = int(value)
            return f"{name} {int(value)}"
        if name == "help":
            return HELP
        raise ConfigError(f"/{name}: no such command; expected one of: {HELP}")


@contextmanager
def open_chat(request: GenerateRequest) -> Iterator[Conversation]:
    """A talk with the model of the request. Raises ConfigError where it is not to be had."""
    with opened(request, command="chat") as (session, ledger, settings):
        yield Conversation(session, ledger, settings, cap=request.cap, waits=request.waits)


def converse(
    chat: Conversation, lines: Iterable[str], *, show: Callable[[dict[str, Any]], None]
) -> int:
    """Take each line as a question or a command until none comes; the number of turns that failed.

    What fails is told on stderr and left out of the talk.
    """
    num_failed = 0
    for line in lines:
        try:
            if line.startswith("/"):
                print(chat.obey(line), file=sys.stderr, flush=True)
            elif line.strip():
                show(chat.ask(line.strip()))
        except SlowthinkError as error:
            num_failed += 1
            print(f"error: {error}", file=sys.stderr, flush=True)
    return num_failed


def turn_text(turn: dict[str, Any], *, dim: bool) -> str:
    """The thoughts (dim on a terminal), why they ended, and the answer."""
    thoughts = thoughts_text(turn).lstrip()
    if turn["violations"]:
        thoughts += f"\nBUDGET VIOLATED: {', '.join(map(str, turn['violations']))}"
    return (f"\x1b[2m{thoughts}\x1b[0m" if dim else thoughts) + f"\n{turn['answer']}"
