r"""Sentences around an answer: what is prose, and which part of a sentence is its answer.

Example: `answer_in_sentence("The largest $n$ is 34")` is `34`.
"""

from __future__ import annotations

import re

from slowthink.grading.bounds import is_bounded

MAX_SENTENCE_LENGTH = 6_000
"""Only this many characters at the end of a line or sentence are searched. Every pattern here takes
linear time on a long text, or is applied to a text of this length only."""


def any_of(phrases: str) -> str:
    """Return a pattern that matches one of the phrases, given with commas between, as whole words.

    A phrase may hold a pattern. Chinese phrases need no spaces around them.
    """
    alternatives = [phrase.strip() for phrase in phrases.split(",")]
    latin = "|".join(phrase for phrase in alternatives if phrase[0] < "一")
    chinese = [phrase for phrase in alternatives if phrase[0] >= "一"]
    return "(?:" + "|".join([rf"(?<!\w)(?:{latin})(?!\w)", *chinese]) + ")"


SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{1,30}\|>(?:user|assistant)?|</?s>|<｜[^｜]{1,40}｜>")
_PICTURES = re.compile(
    "^[\\s✅☑➡→\ufe0f\U0001f000-\U0001faff]+|(?:(?<=\\*)!)?[\\s\ufe0f\U0001f000-\U0001faff]+$"
)
_IS_THE_ANSWER = re.compile(
    r"(\S.*?)\sis (?:the|our|my) (?:\w+ )?(?:answer|solution|result|value|choice)\.?$", re.DOTALL
)
_EQUATIONS = re.compile(r"\\?[A-Za-z]\w*\s*=[^=]+(?:\band\b|\bor\b|,)\s*\\?[A-Za-z]\w*\s*=[^=]+")
_OPERATION = re.compile(r"[\d)}]\s*(?:[-+−–*×÷/·:]|\}\s*\{)\s*[($€£\\{]*\s*\d|\d\}\{\d")
_UNIT_AFTER_NUMBER = re.compile(
    r"(?<=\d)(?:\s(?:[mghsLl]|[^\W\d_]{2,12})\b|[a-zA-Z]{2,3}\b|[一-鿿]{1,3}|[€°²³%])"
)
_WINDOW_OVERLAP = 200
"""Overlap of two search windows, in characters. No number is longer."""
_CLOSING_REMARK = re.compile(r"I hope (?:it|this) is correct.*", re.IGNORECASE | re.DOTALL)
_YES_OR_NO = re.compile(r"(yes|no|true|false)\b\s*[,.;:–—-]", re.IGNORECASE)
_LEADS_TOFORMULA = re.compile(
    r"\b(?:is|are|answer|solution|find|therefore|thus|hence|so|get|gives|that|donc|est|respuesta)\b"
    r"|:\s*$|[是为得]",
    re.IGNORECASE,
)
_IS_OR_ARE = re.compile(r"\b(?:is|are)\s+\S")
_LABELLED_NUMBER = re.compile(r"[^\W\d_]{3,}\s*[:：]\s*[-−$\\]?\d[^:]*$")
TWO_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}\s+[A-Za-z]{2,}")
_NOT_AN_ANSWER = re.compile(r"(?:the|an?|our|what|not)\b(?!.*[\d$\\])", re.IGNORECASE | re.DOTALL)
FORMULA = re.compile(
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
NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.])(?:[-−]|正?负)?\$?\s?(?:\d{{1,3}}(?:\.\d{{3}})+,\d\d(?!\d)|{_THOUSANDS}|{_DECIMAL_COMMA}|{_FRACTION}|\d+)(?:\.\d+)?"
    r"\s?(?:\\?%|％)?|(?<![A-Za-z0-9_.])[-−]?\.\d+"
)


def find_last_number(text: str) -> str | None:
    """Return the last number in a text, with sign, thousands separators, fraction bar and %."""
    text = text.replace(r"\!", "").replace("{,}", ",").replace(r"\$", "$")
    for end in range(len(text), 0, _WINDOW_OVERLAP - MAX_SENTENCE_LENGTH):  # linear time
        matches = list(NUMBER.finditer(text[max(0, end - MAX_SENTENCE_LENGTH) : end]))
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
    return FORMULA.sub(lambda m: m.group() if TWO_WORDS.search(m.group()) else " ", text)


def is_verbal(text: str) -> bool:
    """Whether a reference answer is in words: "no solution", also "at most 3"."""
    bare = _without_formulas(text).strip()
    return is_prose(text) or (re.match(_WORD, bare) is not None and len(_words(bare)) >= 2)


