"""Numbers in words, English and Chinese, and answers that are words.

One real record: `word_number("twenty-five")` is 25.
"""

from __future__ import annotations

import re
from fractions import Fraction

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = dict(
    zip(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
        range(20, 100, 10),
        strict=True,
    )
)
_VALUES = {word: value for value, word in enumerate(_ONES)} | _TENS
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "sixteenth": 16,
    "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_CHINESE = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}
_SAME = {
    "true": "yes",
    "correct": "yes",
    "right": "yes",
    "false": "no",
    "incorrect": "no",
    "是": "yes",
    "否": "no",
    "对": "yes",
    "错": "no",
    "正确": "yes",
    "错误": "no",
    "doesnotexist": "dne",
    "nosolutions": "nosolution",
    "norealsolution": "norealsolutions",
    "impossible": "impossible",
    "infinitelymany": "infinite",
    "无解": "nosolution",
}
_MATHS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "ln",
        "log",
        "lg",
        "exp",
        "sqrt",
        "pi",
        "frac",
        "binom",
        "infty",
        "max",
        "min",
        "gcd",
        "lcm",
        "mod",
        "text",
        "inf",
        "abs",
        "floor",
        "ceil",
    ]
)


def word_number(text: str) -> int | Fraction | None:
    """The number that English or Chinese words say; None for other words.

    A fraction has its numerator said: "one half", "three and two thirds"; a "third" alone is none.
    """
    text = text.strip().lower()
    if len(text) > 100:
        return None
    if re.fullmatch(r"[a-z][a-z\s-]*", text):
        return _english_with_parts(re.split(r"[\s-]+", text))
    if re.fullmatch(r"负?[零〇一二两三四五六七八九十百千万亿]+", text):
        number = _chinese(text.removeprefix("负"))
        return -number if text.startswith("负") else number
    return None


def _english_with_parts(words: list[str]) -> int | Fraction | None:
    part = _PARTS.get(words[-1].removesuffix("s"))
    if part is None or len(words) < 2:
        return _english(words)
    number = words[:-1]
    whole: int | None = 0
    if "and" in number:
        cut = len(number) - 1 - number[::-1].index("and")
        whole, number = _english(number[:cut]), number[cut + 1 :]
    above = 1 if number in (["a"], ["an"]) else _english(number)
    return None if above is None or whole is None else whole + Fraction(above, part)


def _english(words: list[str]) -> int | None:
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    total, current, seen = 0, 0, False
    for word in words[1:] if sign < 0 else words:
        if word in _VALUES:
            current, seen = current + _VALUES[word], True
        elif word == "hundred" and seen:
            current *= 100
        elif word in _SCALES and seen:
            total, current = total + current * _SCALES[word], 0
        elif word != "and" or not seen:
            return None
    return sign * (total + current) if seen else None


def _chinese(text: str) -> int:
    for mark, scale in (("亿", 10**8), ("万", 10**4)):
        if mark in text:
            left, right = text.split(mark, 1)
            return (_chinese(left) if left else 1) * scale + (_chinese(right) if right else 0)
    total, digit = 0, 0
    if not any(c in _CHINESE_SCALES for c in text):
        return int("".join(str(_CHINESE[c]) for c in text))
    for char in text:
        if char in _CHINESE:
            digit = _CHINESE[char]
        else:
            total, digit = total + (digit or 1) * _CHINESE_SCALES[char], 0
    return total + digit


def as_words(text: str) -> str | None:
    """The key of an answer that is words and no formula, so that equal words have equal keys."""
    bare = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    had_text = bare != text
    bare = re.sub(r"[{}$.,;:!?\"'`*()\-]", " ", bare).strip()
    if not bare or re.search(r"[\\^_=<>+/|\[\]&]", bare):
        return None
    letters = re.findall(r"[^\W\d_]+", bare)
    bare = re.sub(r"^(?:an?|the)\s+(?=.*[^\W\d_]{3})", "", bare, flags=re.IGNORECASE)
    long_words = [word for word in letters if len(word) >= 3 and word.lower() not in _MATHS]
    long_words += [word for word in letters if word.lower() == "no" and len(letters) == 1]
    if not letters or not (had_text or long_words or re.search(r"[一-鿿]", bare)):
        return None
    if re.match(r"[\d.]", bare) and not had_text:
        return None
    key = "".join(re.findall(r"\w+", bare)).casefold()
    return _SAME.get(key, key)
