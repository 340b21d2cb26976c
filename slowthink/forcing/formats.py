"""Thinking delimiters, as text and as the ids of one tokenizer.

A format is data (`records.ThinkingFormat`); `compile_format` turns it into token ids once per
model. s1's own: `<|im_start|>think\\n` … `<|im_start|>answer\\n` (arXiv 2501.19393;
simplescaling/s1 data/tokenization.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import ConfigError
from slowthink.records import ThinkingFormat

FORMATS: dict[str, ThinkingFormat] = {
    "s1": ThinkingFormat(
        name="s1",
        start="<|im_start|>think\n",
        end="<|im_start|>answer\n",
        end_triggers=("<|im_start|>",),
    ),
    "s1-steps": ThinkingFormat(  # the special token begins each step too (thinking.control)
        name="s1-steps",
        start="<|im_start|>think\n",
        end="<|im_start|>answer\n",
        end_triggers=("<|im_start|>answer",),
    ),
    "think-tags": ThinkingFormat(
        name="think-tags", start="<think>\n", end="</think>\n\n", end_triggers=("</think>",)
    ),
    "gpt-oss": ThinkingFormat(  # OpenAI's harmony channels
        name="gpt-oss",
        start="<|channel|>analysis<|message|>",
        end="<|end|><|start|>assistant<|channel|>final<|message|>",
        end_triggers=("<|end|>",),
        newline_before_forced_end=False,
    ),
    "plain": ThinkingFormat(name="plain", start="", end="", cue_after_natural_end=True),
}

AUTO = "auto"
_MARKS = {"think-tags": ("</think>", "<think>"), "gpt-oss": ("<|channel|>",)}
"""Texts in a chat template that tell its format; one is enough."""


def format_of(name: str, tokenizer: Any, own: Mapping[str, Any] | None = None) -> ThinkingFormat:
    """The format of that name; `auto` is the one that the tokenizer's chat template speaks of.

    Raises ConfigError for an unknown name, and where a template says nothing of thinking.
    """
    if name != AUTO:
        return get_format(name, own)
    template = str(tokenizer.chat_template or "")
    for known, marks in _MARKS.items():
        if any(mark in template for mark in marks):
            return FORMATS[known]
    raise ConfigError(
        f"chat.format: `auto`, but the chat template of `{tokenizer.name_or_path}` has none of "
        f"{', '.join(mark for marks in _MARKS.values() for mark in marks)}; expected a model that "
        f"thinks. Name its format: {', '.join(sorted({*FORMATS, *(own or ())}))} "
        "(a model tuned on s1's texts: s1)."
    )


def get_format(name: str, own: Mapping[str, Any] | None = None) -> ThinkingFormat:
    """The format of that name: one of the recipe's own (`FormatConfig`), else a built-in one."""
    if own and name in own:
        return ThinkingFormat(name=name, **own[name].model_dump())
    if name in FORMATS:
        return FORMATS[name]
    names = sorted({*FORMATS, AUTO, *(own or ())})
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    raise ConfigError(
        f"chat.format: `{name}` is unknown; expected one of {', '.join(names)}.{hint} "
        "Or describe it under `formats:` in the recipe."
    )


@dataclass(frozen=True, kw_only=True)
class TokenFormat:
    """A format in the ids of one tokenizer."""

    format: ThinkingFormat
    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    newline_ids: tuple[int, ...]
    trigger_ids: frozenset[int]
    """Single ids whose draw declares the end: single-token triggers and end-of-sequence ids."""
    long_triggers: tuple[str, ...]
    """Triggers of several tokens, found in the text: they need roll-back."""
    eos_ids: frozenset[int]
    encode: Callable[[str], tuple[int, ...]]
    decode: Callable[[Sequence[int]], str]

    @property
    def has_thinking(self) -> bool:
        """Whether thinking and answer are told apart by a delimiter."""
        return bool(self.format.end)

    def closing_ids(
        self, thinking_ids: Sequence[int], *, natural: bool, cue: str | None
    ) -> tuple[int, ...] | None:
        """Ids forced between thinking and answer, or None where nothing would part them.

        A forced end starts on a new line, then comes the delimiter, then the cue. After a natural
        end the delimiter alone follows (its trigger was drawn, the rest is forced), in a format
        without delimiter the cue.
        """
        use_cue = cue is not None and (not natural or self.format.cue_after_natural_end)
        if not self.end_ids and not use_cue:
            return None
        ids = () if natural and self.end_ids else self._newline_after(thinking_ids)
        return ids + self.end_ids + (self.encode(cue) if use_cue and cue else ())

    def _newline_after(self, thinking_ids: Sequence[int]) -> tuple[int, ...]:
        if not self.format.newline_before_forced_end:
            return ()
        last = self.decode(thinking_ids[-1:]) if thinking_ids else (self.format.start or "\n")
        return () if last.endswith("\n") else self.newline_ids


def compile_format(
    format: ThinkingFormat, tokenizer: Any, *, eos_ids: frozenset[int] | None = None
) -> TokenFormat:
    """The format in this tokenizer's ids; `eos_ids` defaults to the tokenizer's own."""

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    eos = eos_ids if eos_ids is not None else frozenset({tokenizer.eos_token_id})
    singles = {encode(text)[0] for text in format.end_triggers if len(encode(text)) == 1}
    return TokenFormat(
        format=format,
        start_ids=encode(format.start),
        end_ids=encode(format.end),
        newline_ids=encode("\n"),
        trigger_ids=frozenset(singles) | eos,
        long_triggers=tuple(text for text in format.end_triggers if len(encode(text)) > 1),
        eos_ids=eos,
        encode=encode,
        decode=decode,
    )


def require_single_token_trigger(token_format: TokenFormat, *, engine: str) -> None:
    """Raise ConfigError where the format needs roll-back, which `engine` cannot do."""
    if token_format.long_triggers:
        text = token_format.long_triggers[0]
        raise ConfigError(
            f"chat.format `{token_format.format.name}`: the end trigger {text!r} is "
            f"{len(token_format.encode(text))} tokens of this model's tokenizer, and the engine "
            f"`{engine}` cannot take drawn tokens back; expected a trigger of one token. "
            "Use the transformers engine, or a format whose trigger is one token "
            "(s1 on ChatML models)."
        )
