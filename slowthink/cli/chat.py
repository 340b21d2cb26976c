"""`slowthink chat`: a conversation with a model under a thinking budget.

Earlier questions and answers are part of each prompt, earlier thinking is not: that is how
slow-thinking models are served. A line that begins with / is a command:

    /cap 512    /waits 2    /new    /help
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import typer

from slowthink.cli import options
from slowthink.cli.generate import print_notice
from slowthink.errors import ConfigError, SlowthinkError
from slowthink.serialise import printable

if TYPE_CHECKING:
    from slowthink.api.model import Model, Thought

HELP = (
    "/cap N: maximum number of thinking tokens; /waits N: how often the end of thinking is "
    "suppressed; /new: start a new conversation; Ctrl-D: quit"
)


def chat(
    model: options.Model = "smollm2-135m",
    thinking_format: options.ThinkingFormat = "plain",
    cap: options.Cap = 512,
    waits: options.Waits = 0,
    wait_string: options.WaitString = None,
    answer_tokens: options.AnswerTokens = 256,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = 0,
    set_: options.Set = None,
    json_: options.Json = False,
) -> None:
    """Chat with a model under a thinking budget. Questions may also be lines on stdin.

    Example: slowthink chat --model runs/quickstart/train/model --format s1 --cap 128
    """
    from slowthink.api.model import generation_settings, open_model

    settings = generation_settings(
        "chat", model=model, format=thinking_format, wait_strings=wait_string,
        answer_tokens=answer_tokens, temperature=temperature, seed=seed, settings=set_ or (),
    )  # fmt: skip

    def show(turn: Thought) -> None:
        line = printable(json.dumps(turn.to_dict(), ensure_ascii=False))
        dim = sys.stdout is not None and sys.stdout.isatty()
        print(
            line if json_ else turn_text(turn, dim=dim),
            flush=True,
        )

    interactive = sys.stdin is not None and sys.stdin.isatty()
    with open_model(settings, notify=print_notice) as opened:
        conversation = Conversation(opened, cap=cap, waits=waits)
        if interactive:
            print(HELP, file=sys.stderr)
        lines = _typed_lines() if interactive else sys.stdin or ()
        num_failed = converse(conversation, lines, show=show)
    if num_failed and not interactive:
        raise typer.Exit(1)


class Conversation:
    """The messages of one conversation, and the budget of the next turn."""

    def __init__(self, model: Model, *, cap: int, waits: int) -> None:
        self.budget = {"cap": cap, "waits": waits}
        self.messages: list[dict[str, str]] = []
        """With `role` and `content`, as chat templates expect."""
        self._model = model

    def ask(self, question: str) -> Thought:
        """Return the turn: thinking and answer.

        Raises SlowthinkError if the engine fails, e.g. because the conversation is longer than
        its context; the messages are then unchanged.
        """
        turn = self._model.think(
            question, max_thinking_tokens=self.budget["cap"], waits=self.budget["waits"],
            history=self.messages,
        )  # fmt: skip
        self.messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": turn.answer},
        ]
        return turn

    def run_command(self, line: str) -> str:
        """Run a line that begins with /; returns a confirmation. Raises ConfigError."""
        name, _, value = line[1:].strip().partition(" ")
        if name == "new":
            self.messages.clear()
            return "new conversation"
        if name in self.budget:
            if not value.strip().isdecimal() or len(value) > 9:
                raise ConfigError(f"/{name}: saw {value!r}; expected a count, e.g. /{name} 2")
            self.budget[name] = int(value)
            return f"{name} {int(value)}"
        if name == "help":
            return HELP
        raise ConfigError(f"/{name}: unknown command; expected one of: {HELP}")


def converse(
    conversation: Conversation, lines: Iterable[str], *, show: Callable[[Thought], None]
) -> int:
    """Answer the question or run the command of each line; returns how many lines failed.

    Errors are printed on stderr, and a failed turn is not part of the conversation.
    """
    num_failed = 0
    for line in lines:
        try:
            if line.startswith("/"):
                print(conversation.run_command(line), file=sys.stderr, flush=True)
            elif line.strip():
                show(conversation.ask(line.strip()))
        except SlowthinkError as error:
            num_failed += 1
            print(printable(f"error: {error}"), file=sys.stderr, flush=True)
    return num_failed


def turn_text(turn: Thought, *, dim: bool) -> str:
    """The thinking (dim on a terminal), why it ended, and the answer, to be printed."""
    thinking = turn.thinking_text.lstrip()
    if turn.violations:
        thinking += f"\nBUDGET VIOLATED: {', '.join(turn.violations)}"
    thinking, answer = printable(thinking), printable(turn.answer)
    return (f"\x1b[2m{thinking}\x1b[0m" if dim else thinking) + f"\n{answer}"


def _typed_lines() -> Iterator[str]:
    """Lines typed at a prompt until Ctrl-D, with readline if it is installed."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    while True:
        try:
            yield input("> ")
        except EOFError:
            return
