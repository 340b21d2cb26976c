r"""The only place that finds an answer in a text: box, marked answer, option letter, last number.

Reads the answer part only: of a text with its thinking, what follows the last delimiter.
One real record: `extract(r"so $x = \boxed{\frac{1}{2}}$.")` is `\frac{1}{2}`.
"""

from __future__ import annotations

import re

from slowthink.grading.answers.choice import letter_in_sentence

MAX_TEXT = 200_000
"""Characters looked at, from the end: an answer lies at the end of a text."""
MAX_BOX = 10_000
"""Characters within which a box must close."""
MAX_BOXES = 64
MAX_PROSE = 6_000
"""Characters of one line or sentence that are searched, from the end. Every pattern here must take
linear time on a long text, or be kept from one by this."""

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
_IS_THE = re.compile(
    r"(\S.*?)\sis (?:the|our|my) (?:\w+ )?(?:answer|solution|result|value|choice)\.?$", re.DOTALL
)
_EQUATIONS = re.compile(r"\\?[A-Za-z]\w*\s*=[^=]+(?:\band\b|\bor\b|,)\s*\\?[A-Za-z]\w*\s*=[^=]+")
_OVERLAP = 200
"""Of two windows of a text: no number is longer."""
_TAIL = re.compile(r"\s*I hope (?:it|this) is correct.*", re.IGNORECASE | re.DOTALL)
_JOIN = re.compile(
    r"\\(?:quad|qquad|text|textbf|textrm|mathrm|mbox|,|;|!)|\band\b|\bor\b|[和或与、]"
    r"|(?<![\w\\])[A-Za-z](?:_\{?\w\}?)?\s*="
)
_SAID = re.compile(r"(yes|no|true|false)\b\s*[,.;:–—-]", re.IGNORECASE)
_BOUND = re.compile(
    r"\b(?:more|less|greater|fewer|larger|smaller|over|under|above|below|least|most|not|before"
    r"|after)\b",
    re.IGNORECASE,
)
"""Words that make a number a bound: "more than 5" is not 5."""
_LEAD = re.compile(
    r"\b(?:is|are|answer|solution|find|therefore|thus|hence|so|get|gives|that|donc|est|respuesta)\b|:\s*$|[是为得]",
    re.IGNORECASE,
)
_IS = re.compile(r"\b(?:is|are)\s+\S")
_LABEL = re.compile(r"[^\W\d_]{3,}\s*[:：]\s*[-−$\\]?\d[^:]*$")
_SENTENCE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_EMPTY_END = re.compile(r"(?:the|an?|our|what|not)\b(?!.*[\d$\\])", re.IGNORECASE | re.DOTALL)
_MATH = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$((?:\\\$|[^$\n])+)\$"
    r"|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)
_WORD = r"(?<![\\{A-Za-z])[^\W\d_一-鿿]{2,}"
_OTHER_SCRIPT = re.compile(r"[\u0400-\u0fff\u1100-\u11ff\u3040-\u30ff\uac00-\ud7af]{2,}")
"""Cyrillic, Hebrew, Arabic, Indian scripts, Thai, Kana, Hangul."""
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.])[-−]?\$?\s?(?:\d{1,3}(?:,\d{3})+(?![\d,])"
    r"|\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?!\d)|(?<![\d,])\d+,\d\d(?![\d,])"
    r"|(?<=\s)\d+,\d(?=\s[^\W\d_]|\s?[€$%]|\.?\s*$)|\d+(?:\s/\s|/)\d+|\d+)(?:\.\d+)?\s?(?:\\?%|％)?"
    r"|(?<![A-Za-z0-9_.])[-−]?\.\d+"
)


def extract(
    text: str,
    *,
    last_number: bool = False,
    choices: tuple[str, ...] = (),
    whole_line: bool = False,
) -> str | None:
    r"""The answer in a text, as written there; None where there is none.

    Where there is an <answer> tag, only what the last one holds is read. In this order: the last
    `\boxed` or `\fbox` (boxes joined by commas or "and" are one list), the last "Answer:", "Final
    Answer:", "answer is", "答案", "最终答案" or "####", for choice questions a lone option letter,
    and only if `last_number` the last number. With `whole_line` a marked sentence is kept whole
    (the key is a sentence too); else the answer is taken out of it.
    """
    text = _answer_part(text[-MAX_TEXT:])
    tagged = _tagged(text)
    text = text if tagged is None else tagged
    found = last_box(text)
    if found is None and tagged is not None:
        found = (text.strip() or None) if whole_line else extract_from_prose(text)
    if found is None:
        found = _marked(text, choices=choices, whole_line=whole_line)
    if found is None and choices:
        found = letter_in_sentence(_last_line(text), num_options=len(choices))
    if found is None and last_number:
        found = find_last_number(text)
    return found


