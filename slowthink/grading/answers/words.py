"""Numbers in English and Chinese words, and answers in words.

Example: `number_from_words("twenty-five")` is 25.
"""

from __future__ import annotations

import re
import unicodedata
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
_CHINESE_SIGNS = "零〇一二两三四五六七八九十百千万亿"
_CHINESE_NUMBER = re.compile(
    rf"负?(?:[{_CHINESE_SIGNS}分之又点]+|(?:\d{{1,12}}(?:\.\d{{1,9}})?[万亿千百]){{1,4}}\d{{0,4}})"
)
_SYNONYMS = {
    "true": "yes", "correct": "yes", "right": "yes", "false": "no", "incorrect": "no", "是": "yes",
    "否": "no", "对": "yes", "错": "no", "正确": "yes", "错误": "no",
    "不对": "no", "不正确": "no", "doesnotexist": "dne",
    "nosolutions": "nosolution", "norealsolution": "norealsolutions", "infinitelymany": "infinite",
    "diverges": "divergent", "发散": "divergent", "converges": "convergent", "收敛": "convergent",
    "infinitelymanysolutions": "infinite", "无穷多": "infinite", "无穷多个": "infinite",
    "无数个": "infinite", "充分必要": "充要", "奇数": "odd", "偶数": "even",
    "奇函数": "oddfunction", "偶函数": "evenfunction", "质数": "prime", "素数": "prime",
    "合数": "composite",
}  # fmt: skip
_NO_SOLUTION = (
    "nosolutionexists thereisnosolution therearenosolutions keinelosung keinelosungen pasdesolution"
    " aucunesolution sinsolucion nohaysolucion nessunasoluzione semsolucao"
    " 无解 无实数解 无实根 无实数根 没有实数根 没有实数解 没有解 解なし 해가없다 нетрешений"
)
_SYNONYMS |= dict.fromkeys(_NO_SOLUTION.split(), "nosolution")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SYNONYMS |= {
    prefix + sign: day
    for prefix in ("星期", "周", "礼拜")
    for sign, day in zip("一二三四五六日", _WEEKDAYS, strict=True)
}
_OTHER_LANGUAGES = {
    word: number
    for words in (
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
        "zéro un deux trois quatre cinq six sept huit neuf dix onze douze",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez - doce",
        "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici",
        "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
    )
    for number, word in enumerate(words.split())
}
_ARTICLE = re.compile(
    r"^(?:an?|the|ein|eine|der|die|das|une?|le|la|les|una|el|los|las)\s+(?=.*[^\W\d_]{3})",
    re.IGNORECASE,
)
_POLITE = re.compile(r"(?<=[一-鿿])(?:同学|先生|女士|老师|条件)$")
_SENTENCE = re.compile(
    r"^(?:it|this|that|(?:the|an?) [a-z]+(?: [a-z]+)?) (?:is|are) (?:an?|the)? ?"
    r"(?P<predicate>[a-z]+(?: [a-z]+)?)$"
    r"|^(?:原?方程组?|不等式组?|极限|函数|数列|级数)(?P<chinese>无解|不存在|发散|收敛)$",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|never|no|neither|nor)\b", re.IGNORECASE)
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
    if re.fullmatch(r"[a-z][a-z\s-]*", text) and text not in _OTHER_LANGUAGES:
        return _english_number(re.split(r"[\s-]+", text))
    if text in _OTHER_LANGUAGES:
        return _OTHER_LANGUAGES[text]
    if text in ("一半", "半"):
        return Fraction(1, 2)
    if _CHINESE_NUMBER.fullmatch(text):
        number = _chinese_number(text.removeprefix("负"))
        return -number if text.startswith("负") and number is not None else number
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


def _chinese_number(text: str) -> int | Fraction | None:
    """Return 四分之三, 三又二分之一, 一点五 or an integer; None for other orders of the signs."""
    if "分之" in text:
        before, _, numerator = text.partition("分之")
        whole, _, denominator = before.rpartition("又")
        parts = [_chinese_number(part or "零") for part in (whole, denominator, numerator)]
        if not parts[1] or None in parts:
            return None
        return Fraction(parts[0] or 0) + Fraction(parts[2] or 0) / Fraction(parts[1])
    if "又" in text:
        return None
    whole, point, places = text.partition("点")
    if not point:
        return _chinese_integer(text)
    digits = "".join(str(_CHINESE_DIGITS.get(char, char)) for char in places)
    if not digits.isdecimal() or not whole:
        return None
    return _chinese_integer(whole) + Fraction(int(digits), 10 ** len(digits))


def _chinese_integer(text: str) -> int | Fraction:
    """Return an integer, in which digits may stand before the signs: 1万2千, 3.6亿."""
    for character, scale in (("亿", 10**8), ("万", 10**4)):
        if character in text:
            left, right = text.split(character, 1)
            high = _chinese_integer(left) if left else 1
            return high * scale + _lower_part(right, scale)
    total: int | Fraction = 0
    digit: int | Fraction = 0
    if not any(c in _CHINESE_SCALES for c in text):
        return Fraction("".join(str(_CHINESE_DIGITS.get(c, c)) for c in text))
    last_scale = 1
    for token in re.findall(r"\d+(?:\.\d+)?|[^\d.]", text):
        if token in _CHINESE_SCALES:
            last_scale = _CHINESE_SCALES[token]
            total, digit = total + (digit or 1) * last_scale, 0
        else:
            digit = _CHINESE_DIGITS[token] if token in _CHINESE_DIGITS else Fraction(token)
    is_short = last_scale >= 100 and text[-2:-1] in _CHINESE_SCALES
    return total + (digit * last_scale // 10 if is_short else digit)


def _lower_part(text: str, scale: int) -> int | Fraction:
    """What follows a sign: the 五 of 两万五 stands for 五千, that of 两万零五 for five."""
    if len(text) == 1 and text in _CHINESE_DIGITS:
        return _CHINESE_DIGITS[text] * scale // 10
    return _chinese_integer(text) if text else 0


def word_key(text: str) -> str | None:
    """Return a key that is the same for equal answers in words; None for a formula."""
    bare = TEXT.sub(r" \1 ", text).replace("而不", "不")
    has_text = bare != text
    bare = re.sub(r"[{}$.,;:!?\"'`*()]|-(?!\d)", " ", bare).strip()
    if not bare or re.search(r"[\\^_=<>+/|\[\]&]", bare):
        return None
    words = re.findall(r"[^\W\d_]+", bare)
    bare = re.sub(r"^[是为](?=[一-鿿]{2})", "", _ARTICLE.sub("", bare))
    has_words = any(len(word) >= 3 and word.lower() not in _FORMULA_WORDS for word in words)
    is_no = [word.lower() for word in words] == ["no"]
    if not words or not (has_text or has_words or is_no or re.search(r"[一-鿿]", bare)):
        return None
    if re.match(r"[\d.]", bare) and not has_text:
        return None
    return _key(_POLITE.sub("", bare))


def _key(text: str) -> str:
    """Return the letters and digits in lower case, Latin ones without accents."""
    key = "".join(re.findall(r"-(?=\d)|\w+", text)).casefold()
    if not key.isascii():
        plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", key))
        key = unicodedata.normalize("NFC", plain)
    return _SYNONYMS.get(key, key)


def predicate_key(text: str) -> str:
    """Return the key of what a sentence says of its subject; "" for others and for negations."""
    match = _SENTENCE.match(TEXT.sub(r" \1 ", text).strip(" .。"))
    if match is None or _NEGATION.search(match.group()):
        return ""
    return _key(match.group("predicate") or match.group("chinese"))
