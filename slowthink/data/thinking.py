r"""The one reader of thinking: a model's text or message in parts, in the forms of many models.

    <think>6 * 9 = 54</think>There are 54.              thinking 6 * 9 = 54, response There are 54.
    6 * 9 = 54</think>There are 54.                     the same; the template opened thinking
    <|channel|>analysis<|message|>6 * 9 = 54<|end|>…    harmony (gpt-oss)
    {"reasoning_content": "6 * 9 = 54", "content": …}   a field or a part of the message

Rule: thinking ends at the last closing delimiter of its kind that is not quoted. Imported chains,
stored samples and replies of chat APIs are all read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.data.rows import UnusableValue, text_value

SEPARATE_COLUMN = "\n</think>\n\n"
"""The closing delimiter of thinking that has its own column or field."""
THINKING_FIELDS = (
    "reasoning_content", "reasoning", "thinking", "thinking_content", "thought", "thoughts",
    "reasoning_details", "chain_of_thought", "cot",
)  # fmt: skip
"""Names of a message's or a row's own thinking, by server and data set."""
_THINKING_NAME = re.compile(
    r"(?:^|_)(?:cot|think|thinking|thoughts?|reasoning|reasoning_(?:content|trace|text|steps))$",
    re.I,
)
"""Names with a prefix, such as `r1_reasoning`; read where none of the above is there."""
_MIN_CHARS = 20
"""A shorter text under such a name is a label."""
_FLAGS = frozenset({"on", "off", "yes", "no", "true", "false", "none", "low", "medium", "high"})
"""Values of a field of that name that switch thinking on or off."""

_TAGS = (
    "think", "thinking", "thought", "thoughts", "reasoning", "reason", "seed:think", "mm:think",
    "longcat_think", "antThinking", "scratchpad",
)  # fmt: skip
_PAIRS: tuple[tuple[str, str], ...] = (
    *((rf"<(?i:{re.escape(tag)})\s?>", rf"</(?i:{re.escape(tag)})\s?>") for tag in _TAGS),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"◁think▷", r"◁/think▷"),
    (r"<\|channel>thought", r"<channel\|>"),
    (r"<unused94>(?:thought)?", r"<unused95>"),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"<\|begin_of_thinking\|>", r"<\|end_of_thinking\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|im_start\|>\s*think", r"<\|im_start\|>\s*answer"),
    (r"Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:"),
)
"""Opening and closing delimiters of thinking, as patterns."""
_OPENING = re.compile("|".join(opening for opening, _ in _PAIRS))
_CLOSING = re.compile("|".join(closing for _, closing in _PAIRS))
_QUOTES = frozenset("`'\"“”‘’«»「」")

_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>\s*(\w+)([^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_BARE_CHANNELS = re.compile(r"\s*analysis(?=\S)(.*)assistantfinal(.*)", re.DOTALL)
_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z])")
"""Harmony whose special tokens were left out when it was decoded."""

_HEADER = re.compile(
    r"(?:\s*(?:<s>|<bos>|<｜begin▁of▁sentence｜>|<\|begin_of_text\|>|<\|im_start\|>assistant"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<｜Assistant｜>|<\|[Aa]ssistant\|>"
    r"|<start_of_turn>model|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>))+\s*"
)
"""Marks of an assistant's turn before its text."""
_END_MARK = re.compile(
    r"(?:</s>|<eos>|<end_of_turn>|<turn\|>|\[EOS\]|<｜end▁of▁sentence｜>|<seed:eos>|<\[?end_of_turn\]?>"
    r"|<\|(?:im_end|eot_id|eom_id|eot|eos|end|endoftext|end_of_text|end_of_turn|end_of_sentence"
    r"|endofassistant|return|user|observation|END_OF_TURN_TOKEN|END_RESPONSE)\|>"
    r"|<\|im_start\|>(?:user)?)\Z"
)
"""An end mark of a model at the end of a text."""
_MAX_MARK_CHARS = 40
_WRAPPERS = re.compile(
    r"<\|(?:begin|end)_of_(?:solution|box|response|answer)\|>|<\|START_RESPONSE\|>"
    r"|<\|END_RESPONSE\|>"
)
"""Marks around a response or its answer, which are removed."""
_MARK = re.compile(r"<\|(?:channel|message|start|im_start|start_header_id)\|>")
"""A mark that no text should still have: a turn, or a part of one, that was not split off."""