def last_box(text: str) -> str | None:
    """What the last box holds, or the last run of boxes joined by commas; None without one."""
    boxes = _boxes(text)
    if not boxes:
        return None
    run = [boxes[-1]]
    for before in reversed(boxes[:-1]):
        if not _joined(text[before[1] : run[0][0]]):
            break
        run.insert(0, before)
    contents = list(dict.fromkeys(content for _, _, content in run))
    return ", ".join(contents)


def find_last_number(text: str) -> str | None:
    """The last number in a text, with its sign, thousands marks, fraction bar and percent sign."""
    text = text.replace(r"\!", "").replace("{,}", ",").replace(r"\$", "$")
    for end in range(len(text), 0, _OVERLAP - MAX_PROSE):  # windows, so that no text takes long
        matches = list(_NUMBER.finditer(text[max(0, end - MAX_PROSE) : end]))
        if matches:
            return matches[-1].group().replace("$", "").strip()
    return None


def is_prose(text: str) -> bool:
    """Whether a text is a sentence rather than an answer: four words or more outside formulas."""
    bare = re.sub(r"\\[a-zA-Z]+\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", _without_formulas(text))
    return (
        len(re.findall(r"[^\W\d_一-鿿]{2,}", bare)) >= 4 or len(re.findall(r"[一-鿿]", bare)) >= 5
    )


def _without_formulas(text: str) -> str:
    """The words of a text; what stands between two dollar amounts is no formula."""
    return _MATH.sub(lambda m: m.group() if _SENTENCE.search(m.group()) else " ", text)


def is_verbal(text: str) -> bool:
    """Whether a key is words, with or without a number among them: "at most 3", "no solution"."""
    bare = _without_formulas(text).strip()
    return is_prose(text) or (re.match(_WORD, bare) is not None and len(_words(bare)) >= 2)


def _words(text: str) -> list[str]:
    return re.findall(_WORD, re.sub(r"\\[a-zA-Z]+", " ", text))


def _leads_to_number(text: str) -> bool:
    """Whether words stand before the first number: "Die Antwort ist 42", "정답은 42입니다"."""
    before = re.split(r"\d", text, maxsplit=1)
    if len(before) < 2 or re.search(r"[\\{}=<>|]", text) or _BOUND.search(before[0]):
        return False
    return len(_words(before[0])) >= 2 or _OTHER_SCRIPT.search(before[0]) is not None


def extract_from_prose(text: str) -> str | None:
    """The answer in a text that is either an answer already or a piece of prose around one."""
    found = extract(text)
    if found is not None:
        return found
    if not _is_around_answer(text) and "\n\n" not in text.strip():
        return text.strip() or None
    return _in_sentence(_SPECIAL.sub("", text).strip()) or None


# --- parts ----------------------------------------------------------------------------------------


