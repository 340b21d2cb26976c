"""Conditional length control: the prompt states how long to think, in training too.

The three methods of s1 (arXiv 2501.19393, section 5.1 and appendix); each combines with forcing:

    tokens    "Think for up to 64 tokens."   in training: the length, rounded up to a power of two
    steps     "Think for up to 4 steps."     the thinking counts its remaining steps down to 1
    class     "Answer after a short amount of thinking."   works without training

A countdown over steps that end with blank lines (as in s1; `chat.format: s1-steps`):

    <|im_start|>2 steps left\\n17 + 20 = 37.\\n\\n<|im_start|>1 steps left\\n37 + 5 = 42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slowthink.errors import ConfigError
from slowthink.recipe import ClassControl, ControlConfig, StepControl, TokenControl
from slowthink.records import ThinkingFormat


@dataclass(frozen=True, kw_only=True)
class ControlledThinking:
    """The thinking of a training example, and the line of its prompt that states its length."""

    prompt_line: str | None
    """None: no line."""
    thinking: str


def prompt_line(control: ControlConfig) -> str:
    """The line that is added to a prompt. Raises ConfigError if the control has no amount."""
    if control.amount is None:
        example = "short" if isinstance(control, ClassControl) else "64"
        raise ConfigError(
            f"chat.control: kind `{control.kind}` without an `amount`; expected one in a prompt "
            "(in training it is computed from the text). Give the arm its own chat: "
            f"{{control: {{kind: {control.kind}, amount: {example}}}}}"
        )
    return _format_line(control, control.amount)


def _format_line(control: ControlConfig, amount: int | str) -> str:
    if isinstance(control, ClassControl):
        return control.short if amount == "short" else control.long
    return control.text.replace("{amount}", str(amount))


def control_thinking(
    control: ControlConfig, thinking: str, count_tokens: Callable[[str], int]
) -> ControlledThinking:
    """Return the training text for this thinking: its prompt line, and for steps a countdown."""
    if isinstance(control, TokenControl):
        line = _format_line(control, next_power_of_two(count_tokens(thinking)))
    elif isinstance(control, StepControl):
        steps = split_steps(thinking, control.step_delimiter)
        line = _format_line(control, next_power_of_two(len(steps)))
        thinking = add_countdown(steps, control)
    elif control.threshold_tokens is None:
        return ControlledThinking(prompt_line=None, thinking=thinking)
    else:
        short = count_tokens(thinking) <= control.threshold_tokens
        line = _format_line(control, "short" if short else "long")
    return ControlledThinking(prompt_line=line, thinking=thinking)


def next_power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`; 1 for 0."""
    return 1 << max(0, count - 1).bit_length()


def split_steps(thinking: str, delimiter: str) -> list[str]:
    """The steps of a text, each with its delimiter, without blank ones; as in `forcing.steps`."""
    *pieces, last = thinking.strip().split(delimiter)
    steps = [piece.lstrip() + delimiter for piece in pieces if piece.strip()]
    return [*steps, last.lstrip()] if last.strip() else steps


def add_countdown(steps: list[str], control: StepControl) -> str:
    """Join the steps, each after a mark with the number of steps left, itself included.

    Counting down to 1 shows the model when to stop; counting up would not (s1, appendix).
    """
    texts = []
    for num_left, step in zip(range(len(steps), 0, -1), steps, strict=True):
        mark = control.countdown.replace("{steps}", str(num_left))
        texts.append(mark + step + ("" if step.endswith("\n") or num_left == 1 else "\n"))
    return "".join(texts)


def check_control(control: ControlConfig, format: ThinkingFormat) -> None:
    """Raise ConfigError if a countdown's mark would declare the end of thinking."""
    if not isinstance(control, StepControl):
        return
    for trigger in format.end_triggers:
        if trigger in control.countdown:
            raise ConfigError(
                f"chat.control.countdown: {control.countdown!r} contains {trigger!r}, which ends "
                f"thinking in the format `{format.name}`; expected a mark without it. Use "
                "chat.format: s1-steps (for engines that can roll back), or a mark of ordinary "
                'words: countdown: "{steps} steps left\\n"'
            )
