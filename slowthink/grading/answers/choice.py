r"""Multiple choice: letters, option texts, and both together.

One real record: gold "C. {x \mid x<4}" and answer "C" are the same choice; "A, B, C" is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LETTERS = "ABCDEFGHIJ"
MAX_PICK = 2_000
"""Characters of a text that can be a choice."""

_WRAP = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|textit|bf)(?![a-zA-Z])\s*")
_LONE = re.compile(r"^[\s({\[*$]*([A-Ja-j])[\s)}\]*$.:。]*$")
_LETTERS = re.compile(
    r"^[\s({\[*$]*([A-J](?:\s*(?:,|、|and|和|&|\)\s*,?\s*\()?\s*[A-J])+)[\s)}\]*$.]*$"
)
_LEADING = re.compile(
    r"^[\s{*$]*(?:\(([A-J])\)|([A-J])(?:\s?[.．](?!\d)|[:：](?=\s|$|[一-鿿])|[、)])|([A-J])(?<!I(?=\s+[a-z]{2}))(?=\s+(?!and\b|or\b|am\b)(?:[A-Za-z]{2}|[一-鿿])))[}*$\s]*(.*)$",
    re.DOTALL,
)
_STANDALONE = re.compile(r"(?<![A-Za-z0-9'’\\])([A-J])(?![A-Za-z0-9'’])")
_REFUSED = re.compile(
    r"(?:\bnot|n['’]t be|isn['’]t|不是|不选|而非)\s*(?:option|choice)?\s*[(*]*\Z", re.IGNORECASE
)
_OPTION = re.compile(
    r"(?:(?<=\s)|(?<=^)|(?<=[)）】。，,;；\\]))(?:\(([A-J])\)|([A-J])\s?[.．、:：)])\s*"
)


@dataclass(frozen=True)
class ChosenOption:
    """What a text chooses: letters, the text after them, or neither."""

    letters: frozenset[str] = frozenset()
    text: str = ""


def parse_choice(text: str, *, any_case: bool = False) -> ChosenOption:
    """The choice a text makes; no letters where it is not of the form of a choice."""
    if len(text) > MAX_PICK:
        return ChosenOption(text=text)
    bare = _WRAP.sub("", text.replace("\\ ", " ").replace("\\quad", " ")).strip()
    lone = _LONE.match(bare)
    if lone and (any_case or lone.group(1).isupper() or bare.strip(" $") == f"({lone.group(1)})"):
        return ChosenOption(frozenset(lone.group(1).upper()))
    several = _LETTERS.match(bare)
    letters = re.findall(r"[A-J]", several.group(1)) if several else []
    if letters and len(set(letters)) == len(letters):
        return ChosenOption(frozenset(letters))
    leading = _LEADING.match(bare)
    if leading:
        letter = next(filter(None, leading.groups()[:3]))
        return ChosenOption(frozenset(letter), _unwrapped(leading.group(4)))
    return ChosenOption(text=text)


def _unwrapped(text: str) -> str:
    """The text without what is left of marks that were put round letter and text together."""
    text = text.strip(" $*")
    while text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1].strip(" $*")
    return text


def letter_in_sentence(line: str, *, num_options: int = len(LETTERS)) -> str | None:
    """The one option letter that a sentence settles on; None where it names a list or none."""
    allowed = LETTERS[:num_options]
    bare = _WRAP.sub("", line)
    found = [m for m in _STANDALONE.finditer(bare) if m.group(1) in allowed]
    found = [
        m for m in found if not _is_article(bare, m) and not _REFUSED.search(bare, 0, m.start())
    ]
    if not found:
        return None
    if len({m.group(1) for m in found}) == 1:
        return found[0].group(1)
    between = bare[found[0].end() : found[1].start()]
    if re.fullmatch(r"[\s,、/&)(]*(?:and|or|和|或)?[\s(]*", between):
        return None
    return found[0].group(1)


def _is_article(text: str, match: re.Match[str]) -> bool:
    """Whether an A is the article and an I the pronoun: a lower-case word follows."""
    return match.group(1) in "AI" and bool(
        re.match(r"\s+(?!or\b|and\b)[a-z]{2,}", text[match.end() :])
    )


def options_in(question: str) -> dict[str, str]:
    """Options written into a question ("A. … B. …" or "(A) … (B) …"), by letter; at least three."""
    best: list[re.Match[str]] = []
    run: list[re.Match[str]] = []
    for match in _OPTION.finditer(question[-20_000:]):
        letter = match.group(1) or match.group(2)
        if letter == LETTERS[len(run) % len(LETTERS)]:
            run.append(match)
        else:
            run = [match] if letter == "A" else []
        best = list(run) if len(run) >= len(best) else best
    if len(best) < 3:
        return {}
    text = question[-20_000:]
    ends = [match.start() for match in best[1:]] + [len(text)]
    return {
        LETTERS[i]: text[match.end() : end].lstrip(" \n;,").rstrip(" \n\\;,")
        for i, (match, end) in enumerate(zip(best, ends, strict=True))
    }
