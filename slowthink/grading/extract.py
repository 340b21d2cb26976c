r"""Answer extraction: boxed answer, marked answer, option letter, last number.

The only place that finds an answer in a text; the grader compares what it returns. Thinking is
ignored. Example: `extract(r"so $x = \boxed{\frac{1}{2}}$.")` is `\frac{1}{2}`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from slowthink.grading.answers.choice import letter_in_sentence

MAX_TEXT = 200_000
"""Characters of a text that are searched, from its end."""
MAX_BOX = 10_000
"""Characters within which a box must close."""
MAX_BOXES = 64
MAX_PROSE = 6_000
"""Characters of one line or sentence that are searched, from its end. Every pattern here takes
linear time on a long text, or is applied to so many characters only."""

_BOX = re.compile(r"\\f?boxed(?![a-zA-Z])|\\fbox(?![a-zA-Z])")
_THINKING_END = re.compile(r"</think>|<\|im_start\|>\s*answer")
_THINKING_START = re.compile(r"<think>|<\|im_start\|>\s*think")
_SPECIAL = re.compile(r"<\|[a-z_]{1,30}\|>(?:user|assistant)?|</?s>|<｜[^｜]{1,40}｜>")
_MARKER = re.compile(
    r"(?:(?:final\s+)?\banswer\b\W{0,3}?\s*(?:is\b|:|=)"
    r"|(?:最终)?答案\s*(?:是|为|[:：=】])|答[:：]"
    r"|^[#*\t ]*(?:final\s+)?answer[*\t ]*$|^[\t ]*####)",
    re.IGNORECASE | re.MULTILINE,
)
_IS_THE_ANSWER = re.compile(
    r"(\S.*?)\sis (?:the|our|my) (?:\w+ )?(?:answer|solution|result|value|choice)\.?$", re.DOTALL
)
_EQUATIONS = re.compile(r"\\?[A-Za-z]\w*\s*=[^=]+(?:\band\b|\bor\b|,)\s*\\?[A-Za-z]\w*\s*=[^=]+")
_OVERLAP = 200
"""Characters that two windows of a text share. No number is longer."""
_CLOSING_REMARK = re.compile(r"I hope (?:it|this) is correct.*", re.IGNORECASE | re.DOTALL)
_BETWEEN_BOXES = re.compile(
    r"\\(?:quad|qquad|text|textbf|textrm|mathrm|mbox|,|;|!)|\band\b|\bor\b|[和或与、]"
    r"|(?<![\w\\])[A-Za-z](?:_\{?\w\}?)?\s*="
)
_YES_OR_NO = re.compile(r"(yes|no|true|false)\b\s*[,.;:–—-]", re.IGNORECASE)
_BOUND = re.compile(
    r"\b(?:more|less|greater|fewer|larger|smaller|over|under|above|below|least|most|not|before"
    r"|after)\b",
    re.IGNORECASE,
)
"""Words that make a number a bound: "more than 5" is not 5."""
_LEADS_TO_FORMULA = re.compile(
    r"\b(?:is|are|answer|solution|find|therefore|thus|hence|so|get|gives|that|donc|est|respuesta)\b"
    r"|:\s*$|[是为得]",
    re.IGNORECASE,
)
_IS = re.compile(r"\b(?:is|are)\s+\S")
_LABEL = re.compile(r"[^\W\d_]{3,}\s*[:：]\s*[-−$\\]?\d[^:]*$")
_SENTENCE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_NO_ANSWER = re.compile(r"(?:the|an?|our|what|not)\b(?!.*[\d$\\])", re.IGNORECASE | re.DOTALL)
_FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$((?:\\\$|[^$\n])+)\$"
    r"|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)
_WORD = r"(?<![\\{A-Za-z])[^\W\d_一-鿿]{2,}"
_OTHER_SCRIPT = re.compile(r"[\u0400-\u0fff\u1100-\u11ff\u3040-\u30ff\uac00-\ud7af]{2,}")
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
    r"""Return the answer in a text, as written there; None if there is none.

    Of a text with <answer> tags, only the content of the last one is searched. The first of these
    is returned: the last `\boxed` or `\fbox` (boxes joined by commas or "and" are one list), the
    last "Answer:", "Final Answer:", "answer is", "答案", "最终答案" or "####", for choice questions
    the option letter of the last line, and only if `last_number` the last number. With `whole_line`
    a marked sentence is returned whole, for a reference answer that is a sentence too.
    """
    text = _answer_part(text[-MAX_TEXT:])
    tagged = _tagged(text)
    text = text if tagged is None else tagged
    answer = last_box(text)
    if answer is None and tagged is not None:
        answer = (text.strip() or None) if whole_line else extract_from_prose(text)
    if answer is None:
        answer = _marked(text, choices=choices, whole_line=whole_line)
    if answer is None and choices:
        answer = letter_in_sentence(_last_line(text), num_options=len(choices))
    if answer is None and last_number:
        answer = find_last_number(text)
    return answer


def last_box(text: str) -> str | None:
    """Return the content of the last box, or of the last boxes joined by commas; None without."""
    boxes = _boxes(text)
    if not boxes:
        return None
    joined = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _is_joined(text[box.end : joined[0].start]):
            break
        joined.insert(0, box)
    return ", ".join(dict.fromkeys(box.content for box in joined))


def find_last_number(text: str) -> str | None:
    """Return the last number in a text, with sign, thousands separators, fraction bar and %."""
    text = text.replace(r"\!", "").replace("{,}", ",").replace(r"\$", "$")
    for end in range(len(text), 0, _OVERLAP - MAX_PROSE):  # in windows, to bound the time
        matches = list(_NUMBER.finditer(text[max(0, end - MAX_PROSE) : end]))
        if matches:
            return matches[-1].group().replace("$", "").strip()
    return None


def is_prose(text: str) -> bool:
    """Whether a text is a sentence: four or more words outside formulas."""
    bare = re.sub(r"\\[a-zA-Z]+\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", _without_formulas(text))
    return (
        len(re.findall(r"[^\W\d_一-鿿]{2,}", bare)) >= 4 or len(re.findall(r"[一-鿿]", bare)) >= 5
    )


def _without_formulas(text: str) -> str:
    """Remove formulas. The words between two dollar amounts are no formula."""
    return _FORMULA.sub(lambda m: m.group() if _SENTENCE.search(m.group()) else " ", text)


def is_verbal(text: str) -> bool:
    """Whether a reference answer is words, also with a number: "at most 3", "no solution"."""
    bare = _without_formulas(text).strip()
    return is_prose(text) or (re.match(_WORD, bare) is not None and len(_words(bare)) >= 2)


def _words(text: str) -> list[str]:
    return re.findall(_WORD, re.sub(r"\\[a-zA-Z]+", " ", text))


def _leads_to_number(text: str) -> bool:
    """Whether words precede the first number: "Die Antwort ist 42", "정답은 42입니다"."""
    before = re.split(r"\d", text, maxsplit=1)
    if len(before) < 2 or re.search(r"[\\{}=<>|]", text) or _BOUND.search(before[0]):
        return False
    return len(_words(before[0])) >= 2 or _OTHER_SCRIPT.search(before[0]) is not None


def extract_from_prose(text: str) -> str | None:
    """Return the answer in a text that is either an answer or prose that contains one."""
    answer = extract(text)
    if answer is not None:
        return answer
    if not _contains_more(text) and "\n\n" not in text.strip():
        return text.strip() or None
    return _in_sentence(_SPECIAL.sub("", text).strip()) or None


# --- parts ----------------------------------------------------------------------------------------


def _answer_part(text: str) -> str:
    """Return the text after the last thinking; the text before it where it is never closed."""
    ends = list(_THINKING_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    start = _THINKING_START.search(text)
    return text[: start.start()] if start else text


def _tagged(text: str) -> str | None:
    """Return the content of the last <answer> tag; None without one."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end] if end > start >= 0 else None


