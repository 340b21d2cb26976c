"""The language of a question.

language_of("求a的值") == "zh"
"""

from __future__ import annotations

import re

_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7a3]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
)
SCRIPT_SHARE = 0.15
"""Minimum share of the letters outside formulas and commands for a script to decide."""
_FORMULA = re.compile(r"\$[^$]*\$|\\[a-zA-Z]+")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}")
_WORDS = (
    "the of is and to in find what how let that for are be with by as on if it an at from this "
    "which when where each given all has many there two will"
)
_ENGLISH = frozenset(_WORDS.split())
MIN_WORDS = 12


def language_of(text: str) -> str:
    """en, zh, ja, ko, ru, ar or other: by script, and for Latin texts by English function words.

    Latin texts under 12 words count as English, being too short to decide.
    """
    plain = _FORMULA.sub(" ", text)
    words = _LATIN_WORD.findall(plain)
    if not plain.isascii():
        counts = [(len(pattern.findall(plain)), name) for name, pattern in _SCRIPTS]
        total = sum(map(len, words)) + sum(count for count, _ in counts)
        for count, name in counts:
            if count > SCRIPT_SHARE * max(total, 1):
                return name
    english = sum(word.lower() in _ENGLISH for word in words)
    return "en" if len(words) < MIN_WORDS or english > 0.1 * len(words) else "other"
