r"""Thinking and response of a generated text, by the delimiters of many models.

    <think>6 * 9 = 54</think>There are 54.              thinking 6 * 9 = 54, response There are 54.
    6 * 9 = 54</think>There are 54.                     the same; the template opened thinking
    <|channel|>analysis<|message|>6 * 9 = 54<|end|>…    harmony (gpt-oss)

Rule: thinking ends at the last closing delimiter of its kind that is not quoted. The one list of
delimiters: for the grader, replies of judges, imported chains, stored samples and chat APIs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_WORDS_FOR_THINKING = (
    "think", "thinking", "thought", "thoughts", "thought_process", "reasoning", "reason",
    "analysis", "reflection", "scratchpad", "cot", "chain_of_thought", "inner_monologue",
    "longcat_think", "antThinking", "seed:think", "mm:think",
)  # fmt: skip
_HEADINGS = frozenset({"analysis", "reflection", "cot", "reason"})
"""Also words of headings and data: delimiters only where they open the text."""
_WORDS = (
    r"Here(?:'s| is| are) my (?:thought process|reasoning steps):",
    r"(?:Here(?:'s| is) my response:|\[BEGIN FINAL RESPONSE\])",
)
"""The delimiters of Granite and Apriel."""


def _tag_pairs(word: str, capitals: str) -> tuple[tuple[str, str], ...]:
    """The delimiters that a word for thinking, given as a pattern, makes."""
    return (
        (rf"<(?i:{word})\s?>", rf"</(?i:{word})\s?>"),
        (rf"<\|{word}\|>", rf"<\|(?:/|end_of_|end_){word}\|>"),
        (rf"\[(?:BEGIN )?{capitals}\]", rf"\[(?:/|END ){capitals}\]"),
    )


_OTHER_PAIRS = (
    (r"◁think▷", r"◁/think▷"),
    (r"<\|channel>thought", r"<channel\|>"),
    (r"<unused94>(?:thought)?", r"<unused95>"),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"<\|begin_of_thinking\|>", r"<\|end_of_thinking\|>"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|im_start\|>\s*think", r"<\|im_start\|>\s*answer"),
    _WORDS,
)
_PAIRS: tuple[tuple[str, str], ...] = (
    *(pair for word in _WORDS_FOR_THINKING for pair in _tag_pairs(word, word.upper())),
    *_OTHER_PAIRS,
)
"""Opening and closing delimiters of thinking, as patterns."""
_START = re.compile("|".join(opening for opening, _ in _PAIRS))
_ANY_WORD = f"(?:{'|'.join(word for word in _WORDS_FOR_THINKING if word not in _HEADINGS)})"
_SEARCHED = (*_tag_pairs(_ANY_WORD, _ANY_WORD.upper()), *_OTHER_PAIRS)
"""Those that may stand anywhere, in fewer patterns, which are found faster."""
_OPENING = re.compile("|".join(opening for opening, _ in _SEARCHED))
_OPENING_MARK = re.compile("|".join(opening for opening, _ in _SEARCHED if opening != _WORDS[0]))
_CLOSING = re.compile("|".join(closing for _, closing in _SEARCHED))
_ANY_MARK = re.compile(
    "|".join(mark for pair in _SEARCHED if pair != _WORDS for mark in pair)
    + "".join(f"|^{words}" for words in _WORDS)
    + r"|<\|(?:channel|message|start|im_start)\|>",
    re.MULTILINE,
)
"""Any delimiter or mark of a turn; words only at the start of a line."""
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
    r"|<\|END_RESPONSE\|>|\[(?:BEGIN|END) FINAL RESPONSE\]"
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
    if header is not None and not _START.match(text.lstrip()):
        text = text[header.end() :]
    if own is not None and own[1].strip():
        parts = _split_pair(text, *(re.escape(delimiter.strip()) for delimiter in own))
        if parts is not None:
            return _clean(parts)
    return _clean(_split_channels(text) or _split_tags(text))


def response_of(text: str) -> str:
    """The response in a generated text, with its marks; empty if thinking is not closed.

    Thinking that only the words of `_WORDS` open is not taken for unclosed: any text may have them.
    """
    parts = _split_channels(text) or _split_tags(text)
    if parts.unfinished:
        marks = (_OPENING_MARK.search(text), _CHANNEL.search(text), _BARE_ANALYSIS.match(text))
        return "" if any(marks) else text
    reopened = list(_OPENING_MARK.finditer(parts.response))
    return "" if _unquoted(parts.response, reopened, any_if_none=False) else parts.response


def unsplit_marks(parts: TextParts) -> str | None:
    """A mark that remains in the response, which so could not be split; None if there is none."""
    mark = _MARK.search(parts.response)
    return mark.group() if mark is not None else None


def find_delimiter(text: str) -> int | None:
    """Where the first delimiter of thinking or mark of a turn is, quoted or not; None if there is
    none."""
    mark = _ANY_MARK.search(text)
    return None if mark is None else mark.start()


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
    start = _START.match(text.lstrip())
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