@dataclass(frozen=True)
class TextParts:
    """A generated text in parts."""

    thinking: str | None
    """None: the text has no thinking that can be separated."""
    closing: str
    """The delimiter that ended thinking; empty if there is none."""
    response: str
    opened: bool = False
    """Whether the text itself opens thinking; False also if the prompt's template opened it."""
    notes: tuple[str, ...] = ()
    """What a reader of the row should know about the split."""

    @property
    def unfinished(self) -> bool:
        """Whether thinking was opened and never closed."""
        return self.thinking is not None and not self.closing


def split_text(text: str, *, own: tuple[str, str] | None = None) -> TextParts:
    """The parts of a generated text. The opening delimiter may be missing, since it may be part of
    the prompt. If thinking is never closed, the response is the text before it, usually none.

    `own`: another opening and closing delimiter, as texts, which are looked for first.
    """
    header = _HEADER.match(text)
    if header is not None and not _OPENING.match(text.lstrip()):
        text = text[header.end() :]
    if own is not None and own[1].strip():
        parts = _split_pair(text, *(re.escape(delimiter.strip()) for delimiter in own))
        if parts is not None:
            return _clean(parts)
    return _clean(_split_channels(text) or _split_tags(text))


def unsplit_marks(parts: TextParts) -> str | None:
    """A mark that remains in the response, which so could not be split; None if there is none."""
    mark = _MARK.search(parts.response)
    return mark.group() if mark is not None else None


def remove_tags(thinking: str, response: str = "") -> str:
    """A thinking column without the delimiters around it; a copy of the response after them is
    dropped too."""
    parts = split_text(thinking)
    if parts.thinking is None:
        return strip_end_marks(thinking)
    if parts.unfinished:
        return thinking if parts.response.strip() else parts.thinking
    if not parts.response.strip() or parts.response.strip() in response:
        return parts.thinking
    return thinking


# --- delimiters in a text -------------------------------------------------------------------------


def _clean(parts: TextParts) -> TextParts:
    response = _WRAPPERS.sub("", strip_end_marks(parts.response))
    thinking = parts.thinking
    if thinking is not None and parts.unfinished:
        thinking = strip_end_marks(thinking)
    return replace(parts, thinking=thinking, response=response)


def strip_end_marks(text: str) -> str:
    """The text without the end marks of models, such as `<|im_end|>`, at its end."""
    while True:
        stripped = text.rstrip()
        mark = _END_MARK.search(stripped, max(0, len(stripped) - _MAX_MARK_CHARS))
        if mark is None:
            return text
        text = stripped[: mark.start()].rstrip()


def _split_tags(text: str) -> TextParts:
    start = _OPENING.match(text.lstrip())
    if start is not None:
        opening, closing = next(pair for pair in _PAIRS if re.fullmatch(pair[0], start.group()))
        parts = _split_pair(text, opening, closing)
        if parts is not None:
            return parts
        return TextParts(text.lstrip()[start.end() :], "", "", opened=True)
    ends = _unquoted(text, list(_CLOSING.finditer(text)), any_if_none=False)
    if ends:
        opening, closing = next(pair for pair in _PAIRS if re.fullmatch(pair[1], ends[-1].group()))
        parts = _split_pair(text, opening, closing)
        assert parts is not None
        return parts
    begin = _OPENING.search(text)
    if begin is not None and _unquoted(text, [begin], any_if_none=False):
        return TextParts(text[begin.end() :], "", text[: begin.start()], opened=True)
    return TextParts(None, "", text)


