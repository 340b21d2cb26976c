r"""Multiple choice: option letters and option texts.

Example: `parse_choice("C. {x \mid x<4}")` has the letter C and the text after it; "A, B, C" has
three letters.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

LETTERS = "ABCDEFGHIJ"
MAX_CHOICE_LENGTH = 2_000
"""Longest text that can be a choice, in characters."""

_FONT_COMMAND = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|textit|bf)(?![a-zA-Z])\s*")
_SINGLE_LETTER = re.compile(r"^[\s({\[*$]*([A-Ja-j])[\s)}\]*$.:。]*$")
_SEVERAL_LETTERS = re.compile(
    r"^[\s({\[*$]*([A-J](?:\s*(?:,|、|and|和|&|\)\s*,?\s*\()?\s*[A-J])+)[\s)}\]*$.]*$"
)
_IN_BRACKETS = r"\(([A-J])\)"
_BEFORE_MARK = r"([A-J])(?:\s?[.．](?!\d)|[:：](?=\s|$|[一-鿿])|[、)])"
_BEFORE_WORD = r"([A-J])(?<!I(?=\s+[a-z]{2}))(?=\s+(?!and\b|or\b|am\b)(?:[A-Za-z]{2}|[一-鿿]))"
_LETTER_AND_TEXT = re.compile(
    rf"^[\s{{*$]*(?:{_IN_BRACKETS}|{_BEFORE_MARK}|{_BEFORE_WORD})[}}*$\s]*(.*)$", re.DOTALL
)
_STANDALONE_LETTER = re.compile(r"(?<![A-Za-z0-9'’\\])([A-J])(?![A-Za-z0-9'’])")
_NEGATION_BEFORE = re.compile(
    r"(?:\bnot|n['’]t be|isn['’]t|不是|不选|而非)\s*(?:option|choice)?\s*[(*]*\Z", re.IGNORECASE
)
_OPTION_LABEL = re.compile(
    r"(?:(?<=\s)|(?<=^)|(?<=[)）】。，,;；\\]))(?:\(([A-J])\)|([A-J])\s?[.．、:：)])\s*"
)


@dataclass(frozen=True)
class ChosenOption:
    """The letters of the chosen options, and the text of the option if it follows its letter."""

    letters: frozenset[str] = frozenset()
    text: str = ""


def parse_choice(text: str, *, any_case: bool = False) -> ChosenOption:
    """Return the options that a text chooses; `letters` is empty if the text is not a choice.

    A lower-case letter counts only in brackets, or with `any_case`.
    """
    if len(text) > MAX_CHOICE_LENGTH:
        return ChosenOption(text=text)
    bare = _FONT_COMMAND.sub("", text.replace("\\ ", " ").replace("\\quad", " ")).strip()
    single = _SINGLE_LETTER.match(bare)
    letter = single.group(1) if single else ""
    if letter and (any_case or letter.isupper() or bare.strip(" $") == f"({letter})"):
        return ChosenOption(frozenset(letter.upper()))
    several = _SEVERAL_LETTERS.match(bare)
    letters = re.findall(r"[A-J]", several.group(1)) if several else []
    if letters and len(set(letters)) == len(letters):
        return ChosenOption(frozenset(letters))
    leading = _LETTER_AND_TEXT.match(bare)
    if leading:
        *letters, option = leading.groups()
        return ChosenOption(frozenset(filter(None, letters)), _without_open_markup(option))
    return ChosenOption(text=text)


def _without_open_markup(text: str) -> str:
    """Remove the end of markup that began before the letter: "2}" of \\textbf{B. 2}."""
    text = text.strip(" $*")
    while text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1].strip(" $*")
    return text


def letter_in_sentence(line: str, *, num_options: int = len(LETTERS)) -> str | None:
    """Return the option letter that a sentence chooses; None if it has none or lists several."""
    bare = _FONT_COMMAND.sub("", line)
    matches = [
        match
        for match in _STANDALONE_LETTER.finditer(bare)
        if match.group(1) in LETTERS[:num_options]
        and not _is_article_or_pronoun(bare, match)
        and not _NEGATION_BEFORE.search(bare, 0, match.start())
    ]
    if not matches:
        return None
    if len({match.group(1) for match in matches}) > 1:
        between = bare[matches[0].end() : matches[1].start()]
        if re.fullmatch(r"[\s,、/&)(]*(?:and|or|和|或)?[\s(]*", between):
            return None
    return matches[0].group(1)


def _is_article_or_pronoun(text: str, match: re.Match[str]) -> bool:
    """Whether an A is the article or an I the pronoun: a lower-case word follows."""
    following = re.compile(r"\s+(?!or\b|and\b)[a-z]{2,}").match(text, match.end())
    return match.group(1) in "AI" and following is not None


@functools.lru_cache(maxsize=2048)
def options_in_question(question: str) -> dict[str, str]:
    """Return the options in a question ("A. … B. …", "(A) … (B) …") by letter, if three or more."""
    text = question[-20_000:]
    longest: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for match in _OPTION_LABEL.finditer(text):
        letter = match.group(1) or match.group(2)
        if letter == LETTERS[len(run) % len(LETTERS)]:
            run.append(match)
        else:
            run = [match] if letter == "A" else []
        longest = list(run) if len(run) >= len(longest) else longest
    if len(longest) < 3:
        return {}
    ends = [match.start() for match in longest[1:]] + [len(text)]
    return {
        LETTERS[i]: text[match.end() : end].lstrip(" \n;,").rstrip(" \n\\;,")
        for i, (match, end) in enumerate(zip(longest, ends, strict=True))
    }
