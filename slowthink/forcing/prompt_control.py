"""Control by the prompt: a model is told how long to think, and trained on texts that say so.

Three ways of s1 (arXiv 2501.19393, section 5.1 and appendix), each to be had with forcing on top:

    tokens    "Think for up to 64 tokens."   the power of two at or above the thinking's length
    steps     "Think for up to 4 steps."     and the thinking counts its steps down to 1
    class     "Answer after a short amount of thinking."   no training needed

A countdown, its steps parted by blank lines (s1's own marks; `chat.format: s1-steps`):

    <|im_start|>2 steps left\\n17 + 20 = 37.\\n\\n<|im_start|>1 steps left\\n37 + 5 = 42.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from slowthink.errors import ConfigError
from slowthink.recipe import ClassControl, ControlConfig, StepControl, TokenControl
from slowthink.records import ThinkingFormat


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """A training text under control."""

    line: str | None
    """Put after the question. None: nothing is."""
    thinking: str


def prompt_line(control: ControlConfig) -> str:
    """What a model is told when it is asked. Raises ConfigError where no amount is given."""
    if control.amount is None:
        example = "short" if isinstance(control, ClassControl) else "64"
        raise ConfigError(
            f"chat.control: kind `{control.kind}` without an `amount`; expected one where a model "
            "is asked (in training it comes from the text). Give the arm its own chat: "
            f"{{control: {{kind: {control.kind}, amount: {example}}}}}"
        )
    return _line(control, control.amount)


def _line(control: ControlConfig, amount: int | str) -> str:
    if isinstance(control, ClassControl):
        return control.short if amount == "short" else control.long
    return control.text.replace("{amount}", str(amount))


def controlled(
    control: ControlConfig, thinking: str, count_tokens: Callable[[str], int]
) -> Controlled:
    """The training text for this thinking: the line of its length, and its steps counted down."""
    if isinstance(control, TokenControl):
        amount = bucket(count_tokens(thinking))
        return Controlled(line=_line(control, amount), thinking=thinking)
    if isinstance(control, StepControl):
        steps = split_steps(thinking, control.step_delimiter)
        line = _line(control, bucket(len(steps)))
        return Controlled(line=line, thinking=countdown(steps, control))
    if control.threshold_tokens is None:
        return Controlled(line=None, thinking=thinking)
    short = count_tokens(thinking) <= control.threshold_tokens
    return Controlled(line=_line(control, "short" if short else "long"), thinking=thinking)


def bucket(number: int) -> int:
    """The power of two at or above a number; 1 for 0."""
    return 1 << max(0, number - 1).bit_length()


def split_steps(thinking: str, delimiter: str) -> list[str]:
    """The steps of a text, each with the delimiter that ends it; blank ones are none.

    A budget in steps (`thinking.steps`) counts the same ones.
    """
    *whole, rest = thinking.strip().split(delimiter)
    steps = [piece.lstrip() + delimiter for piece in whole if piece.strip()]
    return [*steps, rest.lstrip()] if rest.strip() else steps


def countdown(steps: list[str], control: StepControl) -> str:
    """The steps, each under a mark that says how many are left, itself included: the last says 1.

    Counting down to 1 tells the model when to stop; counting up would not (s1, appendix).
    """
    parts = []
    for left, step in zip(range(len(steps), 0, -1), steps, strict=True):
        mark = control.countdown.replace("{steps}", str(left))
        parts.append(mark + step + ("" if step.endswith("\n") or left == 1 else "\n"))
    return "".join(parts)


def check_control(control: ControlConfig, format: ThinkingFormat) -> None:
    """Raise ConfigError where a countdown's mark would itself declare the end of thinking."""
    if not isinstance(control, StepControl):
        return
    for trigger in format.end_triggers:
        if trigger in control.countdown:
            raise ConfigError(
                f"chat.control.countdown: {control.countdown!r} holds {trigger!r}, whose draw ends "
                f"thinking in the format `{format.name}`; expected a mark that does not. Use "
                "chat.format: s1-steps (for engines that can roll back), or a mark of ordinary "
                'words: countdown: "{steps} steps left\\n"'
            )
