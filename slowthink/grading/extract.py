r"""Answer extraction: which span of a response is its answer.

All extraction of answers is here; the grader compares what is extracted. Thinking is ignored.
Example: `extract(r"so $x = \boxed{\frac{1}{2}}$.")` is `\frac{1}{2}`.

The sources of evidence, in order of their strength (`extract` reads like this list):

1. with options, the line that names an option's letter,
2. the last box, or the last boxes as parts of one answer (`boxes`),
3. the line after "Answer:" or another marker,
4. what the end states without a marker: a bold line, a table's total, the last sentence (`finals`),
5. on request, the last number.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from slowthink.grading.answers.choice import LETTERS, letter_in_sentence, parse_choice
from slowthink.grading.bounds import is_supposed, says_unknown, without_rejected
from slowthink.grading.boxes import (
    Box,
    is_placeholder,
    last_boxes,
    names_kind,
    without_placeholders,
)
from slowthink.grading.finals import labelled_parts, last_statement
from slowthink.grading.sentences import (
    SPECIAL_TOKEN,
    answer_in_sentence,
    contains_more_than_answer,
    find_last_number,
    strip_markup,
)
from slowthink.grading.statements import has_value, value_in_statement, values_of_clauses
from slowthink.grading.thinking import response_of

MAX_TEXT_LENGTH = 200_000
"""Only this many characters at the end of a text are searched."""
MAX_MARKERS = 16
"""Only this many markers at the end of a text are tried."""
MAX_PARTS = 8
"""An answer has at most so many labelled lines."""
MAX_RETRACTIONS = 8
"""An answer that is withdrawn more often is none."""

_ANSWER_WORD = (
    r"(?:antwort|respuesta|r[ée]ponse|risposta|resposta|ответ|javob|jawaban|odpowiedź|cevap|svar"
    r"|đáp (?:số|án)|câu trả lời|الجواب|الإجابة|उत्तर|答え|正解|解答|정답|답"
    r"|antwoord|odpověď|vastaus)"
)
_NEGATION = "(?:nicht|pas|no|non|não|не|không|ikke|inte|nie|bukan|değil)"
_ANSWER_MARKER = re.compile(
    r"(?:(?:final\s+)?\banswer\b(?:\s(?:to|for|of)\s[^.\n:=?]{1,60}?)?\W{0,3}?\s*(?:is\b|:|=)"
    r"|\bfinal result\b\W{0,3}?\s*(?:is\b|:|=)|\bans\s?[.:=]"
    r"|(?:最终|正确)?答案[*\s]{0,3}(?:应该|应)?\s*(?:是|为|[:：=】])|答[:：】]"
    r"|(?<![不可能要])选(?:择)?\s*[:：]?(?=[\s(（*]*[A-J](?:[\s、,，和与()（）]*[A-J])*[\s)）*]*(?:[.。．]|$))"
    rf"|(?<!\w){_ANSWER_WORD}(?:\s(?!{_NEGATION}\b)[^\W\d_]{{2,12}}){{0,3}}?\W{{0,3}}?\s*"
    r"(?:[:：=—–]|は|은|는|(?:is|ist|lautet|es|est|è|é|là|adalah|هو|هي|är|er|to|je|on)\b)"
    r"|(?<!\w)(?:उत्तर|cevap|คำตอบ(?:คือ)?)\s+(?=[-−$(]*\d|[A-J]\b)"
    r"|^[#*\t ]*(?:final\s+)?answer[*\t ]*$|^[\t ]*####)",
    re.IGNORECASE | re.MULTILINE,
)
_SHORT_MARKER = re.compile(r"^[*\t ]*A(?:ns)?[:.][*\t ]+(?=\S)", re.MULTILINE)
"""A line "A: 72", which with options would be the option A."""
_OPTION_MARKER = re.compile(
    r"(?:\b(?:correct|right|best|matching|final)\s+(?:option|choice|statement|answer|one)s?\b\W{0,3}?"
    r"\s*(?:is\b|are\b|:|=)|\b(?:alternativa|opci[oó]n|opção|opzione|option|Aussage|вариант)\s+"
    r"(?:corret[ao]|correct[ae]|bonne|giusta)?\W{0,3}(?:é|es|est|ist|è|—)\s"
    r"|(?:故|应|因此|所以|，|。|^)[*\t ]{0,3}选(?:择)?"
    r"|(?:正确|符合题意)的?(?:选项)?(?:是|为))",
    re.IGNORECASE | re.MULTILINE,
)
"""What names an option, in a problem that has options."""
_SAYS_NO = ("不对",)
"""Answers that withdraw nothing, though elsewhere the same words do."""
_SEVERAL_VALUES = re.compile(r"答[:：】]$")
_NEW_QUESTION = re.compile(
    r"<\|(?:im_start|start_header_id)\|>user|<\|user\|>|<start_of_turn>user|<｜User｜>|\[INST\]"
    r"|^#{1,6}\s?instruction\b"
    r"|^[#*\t ]*(?:question|problem|q|user|human|题目|问题|问)(?:\s?\d{1,3})?\s?[*]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_STATED = re.compile(
    r"\\f?boxed\s*\{|^[\t ]*####|\banswer\b\W{0,3}\s*(?:is\b|:)\s*\S|答案?[:：]", re.I | re.M
)
_RETRACTION = re.compile(
    r"(?:\b(?:wait|actually|hmm|oops|correction|hold on|scratch that|on reflection|my mistake)\b"
    r"|\bno[,:.!])[^?\n]{0,40}?\b(?:that|this|it|answer|i|we|should)\b[^?\n]{0,40}?"
    r"\b(?:wrong|incorrect|mistaken|not (?:right|correct)|(?:cannot|can['’]t|should) be"
    r"|isn['’]t right|forgot|missed|dropped|overlooked|made an? (?:mistake|error))\b"
    r"[^?\n.]{0,80}(?:[.!:;,\n]|$)"
    r"|不对|更正|(?:我|算|弄|搞)错了",
    re.IGNORECASE,
)
"""Words that withdraw the answer before them: "Wait, that is wrong"."""
_REASON = re.compile(
    r"(?:[,，]\s*(?:which|because|since|as|i\.e\.|that is|namely)(?!\w)|\s(?:because|since)\b"
    r"|\s[(（](?=[^()（）\\$]*[^\W\d_]{3,}\s[^\W\d_]{2,})[^()（）\\$]*[)）]\W*$).*",
    re.DOTALL,
)
"""A reason or a remark in words after an answer."""
_COPULA_AT_END = re.compile(r"(?:['’][dt][ıiuü]r|である|です|だ|입니다|이다|이에요|예요)$")
_SOLVED_EQUATION = re.compile(
    r"(?!\w\s*=)[^=,;]+=[^=,;]+[,;]\s*(?:so\s|thus\s|hence\s)?([A-Za-z]\s*=[^=,;]+)"
)
"""An equation and its solution: "x + 2 = 7, x = 5"."""
_COUNTED = re.compile(
    r"[-−]?\d[\d.,/]*\s?[\u0400-\u0fff\u1100-\u11ff\u3040-\u30ff\uac00-\ud7af]{1,20}$"
)
"""A number and what is counted, in Cyrillic, Arabic, Indian scripts, Kana or Hangul."""
_SENTENCE_END = re.compile(r"(?<=[^\s.][.!])\s+(?=[A-Z(\\$*])|(?<=[。！])(?=[^\s\d])")


_YES_OR_NO = re.compile(r"(yes|no)\**[.,:;—–]\s", re.IGNORECASE)
_JSON_VALUE = re.compile(r'(?:"((?:[^"\\]|\\.)+)"|([-−]?[\d.]+))\s*[,}].*', re.DOTALL)


class _Found(NamedTuple):
    """An answer, and where the text after it starts."""

    answer: str
    end: int


def extract(
    text: str,
    *,
    last_number: bool = False,
    choices: tuple[str, ...] = (),
    whole_line: bool = False,
) -> str | None:
    r"""Return the answer in a text, unchanged; None if there is none.

    If the text has <answer> tags, only the content of the last one is searched. Boxes joined by
    commas, "and" or part labels are one list. An answer that the text withdraws afterwards does not
    count, nor does what follows when the text goes on with a question of its own. With `whole_line`
    a sentence after "Answer:" is returned whole, for a reference answer that is a sentence too.
    """
    text = response_text(text)
    content = _answer_tag_content(text)
    if content is not None and last_boxes(content) is None:
        whole = content.strip() or None
        return whole if whole_line and whole else extract_from_prose(content)
    text = text if content is None else content
    answer, rest = _search(text, choices=choices, whole_line=whole_line)
    if answer is None:
        num_options = len(choices)
        if choices:
            answer = _letter_at_end(rest, num_options=num_options) or _option_at_end(rest, choices)
        else:
            answer = last_statement(rest) or _yes_or_no(rest)
    if answer is None and last_number:
        answer = find_last_number(rest)
    return None if answer is None or is_placeholder(answer) else answer


def extract_stated(text: str, *, whole_line: bool = False) -> str | None:
    """Return the answer that a box or a marker states, without reading the last sentence."""
    return _search(response_text(text), choices=(), whole_line=whole_line)[0]


def extract_from_prose(text: str) -> str | None:
    """Return the answer in a text that is either an answer or prose that contains one."""
    content = _answer_tag_content(text)
    text = text if content is None else content
    answer = extract_stated(text)
    if answer is not None:
        return answer
    text = without_placeholders(text)
    if not contains_more_than_answer(text) and "\n\n" not in text.strip():
        return text.strip() or None
    bare = SPECIAL_TOKEN.sub("", text).strip()
    is_response = "\n" in bare or _SENTENCE_END.search(bare) is not None
    return (last_statement(bare) if is_response else None) or answer_in_sentence(bare) or None


def _search(text: str, *, choices: tuple[str, ...], whole_line: bool) -> tuple[str | None, str]:
    """Return the stated answer that is not withdrawn, and the text after the last withdrawal."""
    text = without_placeholders(text)
    for _ in range(MAX_RETRACTIONS):
        found = _stated_answer(text, choices=choices, whole_line=whole_line)
        if found is None:
            return None, text
        start = found.end
        if found.answer in _SAYS_NO:
            start = max(start, text.find(found.answer, start) + len(found.answer))
        if (retraction := _RETRACTION.search(text, start)) is None:
            return found.answer, text
        text = text[retraction.end() - 1 :]
    return None, ""


def response_text(text: str) -> str:
    """Return the part of a text that answers: after its thinking, before a question of its own."""
    text = response_of(text[-MAX_TEXT_LENGTH:])
    stated = _STATED.search(text)
    question = _NEW_QUESTION.search(text, stated.end()) if stated else None
    return text[: question.start()] if question else text


def _answer_tag_content(text: str) -> str | None:
    """Return the content of the last <answer> tag; None if there is none."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end] if end > start >= 0 else None


