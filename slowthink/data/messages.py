r"""Thinking and text of a message, in the forms of many servers and data sets.

    {"reasoning_content": "6 * 9 = 54", "content": …}   a field of the message
    {"content": [{"type": "thinking", …}, …]}           a typed part of its content
    {"content": "<think>6 * 9 = 54</think>…"}           delimiters in its text (grading.thinking)

Imported chains, stored samples and replies of chat APIs are all read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slowthink.data.rows import UnusableValue, text_value
from slowthink.grading.thinking import TextParts, remove_tags, split_text

SEPARATE_COLUMN = "\n</think>\n\n"
"""The closing delimiter of thinking that has its own column or field."""
THINKING_FIELDS = (
    "reasoning_content", "reasoning", "thinking", "thinking_content", "thought", "thoughts",
    "reasoning_text", "reasoning_details", "chain_of_thought", "think_content", "cot",
)  # fmt: skip
"""Names of a message's or a row's own thinking, by server and data set."""
_THINKING_NAME = re.compile(
    r"(?:^|_)(?:cot|think(?:ing)?|thoughts?|reasoning)"
    r"(?:_(?:content|traces?|text|steps|process|chain|trajectory|part))?$",
    re.I,
)
"""Names with a prefix, such as `r1_reasoning`; read where none of the above is there."""
_NESTED = (
    "metadata", "info", "extra", "additional_kwargs", "response_metadata",
    "provider_specific_fields", "model_extra",
)  # fmt: skip
"""Fields of a message, or of a row, whose own fields are read where it has no thinking itself."""
_MIN_CHARS = 20
"""A shorter text under such a name is a label."""
_FLAGS = frozenset({"on", "off", "yes", "no", "true", "false", "none", "low", "medium", "high"})
"""Values of a field of that name that switch thinking on or off."""


def read_message(
    message: Mapping[str, Any],
    *,
    content_field: str = "content",
    own: tuple[str, str] | None = None,
) -> TextParts:
    """The parts of a message: its own field of thinking, typed parts of its content, and delimiters
    in its text. Raises UnusableValue if a part cannot be read."""
    text, thinking = message_text(message, content_field=content_field)
    field_thinking, notes = thinking_field(message, any_name=True)
    return join_thinking(text, thinking, field_thinking, own=own, notes=notes)


def message_text(
    message: Mapping[str, Any], *, content_field: str = "content"
) -> tuple[str, str | None]:
    """Text and thinking of a message's content: see `read_content`. Without a text in it, the
    message's refusal is the text."""
    text, thinking = read_content(message.get(content_field))
    if not text and isinstance(message.get("refusal"), str):
        text = text_value(message["refusal"], "refusal")
    return text or "", thinking


