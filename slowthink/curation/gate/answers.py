r"""Where a chain states its answer: the split of a text without an answer part, boxes in the
thinking, and a response with two final answers.

split_at_answer("So x = 4.\n\nIt is \boxed{4}.") == ("So x = 4.", "It is \boxed{4}.")
"""

from __future__ import annotations

import re

from slowthink.grading.answers.compare import AnswerContext, compare
from slowthink.grading.boxes import Box, find_boxes, last_boxes

MAX_PARAGRAPH = 400
"""The answer begins with the box's paragraph; in a longer one, with the box's sentence."""
_PARAGRAPH_END = re.compile(r"(?<=[.!?。！？:：*\])}$])\s*\n\s*\n")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\n\d\.)(?<!Step \d\.)\s+|(?<=[。！？])|(?<=[.!?*\])}$])\s*\n"
)
_LINE_END = re.compile(r"\n\s*")
_HEADING = re.compile(
    r"(?:\A|\n)[ \t]*[#*_]*[ \t]*(?:(?:final )?(?:answer|result|solution)|conclusion|(?:最终"
    r"|最后的?)?答案|结论)"
    r"[ \t]*[:：]?[*_]*[:：]?\s*\Z",
    re.IGNORECASE,
)
"""A heading before the answer."""
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LETTER = re.compile(r"[^\W\d_]{2,}")
_PART = re.compile(
    r"(?:\bparts?\s*)?[(（](?:[b-h]|[2-9]|ii|iii|iv|v)[)）]|[②-⑨]|\bpart [b-h2-9]\b"
    r"|\b(?:second|other) (?:root|part|question|value|case|number)\b|第[二三四五][问小题个]"
    r"|[乙丙丁][：:为得]"
    r"|\n[ \t]*[2-9][.)、]",
    re.IGNORECASE,
)
"""The label of a later part, whose answer is not a second answer to the same question."""
_LETTER_ANSWER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf))?[{( ]*[A-H][}). ]*")
"""The name of an option, which may come after its value."""
_STATED = re.compile(
    r"(?:\banswer(?: is|\s*[:：])|\b答案(?:是|为|：|:)|答案(?:是|为|：|:))[\s*$(]*"
    r"(?P<value>[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?![\d\w^*/+=\\-])",
    re.IGNORECASE,
)


def split_at_answer(text: str) -> tuple[str, str] | None:
    """The text before the sentence or paragraph of the last box, and the rest; None if there is no
    box, or nothing before it."""
    box = last_boxes(text)
    if box is None:
        return None
    start = _answer_start(text, box.start)
    heading = _HEADING.search(text, max(0, start - 60), start)
    if heading is not None:
        start = heading.start()
    thinking, response = text[:start].strip(), text[start:].strip()
    return (
        (thinking, response)
        if _LETTER.search(thinking) or any(map(str.isdigit, thinking))
        else None
    )


def _answer_start(text: str, box_start: int) -> int:
    """Where the last complete sentence or paragraph before a box ends, and words come after it."""
    window = max(0, box_start - MAX_PARAGRAPH)
    for breaks in (_PARAGRAPH_END, _SENTENCE_END, _LINE_END):
        ends = [match.end() for match in breaks.finditer(text, window, box_start)]
        worded = [at for at in ends if _LETTER.search(_COMMAND.sub("", text[at:box_start]))]
        if worded:
            return worded[-1]
    return 0 if window == 0 else box_start


def boxes_in(text: str) -> list[Box]:
    """The boxes that hold an answer."""
    return find_boxes(text) if "box" in text else []


def without_boxes(text: str) -> str:
    """The text with each box's content in its place."""
    pieces, position = [], 0
    for box in boxes_in(text):
        pieces += [text[position : box.start], box.content]
        position = box.end
    return "".join([*pieces, text[position:]])


def earlier_answer(response: str) -> int | None:
    """Where the response states another final answer than its last one; None if it does not.

    Boxes of one list, of labelled parts, and repetitions of the same answer are no second answers.
    """
    last = last_boxes(response)
    if last is not None:
        others = [box for box in find_boxes(response) if box.end <= last.start]
        different = [box for box in others if not _is_same(box.content, last.content)]
        if different and _PART.search(response, different[0].end, last.start) is None:
            return different[0].start
        return None
    stated = list(_STATED.finditer(response))
    different_values = [
        match for match in stated if not _is_same(match["value"], stated[-1]["value"])
    ]
    if not different_values or _PART.search(response):
        return None
    return different_values[0].start()


def last_answer_only(response: str) -> str:
    """The response without its earlier final answers: their boxes are opened; without boxes, it
    begins with the last answer's sentence."""
    last = last_boxes(response)
    if last is not None:
        return without_boxes(response[: last.start]) + response[last.start :]
    stated = list(_STATED.finditer(response))
    if not stated:
        return response
    answer = response[_answer_start(response, stated[-1].start("value")) :].strip()
    return response[stated[-1].start() :] if earlier_answer(answer) is not None else answer


def _is_same(earlier: str, last: str) -> bool:
    """Whether an answer is part of the last one or equal to it, or the last one names an option."""
    if _bare(earlier) in _bare(last) or _LETTER_ANSWER.fullmatch(last.strip()):
        return True
    return compare(last, earlier, context=AnswerContext()).equal is True


def _bare(content: str) -> str:
    return re.sub(r"[\s{}$]|\\(?:text|mathrm|left|right|,|;|!)", "", content)