def _stated_answer(text: str, *, choices: tuple[str, ...], whole_line: bool) -> _Found | None:
    """Return the answer of the strongest source that says that it is one."""
    box = last_boxes(text)
    boxed = None if box is None else _Found(box.content, box.end)
    if box is not None and names_kind(box.content):
        others = text[: box.start] + text[box.end :]
        if other := _stated_answer(others, choices=choices, whole_line=whole_line):
            return _Found(other.answer, len(text))
    if choices and (letter := _named_option(text, box, num_options=len(choices))):
        return letter
    found = boxed or _marked_answer(text, choices=choices, whole_line=whole_line)
    letters = parse_choice(found.answer).letters if choices and found and not boxed else None
    is_no_choice = letters and letters <= set(LETTERS[: len(choices)])
    return None if is_no_choice else found  # its line names the letter, but does not choose it


def _named_option(text: str, box: Box | None, *, num_options: int) -> _Found | None:
    """Return the option that a line names after the box, else the box's, else any line's."""
    end = 0 if box is None else box.end
    after = _marked_letter(text[end:], num_options=num_options)
    if after is not None:
        return _Found(after.answer, end + after.end)
    if box is None:
        return None
    if parse_choice(box.content, any_case=True).letters:
        return _Found(box.content, box.end)
    if letter := letter_in_sentence(box.content, num_options=num_options, is_marked=False):
        return _Found(letter, box.end)
    if letter := _letter_at_end(text[end:], num_options=num_options):
        return _Found(letter, len(text))
    return _marked_letter(text[: box.start], num_options=num_options)


