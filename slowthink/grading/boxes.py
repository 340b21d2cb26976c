r"""Boxed answers: `\boxed{…}` in its spellings, GLM's box marks, and lists of several boxes.

Example: `last_box(r"$x=\boxed{2}$ or $x=\boxed{3}$")` is `2, 3`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from slowthink.grading.bounds import is_rejected

MAX_BOX_LENGTH = 10_000
"""A box must close within this many characters."""
MAX_BOXES = 64
"""Only this many boxes at the end of a text are parsed."""

_BOX = re.compile(
    r"\\(?:f?boxed|Boxed|fbox|framebox)(?![a-zA-Z])(?:(?<=framebox)(?:\[[^\]\n]{0,20}\]){1,2})?"
    r"|\\beginboxed|\\begin\{boxed\}"
    r"|(?<![\\a-zA-Z])[\bb]?oxed(?=\{)|<\|begin_of_box\|>"
)
"""A box's start. A lost backslash leaves `boxed{`, or `oxed{` after a backspace."""
_BOX_ENDS = {
    r"\begin{boxed}": r"\end{boxed}",
    r"\beginboxed": r"\endboxed",
    "<|begin_of_box|>": "<|end_of_box|>",
}
_PLACEHOLDER = re.compile(
    r"(?:\\(?:l|c)?dots|\.{2,}|…|\?+|_+|\\_|\\square|□|\\phantom.*|x{3,}"
    r"|(?:(?:insert|put|write|enter|place)\s)?(?:(?:the|your|my|an?)\s)?"
    r"(?:(?:final|correct|numerical|numeric|exact|right|option)\s)?"
    r"(?:answers?|results?|solution|respuesta|r[ée]ponse|antwort|letter)(?:\s(?:goes\s)?here)?"
    r"|(?:你的|您的|最终|最后的?)*答案|答え)\.?",
    re.IGNORECASE,
)
_KIND_OF_ANSWER = re.compile(
    r"(?:an? |the )?(?:integer|(?:real )?number|value|expression|fraction|decimal|N|X"
    r"|数字|整数|数值)"
)
_MARKUP = re.compile(
    r"\\(?:text(?:bf|it|rm|tt)?|mathrm|mathbf|mbox)(?![a-zA-Z])|[{}\[\]()<>$*\"'`]"
)
_JOINING_TEXT = re.compile(
    r"\\(?:quad|qquad|text|textbf|textrm|mathrm|mbox|,|;|!)|\band\b|\bor\b|[和或与、]"
    r"|(?<![\w\\])[A-Za-z](?:_\{?\w\}?)?\s*="
)
_NEXT_PART = re.compile(
    r"[\s$.,;*)\]\\]*(?:part\s*\(?[b-h2-9]\)?|\((?:[b-h]|[2-9]|ii|iii|iv|v)\)|[②-⑨]|（[2-9]）)"
    r"[^\n]{0,60}",
    re.IGNORECASE,
)
"""The label of a next part: "(b)", "Part 2:"."""
_NEXT_VALUE = re.compile(
    r"[\s$,;]*(?:and|while|et|und|y|和|而)\s+(?:[^\W\d_]+\s+){0,5}?(?:is|are|est|ist|es|=|是"
    r"|为)[\s$:]*"
    r"|[\s$.*\])\\]*[,;\n]\s*(?:[-*]\s+)?\**(?:[^\W\d_]+\s+){0,2}[^\W\d_]+\**\s*[:=][\s$*\[(\\]*"
    r"|[\s$]*[^\W\d_]+\s+(?:and|et|und|y|e)\s+\$?",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"\b(?:so|thus|hence|therefore|then|final(?:ly)?|answer|total|now|no|not|wait|rather"
    r"|actually|check|verif\w+|step)\b",
    re.IGNORECASE,
)


class Box(NamedTuple):
    """A box: where it starts and ends in its text, and what it contains."""

    start: int
    end: int
    content: str


def last_box(text: str) -> str | None:
    """Return the content of the last box, or of the last boxes joined by commas; None if no box."""
    answer = last_boxes(text)
    return None if answer is None else answer.content


