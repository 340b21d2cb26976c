"""Conditional length control: the prompt says how long to think, and so do the training texts.

The three methods of s1 (arXiv 2501.19393, section 5.1 and appendix); each combines with forcing:

    tokens    "Think for up to 64 tokens."   in training: the length, rounded up to a power of two
    steps     "Think for up to 4 steps."     and the thinking counts its steps down to 1
    class     "Answer after a short amount of thinking."   works without training

A countdown over steps that end with blank lines (s1's marks; `chat.format: s1-steps`):

    <|im_start|>2 steps left\\n17 + 20 = 37.\\n\\n<|im_start|>1 steps left\\n37 + 5 = 42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slowthink.errors import ConfigError
from slowthink.recipe import ClassControl, ControlConfig, StepControl, TokenControl
from slowthink.records import ThinkingFormat


@dataclass(frozen=True, kw_only=True)
class ControlledText:
    """A training text with length control."""

    line: str | None
    """Added after the question, unless None."""
    thinking: str


def prompt_line(control: ControlConfig) -> str:
    """The line of a prompt. Raises ConfigError if the control has no amount."""
    if control.amount is None:
        example = "short" if isinstance(control, ClassControl) else "64"
        raise ConfigError(
            f"chat.control: kind `{control.kind}` without an `amount`; expected one in a prompt "
            "(in training it follows from the text). Give the arm its own chat: "
            f"{{control: {{kind: {control.kind}, amount: {example}}}}}"
        )
    return _line(control, control.amount)


def _line(control: ControlConfig, amount: int | str) -> str:
    if isinstance(control, ClassControl):
        return control.short if amount == "short" else control.long
    return control.text.replace("{amount}", str(amount))


def control_text(
    control: ControlConfig, thinking: str, count_tokens: Callable[[str], int]
) -> ControlledText:
    """The training text for this thinking: the line that states its length, and the countdown."""
    if isinstance(control, TokenControl):
        amount = next_power_of_two(count_tokens(thinking))
        return ControlledText(line=_line(control, amount), thinking=thinking)
    if isinstance(control, StepControl):
        steps = split_steps(thinking, control.step_delimiter)
        line = _line(control, next_power_of_two(len(steps)))
        return ControlledText(line=line, thinking=countdown(steps, control))
    if control.threshold_tokens is None:
        return ControlledText(line=None, thinking=thinking)
    short = count_tokens(thinking) <= control.threshold_tokens
    return ControlledText(line=_line(control, "short" if short else "long"), thinking=thinking)


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`; 1 for 0."""
    return 1 << max(0, number - 1).bit_length()


def split_steps(thinking: str, delimiter: str) -> list[str]:
    """The non-blank steps of a text, each with its delimiter; the same steps as `forcing.steps`."""
    *whole, last = thinking.strip().split(delimiter)
    steps = [piece.lstrip() + delimiter for piece in whole if piece.strip()]
    return [*steps, last.lstrip()] if last.strip() else steps


def countdown(steps: list[str], control: StepControl) -> str:
    """The steps, each after a mark with the number of steps left, itself included.

    A count down to 1 shows the model when to stop; counting up would not (s1, appendix).
    """
    parts = []
    for left, step in zip(range(len(steps), 0, -1), steps, strict=True):
        mark = control.countdown.replace("{steps}", str(left))
        parts.append(mark + step + ("" if step.endswith("\n") or left == 1 else "\n"))
    return "".join(parts)


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
