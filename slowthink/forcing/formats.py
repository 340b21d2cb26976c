"""Thinking delimiters, as text and as token ids.

A `records.ThinkingFormat` contains the delimiters; `compile_format` encodes them with a tokenizer.
s1's format: `<|im_start|>think\\n` … `<|im_start|>answer\\n` (arXiv 2501.19393; simplescaling/s1
data/tokenization.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
    "s1-steps": ThinkingFormat(  # for countdowns: each step begins with the special token
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
_TEMPLATE_MARKERS = {"think-tags": ("</think>", "<think>"), "gpt-oss": ("<|channel|>",)}
"""Format of a chat template that contains any of these texts."""


def resolve_format(
    name: str, tokenizer: Any, custom_formats: Mapping[str, Any] | None = None
) -> ThinkingFormat:
    """Return the named format; `auto` detects it from the tokenizer's chat template.

    Raises ConfigError for an unknown name and for a template without thinking delimiters.
    """
    if name != AUTO:
        return get_format(name, custom_formats)
    detected = detect_format(tokenizer)
    if detected is not None:
        return detected
    all_markers = [marker for markers in _TEMPLATE_MARKERS.values() for marker in markers]
    names = sorted({*FORMATS, *(custom_formats or ())})
    raise ConfigError(
        f"chat.format: `auto`, but the chat template of `{tokenizer.name_or_path}` has none of "
        f"{', '.join(all_markers)}; expected a thinking model. Name its format: "
        f"{', '.join(names)} (for a model trained on s1's texts: s1)."
    )


def detect_format(tokenizer: Any) -> ThinkingFormat | None:
    """Return the format of the tokenizer's chat template; None if it has no thinking delimiters."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    for format_name, markers in _TEMPLATE_MARKERS.items():
        if any(marker in template for marker in markers):
            return FORMATS[format_name]
    return None


def get_format(name: str, custom_formats: Mapping[str, Any] | None = None) -> ThinkingFormat:
    """Return the named format: a custom one of the recipe (`FormatConfig`) or a built-in one."""
    if custom_formats and name in custom_formats:
        return ThinkingFormat(name=name, **custom_formats[name].model_dump())
    if name in FORMATS:
        return FORMATS[name]
    names = sorted({*FORMATS, AUTO, *(custom_formats or ())})
    raise ConfigError(
        f"chat.format: `{name}` is unknown{did_you_mean(name, names)}; expected one of "
        f"{', '.join(names)}. Name one of these, or define it under `formats:` in the recipe."
    )


@dataclass(frozen=True, kw_only=True)
class TokenFormat:
    """A format in the token ids of one tokenizer."""

    format: ThinkingFormat
    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    newline_ids: tuple[int, ...]
    trigger_ids: frozenset[int]
    """Ids that declare the end if sampled: single-token triggers and end-of-sequence ids."""
    long_triggers: tuple[str, ...]
    """Triggers of several tokens: detected in the decoded text, and removed by roll-back."""
    eos_ids: frozenset[int]
    encode: Callable[[str], tuple[int, ...]]
    decode: Callable[[Sequence[int]], str]
    line_ends: LineEnds

    @property
    def has_delimiter(self) -> bool:
        """Whether a delimiter separates thinking and answer."""
        return bool(self.format.end)

    def closing_ids(
        self, thinking_ids: Sequence[int], *, natural: bool, cue: str | None
    ) -> tuple[int, ...] | None:
        """Return the ids to force between thinking and answer; None if there are none.

        After a forced end: a new line, the delimiter, the cue. After a natural end: the delimiter
        (the sampled trigger is not kept), or the cue if the format has no delimiter.
        """
        use_cue = cue is not None and (not natural or self.format.cue_after_natural_end)
        if not self.end_ids and not use_cue:
            return None
        newline_ids = () if natural and self.end_ids else self._newline_after(thinking_ids)
        return newline_ids + self.end_ids + (self.encode(cue) if use_cue and cue else ())

    def _newline_after(self, thinking_ids: Sequence[int]) -> tuple[int, ...]:
        if not self.format.newline_before_forced_end:
            return ()
        if thinking_ids:
            return () if thinking_ids[-1] in self.line_ends else self.newline_ids
        return () if (self.format.start or "\n").endswith("\n") else self.newline_ids


def compile_format(
    format: ThinkingFormat, tokenizer: Any, *, eos_ids: frozenset[int] | None = None
) -> TokenFormat:
    """Encode a format with a tokenizer; `eos_ids` defaults to the tokenizer's."""

    @lru_cache(maxsize=256)
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
        line_ends=_line_ends(tokenizer),
    )


class LineEnds:
    """The ids of one tokenizer whose text ends with a newline."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._is_line_end: dict[int, bool] = {}
        self._ids: frozenset[int] | None = None

    def __contains__(self, token: int) -> bool:
        if self._ids is not None:
            return token in self._ids
        if token not in self._is_line_end:
            text = self._tokenizer.decode([token], skip_special_tokens=False)
            self._is_line_end[token] = text.endswith("\n")
        return self._is_line_end[token]

    def ids(self) -> frozenset[int]:
        """All of them; the first call decodes the vocabulary."""
        if self._ids is None:
            self._ids = frozenset(token for token in range(len(self._tokenizer)) if token in self)
        return self._ids


_line_ends = lru_cache(maxsize=8)(LineEnds)


def require_single_token_trigger(token_format: TokenFormat, *, engine: str) -> None:
    """Raise ConfigError if a trigger has several tokens, which `engine` cannot roll back."""
    if token_format.long_triggers:
        text = token_format.long_triggers[0]
        raise ConfigError(
            f"chat.format `{token_format.format.name}`: the end trigger {text!r} is "
            f"{len(token_format.encode(text))} tokens of this model's tokenizer, and the engine "
            f"`{engine}` cannot roll back sampled tokens; expected a trigger of one token. Use the "
            "transformers engine, or a format whose trigger is one token (s1 on ChatML models)."
        )