def join_thinking(
    text: str,
    *thinkings: str | None,
    own: tuple[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> TextParts:
    """The parts of a text whose thinking may stand elsewhere: None where it does not. Different
    thinking in two places is joined, with a note."""
    parts = split_text(text, own=own)
    given = [value for value in thinkings if value is not None]
    if not given:
        return replace(parts, notes=parts.notes + notes)
    given = [remove_tags(value, parts.response) for value in given]
    distinct = {" ".join(value.split()): value for value in (*given, parts.thinking or "")}
    distinct.pop("", None)
    if len(distinct) > 1:
        notes += ("thinking in two places is joined",)
    thinking = "\n".join(distinct.values())
    closing = parts.closing or (SEPARATE_COLUMN if parts.response.strip() else "")
    return TextParts(thinking, closing, parts.response, parts.opened, parts.notes + notes)


def thinking_field(
    values: Mapping[str, Any], *, any_name: bool = False
) -> tuple[str | None, tuple[str, ...]]:
    """The thinking in a field of its own, None if there is none; and notes about it. `any_name`:
    also in a column whose name only ends so, such as `r1_reasoning`."""
    contents: dict[str, str] = {}
    for name in THINKING_FIELDS:
        value = values.get(name)
        if isinstance(value, str) and value.strip().lower() in _FLAGS:
            continue
        if isinstance(value, (str, list, Mapping)):
            contents[name] = _thought_text(value, name)
    filled = {name: text for name, text in contents.items() if text.strip()}
    if not filled and any_name:
        texts = {n: v for n, v in values.items() if isinstance(v, str) and len(v) >= _MIN_CHARS}
        filled = {n: v for n, v in texts.items() if _THINKING_NAME.search(n)}
    if not filled:
        nested = (values[name] for name in _NESTED if isinstance(values.get(name), Mapping))
        found = next(filter(lambda inner: inner[0], map(thinking_field, nested)), None)
        return found or ("" if contents else None, ())
    first = next(iter(filled))
    others = [n for n in filled if " ".join(filled[n].split()) != " ".join(filled[first].split())]
    notes = tuple(f"`{name}` differs from `{first}` and is not read" for name in others)
    return filled[first], notes


def read_content(content: Any) -> tuple[str | None, str | None]:
    """Text and thinking of a message's content: a string, or a list of typed parts; None if absent.

    Raises UnusableValue for a part that is neither text nor thinking, such as an image.
    """
    if content is None or isinstance(content, str):
        return (None if content is None else text_value(content, "content")), None
    if isinstance(content, Mapping) and "type" not in content:
        inner = next(
            (content[name] for name in ("text", "content", "answer") if name in content), ""
        )
        return _thought_text(inner, "content"), thinking_field(content)[0]
    parts = [content] if isinstance(content, Mapping) else content
    if not isinstance(parts, list):
        raise UnusableValue("`content` is neither a string nor a list of parts")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = str(part.get("type") or _kind_of(part)) if isinstance(part, Mapping) else ""
        if kind in _TEXT_PARTS:
            texts.append(_thought_text(part, "content"))
        elif kind.startswith(_THINKING_PARTS):
            thoughts.append(_thought_text(part, "content"))
        else:
            raise UnusableValue(f"`content` has a part of type `{kind[:40]}`; expected text")
    return ("\n".join(texts) if texts else None), ("\n".join(thoughts) if thoughts else None)


_TEXT_PARTS = frozenset({"text", "output_text", "input_text", "refusal"})
_THINKING_PARTS = ("thinking", "reasoning", "redacted_thinking", "thought", "summary_text")
_PART_FIELDS = (
    "text", "thinking", "reasoning", "reasoning_content", "thought", "content", "summary",
    "refusal",
)  # fmt: skip


def hidden_thinking(message: Mapping[str, Any]) -> str | None:
    """How a message hides its thinking, by the types of its parts: None if it has none that says
    so. `summary`: in the place of the thinking stands a summary; `encrypted`: nothing readable.

    A part that is encrypted beside thinking in plain text is its signature; a redacted one is a
    piece of it that is missing.
    """
    values = [message.get("content"), *(message.get(name) for name in THINKING_FIELDS)]
    parts = [part for value in values if isinstance(value, list) for part in value]
    kinds = {str(part.get("type") or "") for part in parts if isinstance(part, Mapping)}
    if "redacted_thinking" in kinds:
        return "encrypted"
    if kinds & _PLAIN_THINKING:
        return None
    if any(kind.endswith(("summary", "summary_text")) for kind in kinds):
        return "summary"
    return "encrypted" if any(kind.endswith("encrypted") for kind in kinds) else None


_PLAIN_THINKING = frozenset(
    {"thinking", "reasoning", "reasoning.text", "reasoning_text", "thought"}
)


def _kind_of(part: Mapping[str, Any]) -> str:
    if part.get("thought") is True:  # Gemini's
        return "thought"
    return next((name for name in ("text", *THINKING_FIELDS) if name in part), "")


def _thought_text(value: Any, name: str, depth: int = 0) -> str:
    """The text of thinking in any of its forms: a string, a part, or a list of these."""
    if isinstance(value, str):
        return text_value(value, name)
    if depth > 4:
        raise UnusableValue(f"`{name}` is nested too deep")
    if isinstance(value, Mapping):
        inner = next((value[key] for key in _PART_FIELDS if value.get(key)), "")
        return _thought_text(inner, name, depth + 1)
    if isinstance(value, list):
        texts = (_thought_text(item, name, depth + 1) for item in value)
        return "\n".join(text for text in texts if text)
    raise UnusableValue(f"`{name}` is neither a text nor a list of parts")
