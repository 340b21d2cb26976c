r"""Numbers that a sentence rejects, bounds or supposes, and so does not state.

Example: `without_rejected("not 5 but 6")` is `but 6`, and the 7 of "at least 7" is bounded.
"""

from __future__ import annotations

import re

_NUMBER = r"(?<![\d.,/])[$\\({]{0,3}[-−]?\d[\d.,/]{0,40}(?<![.,])[%°)}$]{0,3}"
_NOT_BEFORE = (
    r"(?:(?<![\w'’])(?:not|never|nicht|kein\w*|non|n['’]est pas|pas|no (?:es|son)|não(?: é)?|не"
    r"|không phải(?: là)?|bukan|nie|inte|rather than|instead of|anstatt|statt|plutôt que"
    r"|au lieu de|en (?:lugar|vez) de|invece di)|n['’]t|cannot|不是|并非|不等于|而非|而不是)"
)
_NOT_AFTER = (
    r"(?:ではな[ぁ-ん]{0,2}|ではありません|じゃな[ぁ-ん]{0,2}|[이가]? ?아[니닌][가-힣]{0,3}"
    r"|より[大小多少]|未満|以上|以下|보다|이상|이하|미만|['’]?[dt][ea]n (?:fazla|az)|değil|नहीं"
    r"|(?:is|are|was|were|would be) (?:too|not|wrong|incorrect|impossible|ruled out|rejected"
    r"|extraneous|invalid)\b|does(?: not|n['’]t)\b|fails\b|ist falsch|不(?:对|行|成立|符合)"
    r"|[(（]?(?:舍|rejected|discarded|extraneous|invalid"
    r"|not (?:valid|possible))[^()（）\s]{0,20}[)）]?)"
)
_REJECTED = re.compile(
    rf"(?:[,，]|(?<!\w)(?:and|but|und|et|y))?\s*{_NOT_BEFORE}"
    rf"\s*(?:(?:be|equal|have|get|exactly|to)\s+){{0,2}}{_NUMBER}(?!\s?(?:more|less|fewer)\b)"
    r"(?:[\s,，]*(?:but|sondern|sino|mais|ma|mas|а|而是|而应为)(?!\w)\s*)?"
    rf"|(?:\w\s?=\s?)?{_NUMBER}\s*{_NOT_AFTER}"
    r"|\s*[(（](?:since|because|as|note|not|reject\w*|discard\w*|the other|舍|因为)[^()（）]*[)）]",
    re.IGNORECASE,
)
_BOUND_BEFORE = re.compile(
    r"(?:(?<!\w)(?:(?:more|less|\w{2,}er) than|at (?:least|most)|under|below|over|above"
    r"|(?:reject|discard|try|check|test|exclud|prov|case)(?:e|ing|ed|s)?(?: the case)?"
    r"|exceed(?:s|ing)?|between|neither|nor|up to|(?:close|near(?:er)?) to|nearly|almost"
    r"|(?:not|never|cannot|nicht)(?: (?:be|equal|exactly))?"
    r"|(?:multiple|factor|divisor|power|root|square|cube|half|double|triple)s? of|twice"
    r"|divisible by|coprime to|(?:un)?defined (?:for|at)"
    r"|(?:größer|kleiner|mehr|weniger|höher) als|mindestens|höchstens|zwischen|fast"
    r"|(?:plus|moins)(?: \w+)? (?:que|de)|au (?:moins|plus)|(?:supérieur|inférieur)e? à|presque"
    r"|(?:mayor(?:es)?|menor(?:es)?|más|menos|maior|mais) (?:que|do que|de|a)|al menos"
    r"|(?:meno|più) di"
    r"|como (?:máximo|mínimo)|pelo menos|almeno|quasi|casi|entre"
    r"|(?:больше|меньше|более|менее)(?: чем)?|почти|(?:lớn |nhỏ )?hơn|ít nhất|nhiều nhất)"
    r"|(?:超过|至少|至多|最多|最少|不少于|[大小]于|接近|将近|不可能)[为是]?|[<>≤≥≠]|\\ne)"
    r"\s*(?:[a-zA-Z]\s?=\s?)?[$€£¥]?\Z",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"(?:\b(?:if|suppose|assum\w+|say|imagine|whether|wenn|angenommen|si|supongamos que"
    r"|supposons que"
    r"|если)\b|[若设]|假设|如果)(?:\s+that)?[\s,*]*(?:(?:the|our|your|my|die|la|el)\s+)?"
    r"(?:(?:final|correct|right|richtige)\s+)?\Z"
    r"|\b(?:wrong|incorrect|false|naive|tempting|first|initial|preliminary|tentative|previous"
    r"|falsche|mauvaise)\s+\Z"
    r"|\b(?:might|may|would|could|people|some|one|first)\s+(?:\w+\s+)?"
    r"(?:think|thought|guess|guessed|believe|expect|say|claim)(?:\s+that)?\s+(?:the|my|our)\s+\Z",
    re.IGNORECASE,
)
_NOT_THIS = re.compile(
    rf"(?:{_NOT_BEFORE}(?:\sbe|\sequal)?|(?<!\w)(?:wrong|incorrect)\s?:)[\s$*(\\]{{0,5}}\Z",
    re.IGNORECASE,
)
_IS_WRONG = re.compile(
    r"[\s$*)\\]{0,5}(?:is|was|would be|ist|est) (?:wrong|incorrect|not (?:right|correct)|impossible"
    r"|falsch|faux)\b",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"(?:(?:currently|still|simply|actually)\s)?(?:unknown|unclear|uncertain|undefined|undetermined"
    r"|indeterminate|ambiguous|open|impossible|i (?:do not|don['’]t) know|not sure"
    r"|not (?:known|clear|given|certain|determined|unique)"
    r"|unbekannt|inconnue?|desconocid[ao]|неизвестен|未知|不确定|无法确定)(?!\w)",
    re.IGNORECASE,
)


def without_rejected(sentence: str) -> str:
    """Return a sentence without the numbers that it rejects: "not 5", "5ではなく", "5 is wrong"."""
    return _REJECTED.sub(" ", sentence)


def is_bounded(text: str, start: int) -> bool:
    """Whether the words before a number make it a bound or another number: "more than 5",
    "a multiple of 5"."""
    return _BOUND_BEFORE.search(text[max(0, start - 60) : start]) is not None


def is_supposed(before: str) -> bool:
    """Whether the words before "the answer is" only suppose it: "if", "suppose that"."""
    return _SUPPOSED.search(before[-60:]) is not None


def is_rejected(text: str, start: int, end: int) -> bool:
    """Whether the words around a span of a text reject it: "not …", "wrong: …", "… is wrong"."""
    before, after = text[max(0, start - 40) : start], text[end : end + 40]
    return bool(_NOT_THIS.search(before) or _IS_WRONG.match(after))


def says_unknown(text: str) -> str | None:
    """Return the words that say at a text's beginning that there is no value; None for others."""
    match = _NOTHING.match(text)
    return match.group() if match else None