def _split_pair(text: str, opening: str, closing: str) -> TextParts | None:
    """Split at one pair of delimiters, given as patterns; None if the closing one is missing."""
    ends = list(re.finditer(closing, text))
    if not ends:
        return None
    end = _unquoted(text, ends)[-1]
    before, notes = text[: end.start()], []
    if len(ends) > 1:
        notes.append(f"{len(ends)} times {end.group()}; the thinking ends at the last")
    start = re.match(rf"\s*(?:{opening})", before) if opening else None
    if start is None and opening:
        start = re.search(rf"^[ \t]*(?:{opening})", before, re.MULTILINE)
    thinking = _without_reopenings(before[start.end() :] if start else before, opening, closing)
    if start is not None and (preface := before[: start.start()].strip()):
        thinking = f"{preface}\n{thinking.lstrip()}"
        notes.append("text before the thinking is part of it")
    return TextParts(
        thinking, end.group(), text[end.end() :], opened=start is not None, notes=tuple(notes)
    )


def _without_reopenings(thinking: str, opening: str, closing: str) -> str:
    """Thinking in several blocks as one: without each end that another beginning follows."""
    if not opening or not re.search(opening, thinking):
        return thinking
    marks = list(re.finditer(f"(?P<end>{closing})|(?:{opening})", thinking))
    pieces, position, last_end = [], 0, None
    for mark in _unquoted(thinking, marks, any_if_none=False):
        if mark["end"]:
            last_end = mark
        elif last_end is not None:
            pieces += [
                thinking[position : last_end.start()],
                thinking[last_end.end() : mark.start()],
            ]
            position, last_end = mark.end(), None
    return "".join([*pieces, thinking[position:]])


def _unquoted(
    text: str, matches: Sequence[re.Match[str]], *, any_if_none: bool = True
) -> list[re.Match[str]]:
    """The matches that are not between quotation marks; all of them if there is none."""

    def is_quoted(match: re.Match[str]) -> bool:
        start, end = match.span()
        return {text[start - 1 : start], text[end : end + 1]} <= _QUOTES

    kept = [match for match in matches if not is_quoted(match)]
    return kept or (list(matches) if any_if_none else [])


def _split_channels(text: str) -> TextParts | None:
    """Harmony: the `analysis` channel is the thinking, the last `final` one the response."""
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        if (bare := _BARE_CHANNELS.fullmatch(text)) is not None:
            return TextParts(bare[1], "assistantfinal", bare[2], opened=True)
        if (bare := _BARE_ANALYSIS.match(text)) is not None:
            return TextParts(text[bare.end() :], "", "", opened=True)
        return None
    thoughts, closing, response, notes = [], "", "", []
    before = _CHANNEL_END.split(text[: channels[0].start()], maxsplit=1)[0].strip()
    if before:  # the template opened the first channel
        thoughts.append(before)
    for index, channel in enumerate(channels):
        end = channels[index + 1].start() if index + 1 < len(channels) else len(text)
        content = _CHANNEL_END.split(text[channel.end() : end], maxsplit=1)[0]
        if channel[1] != "final":
            thoughts.append(content)
            if channel[1] != "analysis" or "to=" in channel[2]:
                notes.append(f"the channel `{channel[1]}` is part of the thinking")
            continue
        if closing:
            thoughts.append(response)
            notes.append("several final channels; the last is the response")
        closing, response = f"<|end|>{channel.group()}", content
    thinking = "\n".join(thoughts) if thoughts else ("" if closing else None)
    return TextParts(thinking, closing, response, opened=not before, notes=tuple(notes))


# --- messages -------------------------------------------------------------------------------------


def read_message(
    message: Mapping[str, Any],
    *,
    content_field: str = "content",
    own: tuple[str, str] | None = None,
) -> TextParts:
    """The parts of a message: its own field of thinking, typed parts of its content, and delimiters
    in its text. Raises UnusableValue if a part cannot be read."""
    text, thinking = read_content(message.get(content_field))
    field_thinking, notes = thinking_field(message)
    return join_thinking(text or "", thinking, field_thinking, own=own, notes=notes)


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
        return ("" if contents else None), ()
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


_TEXT_PARTS = frozenset({"text", "output_text", "input_text"})
_THINKING_PARTS = ("thinking", "reasoning", "redacted_thinking", "thought", "summary_text")
_PART_FIELDS = (
    "text", "thinking", "reasoning", "reasoning_content", "thought", "content", "summary",
)  # fmt: skip


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
