r"""Answer extraction: boxed answer, marked answer, option letter, last number.

All extraction of answers is here; the grader compares what is extracted. Thinking is ignored.
Example: `extract(r"so $x = \boxed{\frac{1}{2}}$.")` is `\frac{1}{2}`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from slowthink.grading.answers.choice import letter_in_sentence

MAX_TEXT_LENGTH = 200_000
"""Only this many characters at the end of a text are searched."""
MAX_BOX_LENGTH = 10_000
"""A box must close within this many characters."""
MAX_BOXES = 64
"""Only this many boxes at the end of a text are parsed."""
MAX_SENTENCE_LENGTH = 6_000
"""Only this many characters at the end of a line or sentence are searched. Every pattern here takes
linear time on a long text, or is applied to a text of this length only."""

_BOX = re.compile(r"\\f?boxed(?![a-zA-Z])|\\fbox(?![a-zA-Z])")
_THINKING_END = re.compile(r"</think>|<\|im_start\|>\s*answer")
_THINKING_START = re.compile(r"<think>|<\|im_start\|>\s*think")
_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{1,30}\|>(?:user|assistant)?|</?s>|<｜[^｜]{1,40}｜>")
_ANSWER_MARKER = re.compile(
    r"(?:(?:final\s+)?\banswer\b\W{0,3}?\s*(?:is\b|:|=)"
    r"|(?:最终)?答案\s*(?:是|为|[:：=】])|答[:：]"
    r"|^[#*\t ]*(?:final\s+)?answer[*\t ]*$|^[\t ]*####)",
    re.IGNORECASE | re.MULTILINE,
)
_IS_THE_ANSWER = re.compile(
    r"(\S.*?)\sis (?:the|our|my) (?:\w+ )?(?:answer|solution|result|value|choice)\.?$", re.DOTALL
)
_EQUATIONS = re.compile(r"\\?[A-Za-z]\w*\s*=[^=]+(?:\band\b|\bor\b|,)\s*\\?[A-Za-z]\w*\s*=[^=]+")
_WINDOW_OVERLAP = 200
"""Overlap of two search windows, in characters. No number is longer."""
_CLOSING_REMARK = re.compile(r"I hope (?:it|this) is correct.*", re.IGNORECASE | re.DOTALL)
_JOINING_TEXT = re.compile(
    r"\\(?:quad|qquad|text|textbf|textrm|mathrm|mbox|,|;|!)|\band\b|\bor\b|[和或与、]"
    r"|(?<![\w\\])[A-Za-z](?:_\{?\w\}?)?\s*="
)
_YES_OR_NO = re.compile(r"(yes|no|true|false)\b\s*[,.;:–—-]", re.IGNORECASE)
_BOUND_WORD = re.compile(
    r"\b(?:more|less|greater|fewer|larger|smaller|over|under|above|below|least|most|not|before"
    r"|after)\b",
    re.IGNORECASE,
)
"""A word that makes a number a bound: "more than 5" is not 5."""
_LEADS_TO_FORMULA = re.compile(
    r"\b(?:is|are|answer|solution|find|therefore|thus|hence|so|get|gives|that|donc|est|respuesta)\b"
    r"|:\s*$|[是为得]",
    re.IGNORECASE,
)
_IS_OR_ARE = re.compile(r"\b(?:is|are)\s+\S")
_LABELLED_NUMBER = re.compile(r"[^\W\d_]{3,}\s*[:：]\s*[-−$\\]?\d[^:]*$")
_TWO_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_NOT_AN_ANSWER = re.compile(r"(?:the|an?|our|what|not)\b(?!.*[\d$\\])", re.IGNORECASE | re.DOTALL)
_FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$((?:\\\$|[^$\n])+)\$"
    r"|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)
_WORD = r"(?<![\\{A-Za-z])[^\W\d_一-鿿]{2,}"
_NON_LATIN_SCRIPT = re.compile(r"[\u0400-\u0fff\u1100-\u11ff\u3040-\u30ff\uac00-\ud7af]{2,}")
"""Cyrillic, Hebrew, Arabic, Indian scripts, Thai, Kana, Hangul."""
_THOUSANDS = r"\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?!\d)"
_DECIMAL_COMMA = r"(?<![\d,])\d+,\d\d(?![\d,])|(?<=\s)\d+,\d(?=\s[^\W\d_]|\s?[€$%]|\.?\s*$)"
_FRACTION = r"\d+(?:\s/\s|/)\d+"
_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.])[-−]?\$?\s?(?:{_THOUSANDS}|{_DECIMAL_COMMA}|{_FRACTION}|\d+)(?:\.\d+)?"
    r"\s?(?:\\?%|％)?|(?<![A-Za-z0-9_.])[-−]?\.\d+"
)


def extract(
    text: str,
    *,
    last_number: bool = False,
    choices: tuple[str, ...] = (),
    whole_line: bool = False,
) -> str | None:
    r"""Return the answer in a text, unchanged; None if there is none.

    If the text has <answer> tags, only the content of the last one is searched. Tried in order: the
    last `\boxed` or `\fbox` (boxes joined by commas or "and" are one list); the text after the last
    "Answer:", "Final Answer:", "answer is", "答案", "最终答案" or "####"; with `choices` the option
    letter in the last line; with `last_number` the last number. With `whole_line` a sentence after
    "Answer:" is returned whole, for a reference answer that is a sentence too.
    """
    text = _without_thinking(text[-MAX_TEXT_LENGTH:])
    tag_content = _answer_tag_content(text)
    text = text if tag_content is None else tag_content
    answer = last_box(text)
    if answer is None and tag_content is not None:
        answer = (text.strip() or None) if whole_line else extract_from_prose(text)
    if answer is None:
        answer = _marked_answer(text, choices=choices, whole_line=whole_line)
    if answer is None and choices:
        answer = letter_in_sentence(_last_line(text), num_options=len(choices))
    if answer is None and last_number:
        answer = find_last_number(text)
    return answer


def last_box(text: str) -> str | None:
    """Return the content of the last box, or of the last boxes joined by commas; None if no box."""
    boxes = _boxes(text)
    if not boxes:
        return None
    joined = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _is_list_separator(text[box.end : joined[0].start]):
            break
        joined.insert(0, box)
    return ", ".join(dict.fromkeys(box.content for box in joined))


def find_last_number(text: str) -> str | None:
    """Return the last number in a text, with sign, thousands separators, fraction bar and %."""
    text = text.replace(r"\!", "").replace("{,}", ",").replace(r"\$", "$")
    for end in range(len(text), 0, _WINDOW_OVERLAP - MAX_SENTENCE_LENGTH):  # linear time
        matches = list(_NUMBER.finditer(text[max(0, end - MAX_SENTENCE_LENGTH) : end]))
        if matches:
            return matches[-1].group().replace("$", "").strip()
    return None


def is_prose(text: str) -> bool:
    """Whether a text is a sentence: four words or five Chinese characters outside formulas."""
    bare = re.sub(r"\\[a-zA-Z]+\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", _without_formulas(text))
    return (
        len(re.findall(r"[^\W\d_一-鿿]{2,}", bare)) >= 4 or len(re.findall(r"[一-鿿]", bare)) >= 5
    )


def _without_formulas(text: str) -> str:
    """Remove formulas, but not the words between two dollar amounts."""
    return _FORMULA.sub(lambda m: m.group() if _TWO_WORDS.search(m.group()) else " ", text)


def is_verbal(text: str) -> bool:
    """Whether a reference answer is in words: "no solution", also "at most 3"."""
    bare = _without_formulas(text).strip()
    return is_prose(text) or (re.match(_WORD, bare) is not None and len(_words(bare)) >= 2)


def _words(text: str) -> list[str]:
    return re.findall(_WORD, re.sub(r"\\[a-zA-Z]+", " ", text))


def _has_words_before_number(text: str) -> bool:
    """Whether words precede the first number: "Die Antwort ist 42", "정답은 42입니다"."""
    before, *after = re.split(r"\d", text, maxsplit=1)
    if not after or re.search(r"[\\{}=<>|]", text) or _BOUND_WORD.search(before):
        return False
    return len(_words(before)) >= 2 or _NON_LATIN_SCRIPT.search(before) is not None


def extract_from_prose(text: str) -> str | None:
    """Return the answer in a text that is either an answer or prose that contains one."""
    answer = extract(text)
    if answer is not None:
        return answer
    if not _contains_more_than_answer(text) and "\n\n" not in text.strip():
        return text.strip() or None
    return _answer_in_sentence(_SPECIAL_TOKEN.sub("", text).strip()) or None


def _without_thinking(text: str) -> str:
    """Return the text after the last thinking; if thinking is never closed, the text before it."""
    ends = list(_THINKING_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    start = _THINKING_START.search(text)
    return text[: start.start()] if start else text


def _answer_tag_content(text: str) -> str | None:
    """Return the content of the last <answer> tag; None if there is none."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end] if end > start >= 0 else None