def _marked_letter(text: str, *, num_options: int) -> _Found | None:
    """Return the option letter in the last line that a marker begins and that names one."""
    markers = [*_ANSWER_MARKER.finditer(text), *_OPTION_MARKER.finditer(text)]
    for match in sorted(markers, key=re.Match.start)[: -MAX_MARKERS - 1 : -1]:
        line = _line_after(text, match.end())
        if letter := letter_in_sentence(line, num_options=num_options):
            return _Found(letter, match.end())
    return None


def _marked_answer(text: str, *, choices: tuple[str, ...], whole_line: bool) -> _Found | None:
    """Return the answer in the first line after the last "Answer:" or other marker with text."""
    markers = list(_ANSWER_MARKER.finditer(text))
    if not choices:
        markers = sorted([*markers, *_SHORT_MARKER.finditer(text)], key=re.Match.start)
    for match in reversed(markers[-MAX_MARKERS:]):
        line = _line_after(text, match.end())
        if not line or is_placeholder(line) or is_supposed(text[: match.start()]):
            continue
        if '"' in match.group() and (value := _JSON_VALUE.fullmatch(line)):
            line = value.group(1) or value.group(2)
        if whole_line:
            return _Found(line, match.end())
        if unknown := says_unknown(line):
            return _Found(unknown, match.end())
        stated = strip_markup(without_rejected(line))
        if stated != line and not has_value(stated):
            continue
        parts = [part for part in map(str.strip, text[match.end() :].split("\n")) if part]
        if len(parts) <= MAX_PARTS and (answer := labelled_parts(parts)):
            return _Found(answer, match.end())
        is_list = _SEVERAL_VALUES.search(match.group()) is not None
        if answer := _answer_in_line(stated, is_list=is_list):
            return _Found(answer, match.end())
    return None


