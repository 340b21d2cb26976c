"""The language of a question: what its row states, else what its script shows.

detect_language("求a的值") == "zh"
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7a3]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
)
MIN_SCRIPT_SHARE = 0.15
"""Minimum share of a script among the letters outside formulas and LaTeX commands."""
_FORMULA = re.compile(r"\$[^$]*\$|\\[a-zA-Z]+")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÿ]{2,}")
_FUNCTION_WORDS = (
    "the of is and to in find what how let that for are be with by as on if it an at from this "
    "which when where each given all has many there two will"
)
ENGLISH_FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
MIN_WORDS = 12
LANGUAGE_CODES = {
    "english": "en", "chinese": "zh", "中文": "zh", "汉语": "zh", "英文": "en", "japanese": "ja",
    "korean": "ko", "russian": "ru", "arabic": "ar",
}  # fmt: skip


def detect_language(text: str) -> str:
    """en, zh, ja, ko, ru, ar or other: by script, and for Latin texts by English function words.

    Latin texts under 12 words count as English, being too short to decide.
    """
    prose = _FORMULA.sub(" ", text)
    words = _LATIN_WORD.findall(prose)
    if not prose.isascii():
        counts = [(language, len(script.findall(prose))) for language, script in _SCRIPTS]
        num_letters = sum(map(len, words)) + sum(count for _, count in counts)
        for language, count in counts:
            if count > MIN_SCRIPT_SHARE * max(num_letters, 1):
                return language
    num_english = sum(word.lower() in ENGLISH_FUNCTION_WORDS for word in words)
    return "en" if len(words) < MIN_WORDS or num_english > 0.1 * len(words) else "other"


def stated_language(values: Mapping[str, Any]) -> str | None:
    """The language code in a row's `language`, or in its `meta` (an object, or JSON text)."""
    meta = values.get("meta")
    if isinstance(meta, str) and meta.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            meta = json.loads(meta)
    for source in (values, meta if isinstance(meta, Mapping) else {}):
        language = source.get("language")
        if isinstance(language, list) and language:
            language = language[0]
        if isinstance(language, str) and language.strip():
            return language_code(language)
    return None


def language_code(language: str) -> str:
    """The code of a language's name, e.g. zh for Chinese and 中文; another text unchanged."""
    return LANGUAGE_CODES.get(language.strip().lower(), language.strip())


def question_language(values: Mapping[str, Any], question: str, *, default: str) -> str:
    """What the row states, else the script's language where the default is English, else the
    default: a question that is Latin letters or formulas alone has the default."""
    stated = stated_language(values)
    if stated is not None or default != "en" or question.isascii():
        return stated or default
    detected = detect_language(question)
    return detected if detected in dict(_SCRIPTS) else default
