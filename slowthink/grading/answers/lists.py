r"""Words and names in a bare list, as text: "3 and 5", "a = 4, -8", 2或5.

Example: `connectives_to_commas("3 or 5")` is ("3,5", "or").
"""

from __future__ import annotations

import re

from slowthink.grading.answers.nodes import ParseError

_DISTRIBUTED = re.compile(r"([a-zA-Z](?:_\{?\w+\}?)?|\\[a-z]+)\s*=[^=<>]*")
_CONNECTIVE = re.compile(
    r"(?P<comma>\s*[,;]\s*)?(?:\s+(?:(?P<or>or|oder|ou)|(?:and|und|et))\s+"
    r"|\s+[ye]\s+(?=[a-zA-Z]\s*=)|\s+(?P<or2>o)\s+(?=[a-zA-Z]\s*=|-?\d)"
    r"|\s*(?:(?P<or3>或者?|또는|または)|(?P<both>并?且)|和|与(?=\s*[-\d\\(a-zA-Z])|かつ|그리고)\s*)"
)
BOTH = "both"
"""The word between statements that are both true; values are listed by "and"."""
_SIGN = re.compile(r"[<>=]|\\(?:[lgn]e|in|to)(?![a-zA-Z])")


def distribute_name(parts: list[str]) -> list[str]:
    """Write a = 4, -8, -10 as a = 4, a = -8, a = -10."""
    first = _DISTRIBUTED.fullmatch(parts[0])
    if first is None or any(_SIGN.search(part) for part in parts[1:]):
        return parts
    return [parts[0], *(f"{first.group(1)} = {part}" for part in parts[1:])]


def connectives_to_commas(text: str) -> tuple[str, str]:
    """Replace "and" and "or" by commas, or by semicolons between lists; also return the word."""
    words = {_word(match) for match in _CONNECTIVE.finditer(text)}
    if not words:
        return text, ""
    if len(words) > 1 and re.search(r"[<>]|\\[lgn]e(?![a-z])", text):
        raise ParseError("and besides or")
    text = _CONNECTIVE.sub(lambda m: "§" if not m.group("comma") else ", ", text)
    parts = text.split("§")
    is_list_of_lists = len(parts) > 1 and all("," in part for part in parts)
    word = next(word for word in ("or", BOTH, "and") if word in words)
    return (";" if is_list_of_lists else ",").join(parts), word


def _word(match: re.Match[str]) -> str:
    if any(match.group(name) for name in ("or", "or2", "or3")):
        return "or"
    return BOTH if match.group("both") else "and"