class _Box(NamedTuple):
    start: int
    end: int
    content: str


def _boxes(text: str) -> list[_Box]:
    """Return the last outermost boxes. Empty and unclosed ones are dropped."""
    boxes: list[_Box] = []
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        if boxes and match.start() < boxes[-1].end:
            continue
        end, content = _box_content(text, match.end())
        content = _innermost(content)
        if content:
            boxes.append(_Box(match.start(), end, content))
    return boxes


def _box_content(text: str, start: int) -> tuple[int, str]:
    """Return end and content of a box. Without a closing brace, it ends with the formula."""
    while start < len(text) and text[start] == " ":
        start += 1
    if text[start : start + 1] != "{":
        bare = re.match(r"[^\s${}\\]+|\\[a-zA-Z]+(?:\{[^{}]*\})*", text[start : start + 200])
        return (start + bare.end(), bare.group().rstrip(".,")) if bare else (start, "")
    depth, window = 0, text[start : start + MAX_BOX]
    for match in re.finditer(r"\\.|[{}]", window, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return start + match.end(), window[1 : match.start()].strip()
    formula = re.match(r"\{([^$\n]+?)(?:\$|\\\]|\\\))", window)
    return (start + formula.end(), formula.group(1).strip()) if formula else (start, "")


def _innermost(content: str) -> str:
    """Return the content of a box that is all of another box's content."""
    inner = _BOX.match(content)
    if inner is None:
        return content
    end, inner_content = _box_content(content, inner.end())
    return content if content[end:].strip(" .$") else inner_content


def _is_joined(between: str) -> bool:
    """Whether two boxes are one list: only commas, "and" and spaces between them."""
    if len(between) > 40 or "\n\n" in between:
        return False
    other = re.sub(r"[\s{},;$&]|\\[()\[\]]", "", _BETWEEN_BOXES.sub("", between))
    return not other and ("\n" not in between.strip() or "," in between)


def _marked(text: str, *, choices: tuple[str, ...], whole_line: bool) -> str | None:
    """Return the answer in the first line after the last marker that text follows."""
    for match in reversed(list(_MARKER.finditer(text))[-16:]):
        lines = map(_strip, text[match.end() :].split("\n", 8)[:8])
        line = next(filter(None, lines), None)
        if line is None:
            continue
        if choices and (letter := letter_in_sentence(line, num_options=len(choices))):
            return letter
        return (line if whole_line else _in_sentence(line)) or None
    return None


def _strip(line: str) -> str:
    """Remove markdown, special tokens, a closing remark, punctuation and formula delimiters."""
    line = _CLOSING_REMARK.sub("", _SPECIAL.sub("", line[-MAX_PROSE:])).strip()
    line = re.sub(r"^(?:[*_#>`]+\s*)+|(?<![\s*_`])[\s*_`]+$", "", line).strip()
    line = line.removeprefix(":").removeprefix("：").strip()
    if line in ("\\[", "\\(", "$$", "$", "\\]", "\\)"):
        return ""
    line = re.sub(r"(?:(?<!\\)[.。,，;；])+$", "", line).strip()
    formula = re.fullmatch(r"\$([^$]+)(?<!\\)\$|\\\((.+)\\\)", line)
    return next(filter(None, formula.groups())).strip() if formula else line


def _in_sentence(line: str) -> str:
    """Return the answer in a sentence: after "is", the last formula, or the last number."""
    if not _contains_more(line):
        return line
    line = line[-MAX_PROSE:]
    answer_first = None if _FORMULA.search(line) else _IS_THE_ANSWER.match(line)
    if answer_first and _may_be_answer(answer_first.group(1)):
        return _strip(answer_first.group(1))
    equations = re.split(r"\s(?:is|are)\s", line)[-1]
    if _EQUATIONS.fullmatch(equations):
        return _strip(equations)
    if not re.search(r"\d", line) and (yes_or_no := _YES_OR_NO.match(line)):
        return yes_or_no.group(1)
    pieces = re.split(r"\s(?:is|are|equals)\s|\s=\s|[是为]|\bto be\s", line)
    after = _strip(pieces[-1])
    if len(pieces) > 1 and _may_be_answer(after):
        return after
    contents = [next(filter(None, match.groups())) for match in _FORMULA.finditer(line)]
    formulas = [content for content in contents if not _SENTENCE.search(content)]
    if formulas:
        return str(formulas[-1]).strip()
    bold = [text for text in re.findall(r"\*\*([^*]+)\*\*", line) if re.search(r"\d", text)]
    number = find_last_number(bold[-1] if bold else line)
    return number if number is not None else line


def _contains_more(text: str) -> bool:
    """Whether a text contains more than an answer."""
    text = text[-MAX_PROSE:]
    return (
        is_prose(text)
        or _leads_to_formula(text)
        or _leads_to_number(text)
        or _IS_THE_ANSWER.match(text) is not None
    )


def _leads_to_formula(text: str) -> bool:
    """Whether words such as "the solution is" precede a formula."""
    bare = _without_formulas(text)
    verbs = list(_IS.finditer(bare))
    if (verbs and re.search(r"[A-Za-z]{2}\s", bare[: verbs[-1].start()])) or _LABEL.match(text):
        return True
    formulas = list(_FORMULA.finditer(text))
    starts = [0, *(formula.end() for formula in formulas)]
    spans = zip(starts, formulas, strict=False)
    return any(_LEADS_TO_FORMULA.search(text[start : f.start()]) for start, f in spans)


def _may_be_answer(text: str) -> bool:
    """Whether the words beside "is" may be an answer: short, and not "the solution"."""
    if not text or is_prose(text) or len(text.split()) > 8:
        return False
    return _NO_ANSWER.match(text) is None


def _last_line(text: str) -> str:
    lines = [line for line in map(_strip, text.rsplit("\n", 8)) if line]
    return lines[-1] if lines else ""