class _Box(NamedTuple):
    start: int
    end: int
    content: str


def _boxes(text: str) -> list[_Box]:
    """Return the last outermost boxes, without empty and unclosed ones."""
    boxes: list[_Box] = []
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        if boxes and match.start() < boxes[-1].end:
            continue
        end, content = _box_content(text, match.end())
        content = _inner_box_content(content)
        if content:
            boxes.append(_Box(match.start(), end, content))
    return boxes


def _box_content(text: str, start: int) -> tuple[int, str]:
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


def _inner_box_content(content: str) -> str:
    """Return the inner box's content if a box contains nothing but another box."""
    inner = _BOX.match(content)
    if inner is None:
        return content
    end, inner_content = _box_content(content, inner.end())
    return content if content[end:].strip(" .$") else inner_content


def _is_list_separator(between: str) -> bool:
    """Whether the text between two boxes joins them to one list: only commas, "and" and spaces."""
    if len(between) > 40 or "\n\n" in between:
        return False
    remaining = re.sub(r"[\s{},;$&]|\\[()\[\]]", "", _JOINING_TEXT.sub("", between))
    return not remaining and ("\n" not in between.strip() or "," in between)


def _marked_answer(text: str, *, choices: tuple[str, ...], whole_line: bool) -> str | None:
    """Return the answer in the first line after the last "Answer:" or other marker with text."""
    for match in reversed(list(_ANSWER_MARKER.finditer(text))[-16:]):
        lines = map(_strip_markup, text[match.end() :].split("\n", 8)[:8])
        line = next(filter(None, lines), None)
        if line is None:
            continue
        if choices and (letter := letter_in_sentence(line, num_options=len(choices))):
            return letter
        return (line if whole_line else _answer_in_sentence(line)) or None
    return None