def _answer_part(text: str) -> str:
    """What follows the thinking; nothing where thinking was opened and never closed."""
    ends = list(_THINKING_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    opened = _THINKING_START.search(text)
    return text[: opened.start()] if opened else text


def _tagged(text: str) -> str | None:
    """What the last <answer> tag holds; None without one."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    return text[start + len("<answer>") : end] if end > start >= 0 else None


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """The last outermost boxes: start, end, content; empty and unclosed ones are left out."""
    found: list[tuple[int, int, str]] = []
    for match in list(_BOX.finditer(text))[-MAX_BOXES:]:
        if found and match.start() < found[-1][1]:
            continue
        end, content = _box_content(text, match.end())
        content = _unnest(content)
        if content:
            found.append((match.start(), end, content))
    return found


def _box_content(text: str, start: int) -> tuple[int, str]:
    """Where a box ends, and what it holds. Without a closing brace, up to the formula's end."""
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


def _unnest(content: str) -> str:
    """A box within a box holds the same answer once."""
    inner = _BOX.match(content)
    if inner is None:
        return content
    end, held = _box_content(content, inner.end())
    return held if not content[end:].strip(" .$") else content


def _joined(between: str) -> bool:
    """Whether two boxes belong to one list: nothing but commas, "and" and spacing between them."""
    if len(between) > 40 or "\n\n" in between:
        return False
    rest = re.sub(r"[\s{},;$&]|\\[()\[\]]", "", _JOIN.sub("", between))
    return not rest and ("\n" not in between.strip() or "," in between)


def _marked(text: str, *, choices: tuple[str, ...], whole_line: bool) -> str | None:
    """The first line after the last marker that has something after it."""
    for match in reversed(list(_MARKER.finditer(text))[-16:]):
        lines = [_strip(line) for line in text[match.end() :].split("\n", 8)[:8]]
        line = next((line for line in lines if line), None)
        if line is None:
            continue
        if choices and (letter := letter_in_sentence(line, num_options=len(choices))):
            return letter
        return (line if whole_line else _in_sentence(line)) or None
    return None


def _strip(line: str) -> str:
    """A line without markdown, special tokens, polite tail and closing punctuation."""
    line = _TAIL.sub("", _SPECIAL.sub("", line[-MAX_PROSE:])).strip()
    line = re.sub(r"^(?:[*_#>`]+\s*)+|(?:\s*[*_`]+)+$", "", line).strip()
    line = line.removeprefix(":").removeprefix("：").strip()
    if line in ("\\[", "\\(", "$$", "$", "\\]", "\\)"):
        return ""
    line = re.sub(r"(?:(?<!\\)[.。,，;；])+$", "", line).strip()
    formula = re.fullmatch(r"\$([^$]+)(?<!\\)\$|\\\((.+)\\\)", line)
    return next(filter(None, formula.groups())).strip() if formula else line


def _in_sentence(line: str) -> str:
    """The answer within a marked line: what follows "is", the last formula, or the last number."""
    if not _is_around_answer(line):
        return line
    line = line[-MAX_PROSE:]
    said_first = None if _MATH.search(line) else _IS_THE.match(line)
    if said_first and _is_answer(said_first.group(1)):
        return _strip(said_first.group(1))
    listed = re.split(r"\s(?:is|are)\s", line)[-1]
    if _EQUATIONS.fullmatch(listed):
        return _strip(listed)
    if not re.search(r"\d", line) and (said := _SAID.match(line)):
        return said.group(1)
    pieces = re.split(r"\s(?:is|are|equals)\s|\s=\s|[是为]|\bto be\s", line)
    after = _strip(pieces[-1])
    if len(pieces) > 1 and _is_answer(after):
        return after
    found = [next(filter(None, match.groups())) for match in _MATH.finditer(line)]
    formulas = [formula for formula in found if not _SENTENCE.search(formula)]
    if formulas:
        return str(formulas[-1]).strip()
    bold = [text for text in re.findall(r"\*\*([^*]+)\*\*", line) if re.search(r"\d", text)]
    number = find_last_number(bold[-1] if bold else line)
    return number if number is not None else line


def _is_around_answer(text: str) -> bool:
    """Whether a text is words around an answer and not the answer itself."""
    text = text[-MAX_PROSE:]
    return (
        is_prose(text)
        or _leads_to_formula(text)
        or _leads_to_number(text)
        or _IS_THE.match(text) is not None
    )


def _leads_to_formula(text: str) -> bool:
    """Whether words such as "the solution is" stand before a formula."""
    bare = _without_formulas(text)
    said = list(_IS.finditer(bare))
    if (said and re.search(r"[A-Za-z]{2}\s", bare[: said[-1].start()])) or _LABEL.match(text):
        return True
    found = list(_MATH.finditer(text))
    starts = [0, *(match.end() for match in found)]
    before = (text[start : match.start()] for start, match in zip(starts, found, strict=False))
    return any(_LEAD.search(words) for words in before)


def _is_answer(text: str) -> bool:
    """Whether what follows "is" can be an answer: short, and not "the solution"."""
    if not text or is_prose(text) or len(text.split()) > 8:
        return False
    return _EMPTY_END.match(text) is None


def _last_line(text: str) -> str:
    lines = [line for line in map(_strip, text.rsplit("\n", 8)) if line]
    return lines[-1] if lines else ""
