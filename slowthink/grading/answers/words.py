"""Numbers in English and Chinese words, and answers in words.

Example: `number_from_words("twenty-five")` is 25.
"""

from __future__ import annotations

import re
from fractions import Fraction

from slowthink.grading.answers.latex import TEXT

_BELOW_TWENTY = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_CARDINALS = {word: value for value, word in enumerate(_BELOW_TWENTY)}
_CARDINALS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_DENOMINATORS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "twelfth": 12, "sixteenth": 16,
    "twentieth": 20, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_SCALE_WORDS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_CHINESE_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000}
_SYNONYMS = {
    "true": "yes", "correct": "yes", "right": "yes", "false": "no", "incorrect": "no", "是": "yes",
    "否": "no", "对": "yes", "错": "no", "正确": "yes", "错误": "no", "doesnotexist": "dne",
    "nosolutions": "nosolution", "norealsolution": "norealsolutions", "infinitelymany": "infinite",
    "无解": "nosolution",
}  # fmt: skip
_FORMULA_WORDS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
    "ln", "log", "lg", "exp", "sqrt", "pi", "frac", "binom", "infty", "max", "min", "gcd", "lcm",
    "mod", "text", "inf", "abs", "floor", "ceil",
))  # fmt: skip


def number_from_words(text: str) -> int | Fraction | None:
    """Return the number that English or Chinese words name; None for other words.

    A fraction needs its numerator: "one half", "three and two thirds"; "third" alone is None.
    """
    text = text.strip().lower()
    if len(text) > 100:
        return None
    if re.fullmatch(r"[a-z][a-z\s-]*", text):
        return _english_number(re.split(r"[\s-]+", text))
    if re.fullmatch(r"负?[零〇一二两三四五六七八九十百千万亿]+", text):
        number = _chinese_integer(text.removeprefix("负"))
        return -number if text.startswith("负") else number
    return None


def _english_number(words: list[str]) -> int | Fraction | None:
    """Return the integer, fraction or mixed number that English words name; None for others."""
    denominator = _DENOMINATORS.get(words[-1].removesuffix("s"))
    if denominator is None or len(words) < 2:
        return _english_integer(words)
    before = words[:-1]
    whole_part: int | None = 0
    if "and" in before:
        last_and = len(before) - 1 - before[::-1].index("and")
        whole_part, before = _english_integer(before[:last_and]), before[last_and + 1 :]
    numerator = 1 if before in (["a"], ["an"]) else _english_integer(before)
    if numerator is None or whole_part is None:
        return None
    return whole_part + Fraction(numerator, denominator)


def _english_integer(words: list[str]) -> int | None:
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    total, current, has_number = 0, 0, False
    for word in words[1:] if sign < 0 else words:
        if word in _CARDINALS:
            current, has_number = current + _CARDINALS[word], True
        elif word == "hundred" and has_number:
            current *= 100
        elif word in _SCALE_WORDS and has_number:
            total, current = total + current * _SCALE_WORDS[word], 0
        elif word != "and" or not has_number:
            return None
    return sign * (total + current) if has_number else None


def _chinese_integer(text: str) -> int:
    for character, scale in (("亿", 10**8), ("万", 10**4)):
        if character in text:
            left, right = text.split(character, 1)
            high = _chinese_integer(left) if left else 1
            return high * scale + (_chinese_integer(right) if right else 0)
    total, digit = 0, 0
    if not any(c in _CHINESE_SCALES for c in text):
        return int("".join(str(_CHINESE_DIGITS[c]) for c in text))
    for char in text:
        if char in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[char]
        else:
            total, digit = total + (digit or 1) * _CHINESE_SCALES[char], 0
    return total + digit


def word_key(text: str) -> str | None:
    """Return a key that is the same for equal answers in words; None for a formula."""
    bare = TEXT.sub(r" \1 ", text)
    has_text = bare != text
    bare = re.sub(r"[{}$.,;:!?\"'`*()\-]", " ", bare).strip()
    if not bare or re.search(r"[\\^_=<>+/|\[\]&]", bare):
        return None
    words = re.findall(r"[^\W\d_]+", bare)
    bare = re.sub(r"^(?:an?|the)\s+(?=.*[^\W\d_]{3})", "", bare, flags=re.IGNORECASE)
    has_words = any(len(word) >= 3 and word.lower() not in _FORMULA_WORDS for word in words)
    is_no = [word.lower() for word in words] == ["no"]
    if not words or not (has_text or has_words or is_no or re.search(r"[一-鿿]", bare)):
        return None
    if re.match(r"[\d.]", bare) and not has_text:
        return None
    key = "".join(re.findall(r"\w+", bare)).casefold()
    return _SYNONYMS.get(key, key)