def last_boxes(text: str) -> Box | None:
    """Return the last box, with the boxes before it that belong to the same list or parts."""
    boxes = find_boxes(text)
    if not boxes:
        return None
    joined = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _belong_together(text[box.end : joined[0].start]):
            break
        joined.insert(0, box)
    return Box(joined[0].start, joined[-1].end, _join_contents([box.content for box in joined]))


def _join_contents(contents: Sequence[str]) -> str:
    return contents[0] if len(set(contents)) == 1 else ", ".join(contents)


def find_boxes(text: str) -> list[Box]:
    """Return the last outermost boxes, without empty, unclosed and placeholder ones."""
    boxes: list[Box] = []
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        if boxes and match.start() < boxes[-1].end:
            continue
        end, content = _parse_box(text, match)
        if content and not is_placeholder(content):
            boxes.append(Box(match.start(), end, content))
    return boxes


def is_placeholder(content: str) -> bool:
    """Whether an answer only quotes the instruction: "...", "your answer here", "答案"."""
    if len(content) > 100:
        return False
    return _PLACEHOLDER.fullmatch(_MARKUP.sub("", content).strip(" :：")) is not None


def names_kind(content: str) -> bool:
    """Whether a box says what belongs into it, an integer; it is an answer if nothing else is."""
    return _KIND_OF_ANSWER.fullmatch(_MARKUP.sub("", content).strip()) is not None


def without_placeholders(text: str) -> str:
    """Return a text without the boxes that hold no answer, or one that the text rejects."""
    pieces, position = [], 0
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        end, content = _parse_box(text, match)
        is_closed = bool(text[match.end() : end].strip())
        is_none = not content or is_placeholder(content) or is_rejected(text, match.start(), end)
        if match.start() >= position and is_closed and is_none:
            pieces.append(text[position : match.start()])
            position = end
    return "".join([*pieces, text[position:]])


def _parse_box(text: str, match: re.Match[str]) -> tuple[int, str]:
    """Return end and content of a box; of a box that contains only a box, the inner content."""
    closing = _BOX_ENDS.get(match.group())
    if closing and text[match.end() : match.end() + 1] != "{":
        end = text.find(closing, match.end(), match.end() + MAX_BOX_LENGTH)
        if end < 0:
            return match.end(), ""
        return end + len(closing), _inner_content(text[match.end() : end].strip())
    end, content = _braced_content(text, match.end())
    return end, _inner_content(content)


def _braced_content(text: str, start: int) -> tuple[int, str]:
    """Return end and content of a box. Without a closing brace it ends where the formula ends."""
    while start < len(text) and text[start] == " ":
        start += 1
    if text[start : start + 1] != "{":
        bare = re.match(r"[^\s${}\\]+|\\[a-zA-Z]+(?:\{[^{}]*\})*", text[start : start + 200])
        return (start + bare.end(), bare.group().rstrip(".,")) if bare else (start, "")
    depth, window = 0, text[start : start + MAX_BOX_LENGTH]
    for match in re.finditer(r"\\.|[{}]", window, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return start + match.end(), window[1 : match.start()].strip()
    formula = re.match(r"\{([^$\n]+?)(?:\$|\\\]|\\\))", window)
    return (start + formula.end(), formula.group(1).strip()) if formula else (start, "")


def _inner_content(content: str) -> str:
    """Return the inner box's content if a box contains nothing but another box."""
    inner = _BOX.match(content)
    if inner is None:
        return content
    end, inner_content = _braced_content(content, inner.end())
    return content if content[end:].strip(" .$") else inner_content


def _belong_together(between: str) -> bool:
    """Whether the text between two boxes makes them one answer: a list, or labelled parts."""
    if len(between) > 100:
        return False
    if _NEXT_PART.fullmatch(between):
        return True
    if _NEXT_VALUE.fullmatch(between):
        return _CONCLUSION.search(between) is None
    if len(between) > 40 or "\n\n" in between:
        return False
    remaining = re.sub(r"[\s{},;$&]|\\[()\[\]]", "", _JOINING_TEXT.sub("", between))
    return not remaining and ("\n" not in between.strip() or "," in between)