def _strip_markup(line: str) -> str:
    """Remove Markdown, special tokens, a closing remark, punctuation and formula delimiters."""
    line = _CLOSING_REMARK.sub("", _SPECIAL_TOKEN.sub("", line[-MAX_SENTENCE_LENGTH:])).strip()
    line = re.sub(r"^(?:[*_#>`]+\s*)+|(?<![\s*_`])[\s*_`]+$", "", line).strip()
    line = line.removeprefix(":").removeprefix("：").strip()
    if line in ("\\[", "\\(", "$$", "$", "\\]", "\\)"):
        return ""
    line = re.sub(r"(?:(?<!\\)[.。,，;；])+$", "", line).strip()
    formula = re.fullmatch(r"\$([^$]+)(?<!\\)\$|\\\((.+)\\\)", line)
    return next(filter(None, formula.groups())).strip() if formula else line


def _answer_in_sentence(line: str) -> str:
    """Return the answer in a sentence: after "is", the last formula, or the last number."""
    if not _contains_more_than_answer(line):
        return line
    line = line[-MAX_SENTENCE_LENGTH:]
    answer_first = None if _FORMULA.search(line) else _IS_THE_ANSWER.match(line)
    if answer_first and _may_be_answer(answer_first.group(1)):
        return _strip_markup(answer_first.group(1))
    equations = re.split(r"\s(?:is|are)\s", line)[-1]
    if _EQUATIONS.fullmatch(equations):
        return _strip_markup(equations)
    if not re.search(r"\d", line) and (yes_or_no := _YES_OR_NO.match(line)):
        return yes_or_no.group(1)
    pieces = re.split(r"\s(?:is|are|equals)\s|\s=\s|[是为]|\bto be\s", line)
    after_verb = _strip_markup(pieces[-1])
    if len(pieces) > 1 and _may_be_answer(after_verb):
        return after_verb
    contents = [next(filter(None, match.groups())) for match in _FORMULA.finditer(line)]
    formulas = [content for content in contents if not _TWO_WORDS.search(content)]
    if formulas:
        return str(formulas[-1]).strip()
    bold = [text for text in re.findall(r"\*\*([^*]+)\*\*", line) if re.search(r"\d", text)]
    number = find_last_number(bold[-1] if bold else line)
    return number if number is not None else line


def _contains_more_than_answer(text: str) -> bool:
    """Whether a text is words around an answer, not an answer alone."""
    text = text[-MAX_SENTENCE_LENGTH:]
    return (
        is_prose(text)
        or _has_words_before_formula(text)
        or _has_words_before_number(text)
        or _IS_THE_ANSWER.match(text) is not None
    )


def _has_words_before_formula(text: str) -> bool:
    """Whether words such as "the solution is" precede a formula."""
    bare = _without_formulas(text)
    verbs = list(_IS_OR_ARE.finditer(bare))
    has_subject = verbs and re.search(r"[A-Za-z]{2}\s", bare[: verbs[-1].start()])
    if has_subject or _LABELLED_NUMBER.match(text):
        return True
    formulas = list(_FORMULA.finditer(text))
    starts = [0, *(formula.end() for formula in formulas)]
    spans = zip(starts, formulas, strict=False)
    return any(_LEADS_TO_FORMULA.search(text[start : f.start()]) for start, f in spans)


def _may_be_answer(text: str) -> bool:
    """Whether the words before or after "is" may be an answer: short, and not "the solution"."""
    if not text or is_prose(text) or len(text.split()) > 8:
        return False
    return _NOT_AN_ANSWER.match(text) is None


def _last_line(text: str) -> str:
    lines = [line for line in map(_strip_markup, text.rsplit("\n", 8)) if line]
    return lines[-1] if lines else ""