def _words(text: str) -> list[str]:
    return re.findall(_WORD, re.sub(r"\\[a-zA-Z]+", " ", text))


def _has_words_before_number(text: str) -> bool:
    """Whether words precede the first number: "Die Antwort ist 42", "정답은 42입니다"."""
    before, *after = re.split(r"\d", text, maxsplit=1)
    if not after or re.search(r"[\\{}=<>|]", text) or is_bounded(text, len(before)):
        return False
    return len(_words(before)) >= 2 or _NON_LATIN_SCRIPT.search(before) is not None


def strip_markup(line: str) -> str:
    """Remove Markdown, special tokens, a closing remark, punctuation and formula delimiters."""
    line = _CLOSING_REMARK.sub("", SPECIAL_TOKEN.sub("", line[-MAX_SENTENCE_LENGTH:])).strip()
    line = _PICTURES.sub("", line)
    line = re.sub(r"^(?:[*_#>`]+\s*)+|(?<![\s*_`])[\s*_`]+$", "", line).strip()
    line = line.removeprefix(":").removeprefix("：").strip()
    if line in ("\\[", "\\(", "$$", "$", "\\]", "\\)"):
        return ""
    line = re.sub(r"(?:(?<!\\)[.。,，;；])+$", "", line).strip()
    formula = re.fullmatch(r"\$([^$]+)(?<!\\)\$|\\\((.+)\\\)", line)
    return next(filter(None, formula.groups())).strip() if formula else line


def answer_in_sentence(line: str) -> str:
    """Return the answer in a sentence: after "is", the last formula, or the last number."""
    line = line[-MAX_SENTENCE_LENGTH:]
    if (result := value_of_equation(line)) is not None and not is_prose(result):
        return result
    if not contains_more_than_answer(line):
        return line
    answer_first = None if FORMULA.search(line) else _IS_THE_ANSWER.match(line)
    if answer_first and _may_be_answer(answer_first.group(1)):
        return strip_markup(answer_first.group(1))
    equations = re.split(r"\s(?:is|are)\s", line)[-1]
    if _EQUATIONS.fullmatch(equations):
        return strip_markup(equations)
    if not re.search(r"\d", line) and (yes_or_no := _YES_OR_NO.match(line)):
        return yes_or_no.group(1)
    pieces = re.split(r"\s(?:is|are|equals)\s|\s=\s|[是为]|\bto be\s", line)
    after_verb = strip_markup(pieces[-1])
    if len(pieces) > 1 and _may_be_answer(after_verb):
        return after_verb
    contents = [next(filter(None, match.groups())) for match in FORMULA.finditer(line)]
    formulas = [content for content in contents if not TWO_WORDS.search(content)]
    if formulas:
        return str(formulas[-1]).strip()
    bold = [text for text in re.findall(r"\*\*([^*]+)\*\*", line) if re.search(r"\d", text)]
    number = find_last_number(bold[-1] if bold else line)
    is_stated = number is not None and not is_bounded(line, line.rfind(number))
    return number if number is not None and is_stated else line


def value_of_equation(text: str) -> str | None:
    """Return what follows the last "=" of worked arithmetic, "120 km / 2 h = 60 km/h"; else None.

    An equation with a variable is an answer itself.
    """
    worked, equals, result = text[-MAX_SENTENCE_LENGTH:].rpartition("=")
    if not equals or not re.search(r"\d", result):
        return None
    bare = re.sub(r"\\(?:d?frac|sqrt|left|right|text|mathrm|[,;!()\[\]])|\*\*|\$", "", worked)
    bare = re.sub(r"\\(?:times|cdot|div)(?![a-z])", "×", bare)
    bare = _UNIT_AFTER_NUMBER.sub("", re.sub(r"^\D*[:：]", "", bare))
    if re.search(r"[^\W\d_]|[<>]", bare) or not _OPERATION.search(bare):
        return None
    return strip_markup(re.sub(r"[（(]\s?[^\d()（）]{1,20}[)）]\W*$", "", result.replace("**", "")))


def contains_more_than_answer(text: str) -> bool:
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
    formulas = list(FORMULA.finditer(text))
    starts = [0, *(formula.end() for formula in formulas)]
    spans = zip(starts, formulas, strict=False)
    return any(_LEADS_TOFORMULA.search(text[start : f.start()]) for start, f in spans)


def _may_be_answer(text: str) -> bool:
    """Whether the words before or after "is" may be an answer: short, and not "the solution"."""
    if not text or is_prose(text) or len(text.split()) > 8:
        return False
    return _NOT_AN_ANSWER.match(text) is None
