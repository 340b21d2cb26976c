"""Thinking in another language than it was asked for, and switches between languages.

The thinking should be in the language it was asked for, else in the question's; the response in
this one or in the question's. Formulas, names, quotations and the question's own words are free.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from slowthink.curation.gate.text import Fault, GatedText, fault_at
from slowthink.data.language import ENGLISH_FUNCTION_WORDS, MIN_SCRIPT_SHARE, detect_language

REASON = "the language changes, or is not the question's"
MIN_FOREIGN_IDEOGRAPHS = 8
"""Letters of Chinese, Japanese or Korean that are too many in a text of another script."""
MIN_FOREIGN_LETTERS = 16
"""The same for Russian, Hebrew, Arabic, Hindi and Thai, whose words are longer."""
MAX_FOREIGN_SHARE = 0.05
"""In a short text fewer are too many: this share of its letters."""
MIN_WORDS = 8
"""So many words without any Chinese are English, if these include function words."""
MIN_RUN_WORDS = 12
"""English words together that are too many in a Chinese text, if these include function words."""
MAX_RUN_CHARS = 150
MIN_RUN_FUNCTION_WORDS = 4
WINDOW_WORDS = 30
MIN_WINDOW_WORDS = 7
"""Function words of another Latin language within a window of so many words."""

MAX_LATIN_SHARE = 0.3
"""A Chinese question with more Latin words may be an English question about a Chinese text."""

_SCRIPT_LETTERS = {
    "zh": "\u3400-\u9fff", "ja": "\u3040-\u30ff\u3400-\u9fff", "ko": "\uac00-\ud7a3",
    "ru": "\u0400-\u04ff", "ar": "\u0600-\u06ff",
}  # fmt: skip
_OTHER_LETTER = re.compile(
    r"(?P<ideograph>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3])"
    r"|[\u0400-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f]"
)
_QUOTED = re.compile(
    r"“[^“”\n]*”|「[^「」\n]*」|『[^『』\n]*』|《[^《》\n]*》|[(（][^()（）\n]{1,12}[)）]|\"[^\"\n]*\"|`[^`\n]*`"
)
_FORMULA = re.compile(r"\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ADDRESS = re.compile(r"https?://[!-~]+")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}(?:['’][a-z]+)?")
_EUROPEAN_WORDS = (
    "le la les des est une et dans nous que pour donc avec sont qui sur pas il ce au du "
    "el los las una por con del es entonces tenemos para se como lo un más "
    "das und ist nicht wir mit eine der die den ein auf von zu "
    "também então não uma os com della che sono quindi è di il per non"
)
_EUROPEAN = frozenset(_EUROPEAN_WORDS.split())
"""Function words of French, Spanish, German, Portuguese and Italian."""
_MORE_ENGLISH = (
    "i you we they my your our have has had do does did not so but or can could would should may "
    "there here why who than then these those some any its it's let's i'm"
)
_ENGLISH = ENGLISH_FUNCTION_WORDS | frozenset(_MORE_ENGLISH.split())
_ONLY_ENGLISH, _OTHER_THAN_ENGLISH = _ENGLISH - _EUROPEAN, _EUROPEAN - _ENGLISH


def find_language_fault(text: GatedText) -> Fault | None:
    """The first place in a language that neither the request nor the question explains."""
    question = question_language(text.question)
    wanted = text.language or question or _main_language(text.thinking)
    for part, content in text.parts():
        languages = {wanted} if part == "thinking" else {wanted, question or wanted}
        positions = [_foreign_position(content, language, text) for language in languages]
        found = [position for position in positions if position is not None]
        if found and len(found) == len(positions):
            return fault_at(REASON, part, content, max(found))
    return None


def question_language(question: str) -> str | None:
    """The language of a question; None if its few Latin words do not show it."""
    prose = _COMMAND.sub(" ", _ADDRESS.sub(" ", question)).replace("$", " ")
    language = detect_language(prose)
    if language in _SCRIPT_LETTERS:
        num_own = len(re.findall(f"[{_SCRIPT_LETTERS[language]}]", prose))
        num_latin = sum(len(word) for word in _LATIN_WORD.findall(prose) if word[1:].islower())
        return language if num_latin <= MAX_LATIN_SHARE * (num_own + num_latin) else None
    words = [word.lower() for word in _LATIN_WORD.findall(_FORMULA.sub(" ", question))]
    num_european, num_english = _count_european(words), _count_english(words)
    if num_european > max(1, num_english):
        return "other"
    return "en" if num_english or len(words) >= MIN_WORDS else None


def _main_language(text: str) -> str:
    """The language of most of a text."""
    language = detect_language(_QUOTED.sub(" ", _COMMAND.sub(" ", text)).replace("$", " "))
    return language if language in _SCRIPT_LETTERS else question_language(text) or "en"


def _foreign_position(text: str, language: str, gated: GatedText) -> int | None:
    """Where a text leaves a language; None if it does not."""
    if language in _SCRIPT_LETTERS:
        free = _blanked(text, gated.question, (_COMMAND, _ADDRESS, _QUOTED))
        return _leaves_script(free, language)
    free = _blanked(text, gated.question, (_FORMULA, _COMMAND, _QUOTED))
    position = _foreign_letters(free)
    if position is not None:
        return position
    counts = _count_english if language == "other" else _count_european
    return _foreign_window(free, counts)


def _blanked(text: str, question: str, patterns: Sequence[re.Pattern[str]]) -> str:
    """The text with spaces for what matches the patterns, and for long passages of the question."""
    for pattern in patterns:
        text = pattern.sub(lambda match: " " * len(match.group()), text)
    for passage in re.split(r"[\n.。！？!?]", question):
        passage = passage.strip()
        if len(passage) >= 8:
            text = text.replace(passage, " " * len(passage))
    return text


def _foreign_letters(text: str) -> int | None:
    """Where the first letters of other scripts than Latin are, if there are too many."""
    if text.isascii():
        return None
    found = list(_OTHER_LETTER.finditer(text))
    num_ideographs = sum(match["ideograph"] is not None for match in found)
    num_latin = sum(map(len, _LATIN_WORD.findall(text)))
    is_many = (
        num_ideographs >= MIN_FOREIGN_IDEOGRAPHS
        or len(found) - num_ideographs >= MIN_FOREIGN_LETTERS
        or num_ideographs > MAX_FOREIGN_SHARE * (num_latin + len(found))
    )
    return found[0].start() if found and is_many else None


def _leaves_script(text: str, language: str) -> int | None:
    """Where a text that should be in a script of its own is in another script or in English."""
    own = re.compile(f"[{_SCRIPT_LETTERS[language]}]")
    others = "".join(
        letters for code, letters in _SCRIPT_LETTERS.items()
        if code != language and {code, language} != {"zh", "ja"}
    )  # fmt: skip
    if language == "zh":
        others += "\u3040-\u30ff"
    foreign = list(re.finditer(f"[{others}]", text))
    if len(foreign) >= MIN_FOREIGN_IDEOGRAPHS:
        return foreign[0].start()
    words = _prose_words(text)
    num_letters = len(own.findall(text)) + sum(map(len, words))
    is_english = len(words) >= MIN_WORDS and _count_english(words) >= MIN_RUN_FUNCTION_WORDS - 1
    if is_english and len(own.findall(text)) < MIN_SCRIPT_SHARE * num_letters:
        return text.index(words[0])
    return _english_run(text)


def _english_run(text: str) -> int | None:
    """Where so many English words come close together, some Chinese ones between them or not."""
    words = [match for match in _LATIN_WORD.finditer(text) if match.group()[1:].islower()]
    is_function = [match.group().lower() in _ONLY_ENGLISH for match in words]
    for first, last in enumerate(range(MIN_RUN_WORDS - 1, len(words))):
        is_close = words[last].end() - words[first].start() <= MAX_RUN_CHARS
        if is_close and sum(is_function[first : last + 1]) >= MIN_RUN_FUNCTION_WORDS:
            return words[first].start()
    return None


def _prose_words(text: str) -> list[str]:
    """Latin words that are not names of points, such as AN."""
    return [word for word in _LATIN_WORD.findall(text) if word[1:].islower()]


def _count_european(words: list[str]) -> int:
    return sum(word.lower() in _OTHER_THAN_ENGLISH for word in words)


def _count_english(words: list[str]) -> int:
    return sum(word.lower() in _ONLY_ENGLISH for word in words)


def _foreign_window(text: str, count: Callable[[list[str]], int]) -> int | None:
    """Where the first window of words is that has many function words of another language, of at
    least three kinds, and hardly any of its own."""
    own = _count_english if count is _count_european else _count_european
    matches = list(_LATIN_WORD.finditer(text))
    for start in range(0, len(matches), WINDOW_WORDS // 2):
        words = [match.group().lower() for match in matches[start : start + WINDOW_WORDS]]
        num_foreign = count(words)
        if num_foreign < MIN_WINDOW_WORDS or num_foreign <= 2 * own(words):
            continue
        if sum(count([word]) for word in Counter(words)) >= 3:
            return matches[start].start()
    return None
