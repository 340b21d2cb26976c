"""Thinking delimiters, as text and as the ids of one tokenizer.

A `records.ThinkingFormat` describes the delimiters; `compile_format` encodes them for a tokenizer.
s1's format: `<|im_start|>think\\n` … `<|im_start|>answer\\n` (arXiv 2501.19393; simplescaling/s1
data/tokenization.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.errors import ConfigError, did_you_mean
from slowthink.records import ThinkingFormat

FORMATS: dict[str, ThinkingFormat] = {
    "s1": ThinkingFormat(
        name="s1",
        start="<|im_start|>think\n",
        end="<|im_start|>answer\n",
        end_triggers=("<|im_start|>",),
    ),
    "s1-steps": ThinkingFormat(  # for countdowns, where each step begins with the special token
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
_TEMPLATE_TEXTS = {"think-tags": ("</think>", "<think>"), "gpt-oss": ("<|channel|>",)}
"""Texts that identify the format of a chat template; any one of them does."""


def resolve_format(
    name: str, tokenizer: Any, own: Mapping[str, Any] | None = None
) -> ThinkingFormat:
    """Return the named format; `auto` detects it from the tokenizer's chat template.

    Raises ConfigError for an unknown name and for a template without thinking delimiters.
    """
    if name != AUTO:
        return get_format(name, own)
    template = str(tokenizer.chat_template or "")
    for detected, texts in _TEMPLATE_TEXTS.items():
        if any(text in template for text in texts):
            return FORMATS[detected]
    raise ConfigError(
        f"chat.format: `auto`, but the chat template of `{tokenizer.name_or_path}` has none of "
        f"{', '.join(text for texts in _TEMPLATE_TEXTS.values() for text in texts)}; expected a "
        "thinking model. Name its format: "
        f"{', '.join(sorted({*FORMATS, *(own or ())}))} (for a model trained on s1's texts: s1)."
    )


def get_format(name: str, own: Mapping[str, Any] | None = None) -> ThinkingFormat:
    """Return the named format: the recipe's own (`FormatConfig`) or a built-in one."""
    if own and name in own:
        return ThinkingFormat(name=name, **own[name].model_dump())
    if name in FORMATS:
        return FORMATS[name]
    names = sorted({*FORMATS, AUTO, *(own or ())})
    raise ConfigError(
        f"chat.format: `{name}` is unknown{did_you_mean(name, names)}; expected one of "
        f"{', '.join(names)}. Name one of these, or define it under `formats:` in the recipe."
    )


@dataclass(frozen=True, kw_only=True)
class TokenFormat:
    """A format compiled for one tokenizer."""

    format: ThinkingFormat
    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    newline_ids: tuple[int, ...]
    trigger_ids: frozenset[int]
    """Ids that declare the end when sampled: single-token triggers and end-of-sequence ids."""
    long_triggers: tuple[str, ...]
    """Triggers of several tokens. They are found in the decoded text and need roll-back."""
    eos_ids: frozenset[int]
    encode: Callable[[str], tuple[int, ...]]
    decode: Callable[[Sequence[int]], str]

    @property
    def has_thinking(self) -> bool:
        """Whether a delimiter separates thinking from answer."""
        return bool(self.format.end)

    def closing_ids(
        self, thinking_ids: Sequence[int], *, natural: bool, cue: str | None
    ) -> tuple[int, ...] | None:
        """Return the ids forced between thinking and answer; None if nothing would separate them.

        After a forced end: a new line, the delimiter, the cue. After a natural end: the delimiter
        (its trigger was sampled, the remaining tokens are forced), or the cue if the format has no
        delimiter.
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
    """Compile a format for a tokenizer; `eos_ids` defaults to the tokenizer's."""

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    eos = eos_ids if eos_ids is not None else frozenset({tokenizer.eos_token_id})
    triggers = {text: encode(text) for text in format.end_triggers}
    return TokenFormat(
        format=format,
        start_ids=encode(format.start),
        end_ids=encode(format.end),
        newline_ids=encode("\n"),
        trigger_ids=eos | {ids[0] for ids in triggers.values() if len(ids) == 1},
        long_triggers=tuple(text for text, ids in triggers.items() if len(ids) > 1),
        eos_ids=eos,
        encode=encode,
        decode=decode,
    )


def require_single_token_trigger(token_format: TokenFormat, *, engine: str) -> None:
    """Raise ConfigError if the format needs roll-back, which `engine` does not support."""
    if token_format.long_triggers:
        text = token_format.long_triggers[0]
        raise ConfigError(
            f"chat.format `{token_format.format.name}`: the end trigger {text!r} is "
            f"{len(token_format.encode(text))} tokens of this model's tokenizer, and the engine "
            f"`{engine}` cannot roll back sampled tokens; expected a trigger of one token. Use the "
            "transformers engine, or a format whose trigger is one token (s1 on ChatML models)."
        )