def _line_after(text: str, start: int) -> str:
    """Return the first line with text after a marker, without markup."""
    lines = map(strip_markup, text[start : start + MAX_TEXT_LENGTH].split("\n", 8)[:8])
    return next(filter(None, lines), "")


def _answer_in_line(line: str, *, is_list: bool) -> str:
    """Return the answer in a marked line: its first sentence if that is bare, else its last."""
    first, *others = _SENTENCE_END.split(line, maxsplit=1)
    first = strip_markup(first)
    if is_list and (values := values_of_clauses(first) or value_in_statement(first)):
        return values
    brief = strip_markup(_REASON.sub("", _COPULA_AT_END.sub("", first)))
    if solved := _SOLVED_EQUATION.fullmatch(brief):
        return solved.group(1)
    if _COUNTED.match(brief):
        return value_in_statement(brief) or brief
    if brief and not contains_more_than_answer(brief):
        return answer_in_sentence(brief)
    if others and (stated := last_statement(line + ".")):
        return stated
    return answer_in_sentence(first if others else line)


def _option_at_end(text: str, choices: tuple[str, ...]) -> str | None:
    """Return the last line if it is the text of an option, perhaps after its letter."""
    last = strip_markup(text.strip().rsplit("\n", 1)[-1])
    chosen = parse_choice(last, any_case=True)
    options = [option.strip().casefold() for option in choices]
    return last if (chosen.text or last).strip().casefold() in options else None


def _yes_or_no(text: str) -> str | None:
    """Return the first word of a text of one line if it is yes or no. To be asked last: "Yes, there
    are 12." may answer how many."""
    match = _YES_OR_NO.match(text.strip("*\n "))
    return match.group(1) if match and "\n" not in text.strip() else None


def _letter_at_end(text: str, *, num_options: int) -> str | None:
    """Return the option letter that the last line with text chooses."""
    lines = [line for line in map(strip_markup, text.rsplit("\n", 8)) if line]
    return (
        letter_in_sentence(lines[-1], num_options=num_options, is_marked=False) if lines else None
    )
