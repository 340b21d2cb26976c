r"""Values with one canonical form: congruences, parity, geometric names, dates, clock times.

Each is equal only to the same kind with the same parts. Example: `read_canonical("\\angle CBA")`
and `read_canonical("\\angle ABC")` are both Name("angle", "ABC").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slowthink.grading.answers.latex import TEXT

Residue = int | str
"""A residue or modulus: an integer, or a formula as text."""


@dataclass(frozen=True, slots=True)
class Congruence:
    """Subject modulo an integer, also from "n is odd"; an empty subject agrees with any."""

    subject: str
    residues: frozenset[Residue]
    modulus: Residue


@dataclass(frozen=True, slots=True)
class Property:
    """What a number is said to be: prime, composite."""

    subject: str
    key: str


@dataclass(frozen=True, slots=True)
class Name:
    """A geometric object by its points, in one of the orders that name the same object."""

    kind: str
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Date:
    """A day; the year may be left out."""

    year: int | None
    month: int
    day: int


@dataclass(frozen=True, slots=True)
class ClockTime:
    """A time of day in minutes; `may_be_ratio` if it is written like the ratio 12:20."""

    minutes: int
    may_be_ratio: bool = False


Canonical = Congruence | Property | Name | Date | ClockTime

MAX_NEGATED = 1000
"""Largest modulus for which "not congruent" is written as the other residues."""

_HINT = re.compile(
    r"\\pmod|divi|multiple|整除|倍数|\d\s*\||circle|square|\\angle|\\triangle|\\odot|angle|gram\b|rhombus|odd|even|prime|composite|数|[日号]$|[午点]|[晚早]上|凌晨"
    r"|:\d\d|[AP]M$|[A-Za-z]{3}\.?,? \d|\d\.? (?:of |de )?[A-Za-zéäû]{3}|-\d\d-"
    r"|^[A-Z]\s*\\times|角|形"
)
_CONGRUENCE = re.compile(r"^(?:(.*?)(\\not\s*)?\\equiv)?(.*?)\\pmod\{([^{}]*)\}$", re.DOTALL)
_RESIDUE_SEPARATOR = re.compile(r",|\bor\b|\band\b|\\lor|[或和、]")
_INTEGER = re.compile(r"[-+]?\d{1,15}")
_POINTS = r"((?:[A-Z](?:_\{?\w\}?|'+)?){1,6})"
_SHAPES = {
    "angle": "angle", "triangle": "triangle", "odot": "circle", "circle": "circle",
    "quadrilateral": "polygon", "rectangle": "polygon", "rhombus": "polygon",
    "parallelogram": "polygon", "角": "angle", "三角形": "triangle", "四边形": "polygon",
}  # fmt: skip
_NAME = re.compile(rf"^\\?({'|'.join(_SHAPES)})\s*{_POINTS}$", re.IGNORECASE)
_MULTIPLE = re.compile(
    r"^(?:all |every )?(?P<n>[a-zA-Z])?\s*(?:is |are |must be )?"
    r"(?:divisible by|an? multiple of|multiples of|能被|是)\s*(?P<m>\d{1,15})\s*(?:整除|的倍数)?$"
)
_DIVIDES = re.compile(r"^(\d{1,15})\s*(?:\||divides|整除)\s*([a-zA-Z])$")
_PRODUCT = re.compile(r"^([A-Z])\s*\\times\s*([A-Z])$")
_POINT = re.compile(r"[A-Z](?:_\{?\w\}?|'+)?")
_PROPERTIES = {
    "odd": "odd", "even": "even", "prime": "prime", "composite": "composite", "奇数": "odd",
    "偶数": "even", "质数": "prime", "素数": "prime", "合数": "composite",
}  # fmt: skip
_PROPERTY = re.compile(r"\b(?:odd|even|prime|composite)\b|[奇偶质素合]数")
_NUMBER_WORD = r"\b(?:integers?|numbers?|values?)\b|整数"
_FILLER = re.compile(
    rf"\b(?:all|every|any|each|an?|the|is|are|be|of|for)\b|[为是的]|{_NUMBER_WORD}"
)
_MONTH_NAMES = (
    "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul",
    "august aug", "september sep sept", "october oct", "november nov", "december dec",
    "janvier januar enero", "février februar febrero", "mars märz marzo", "avril abril", "mai mayo",
    "juin juni junio", "juillet juli julio", "août agosto", "septembre septiembre",
    "octobre oktober octubre", "novembre noviembre", "décembre dezember diciembre",
)  # fmt: skip
_MONTHS = {
    name: index % 12 + 1 for index, names in enumerate(_MONTH_NAMES) for name in names.split()
}
_MONTH = rf"(?P<name>{'|'.join(_MONTHS)})\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_MONTH} {_DAY}(?:,? (?P<year>\d{{4}}))?$",
        rf"^(?:the )?{_DAY}\.?(?: of| de)? {_MONTH}(?:,?(?: de)? (?P<year>\d{{4}}))?$",
        r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)$",
        r"^(?:(?P<year>\d{4})\s*年\s*)?(?P<month>\d{1,2})\s*月\s*(?P<day>\d{1,2})\s*[日号]$",
    )
]
_TWELVE_HOURS = re.compile(r"^(\d{1,2})(?:[:.](\d\d))? ([AP])M$")
_CHINESE_TIME = re.compile(
    r"^(凌晨|早上|上午|中午|下午|傍晚|晚上)?\s*(\d{1,2})\s*"
    r"(?::(\d\d)|[点时](?:(\d{1,2})分?|(半)|整)?)$"
)
_TWENTY_FOUR_HOURS = re.compile(r"^([01]?\d|2[0-3]):([0-5]\d)$")


def read_canonical(text: str) -> Canonical | None:
    """Return the value that a normalised text denotes; None for other kinds of values."""
    if len(text) > 200 or not _HINT.search(text):
        return None
    if "\\pmod" in text:
        return _read_congruence(text)
    plain = re.sub(r"\s+", " ", TEXT.sub(r" \1 ", text)).strip()
    if divides := _DIVIDES.match(plain):
        plain = f"{divides.group(2)} is divisible by {divides.group(1)}"
    if product := _PRODUCT.match(plain):
        return Name("product", product.groups())
    if (multiple := _MULTIPLE.match(plain)) and int(multiple.group("m")):
        return Congruence(multiple.group("n") or "", frozenset((0,)), int(multiple.group("m")))
    name = _NAME.match(plain)
    if name:
        return _name(_SHAPES[name.group(1).lower()], _POINT.findall(name.group(2)))
    return _read_date(plain) or _read_clock_time(plain)


def read_property(text: str) -> tuple[Canonical, list[str]] | None:
    """Return a parity or another property of a number, and the relations stated beside it.

    "odd n \\ge 3" is n modulo 2 and the text "n \\ge 3"; "odd" alone has no number: None.
    """
    plain = TEXT.sub(r" \1 ", text)
    (found, *others) = _PROPERTY.findall(plain) or ("",)
    if not found or others or len(text) > 200:
        return None
    relations, subject = [], ""
    for part in re.split(r",|\band\b|且|\\land(?![a-z])", plain.replace(found, " ", 1)):
        rest = _FILLER.sub(" ", part).strip()
        if re.fullmatch(r"[a-zA-Z]", rest):
            subject = rest
        elif re.search(r"[<>]|\\[lg]e(?![a-z])", rest) and not re.search(r"[a-z]{3}|一", rest):
            relations.append(rest)
        elif rest:
            return None
    letters = re.findall(r"(?<![\\a-z])[a-zA-Z](?![a-zA-Z])", " ".join(relations))
    if not (subject or letters or re.search(_NUMBER_WORD, plain)):
        return None
    subject = subject or (letters[0] if letters else "")
    key = _PROPERTIES[found]
    if key in ("odd", "even"):
        return Congruence(subject, frozenset((int(key == "odd"),)), 2), relations
    return Property(subject, key), relations


def equal_canonical(gold: Canonical, pred: Canonical) -> bool:
    """Whether two values are the same, where one of them may leave out its subject."""
    if isinstance(gold, Congruence) and isinstance(pred, Congruence):
        same = (gold.residues, gold.modulus) == (pred.residues, pred.modulus)
        return same and _same_subject(gold.subject, pred.subject)
    if isinstance(gold, Property) and isinstance(pred, Property):
        return gold.key == pred.key and _same_subject(gold.subject, pred.subject)
    if isinstance(gold, ClockTime) and isinstance(pred, ClockTime):
        return gold.minutes == pred.minutes
    return gold == pred


def _same_subject(gold: str, pred: str) -> bool:
    return gold == pred or not gold or not pred


def merged(values: list[Congruence]) -> Congruence | None:
    """Return the congruence that says "one of these"; None for several subjects or moduli."""
    first = values[0]
    if any((v.subject, v.modulus) != (first.subject, first.modulus) for v in values):
        return None
    return Congruence(
        first.subject, frozenset().union(*(v.residues for v in values)), first.modulus
    )


def _read_congruence(text: str) -> Congruence | None:
    match = _CONGRUENCE.match(TEXT.sub(r" \1 ", text))
    if not match or "\\pmod" in match.group(3) or "\\pmod" in (match.group(1) or ""):
        return None
    subject, negation, right, modulus = (
        re.sub(r"\s+", " ", part or "").strip() for part in match.groups()
    )
    texts = []
    for part in map(str.strip, _RESIDUE_SEPARATOR.split(right)):
        texts += [part[3:].strip(), "-" + part[3:].strip()] if part[:3] == "\\pm" else [part]
    number = int(modulus) if _INTEGER.fullmatch(modulus) else modulus.replace(" ", "")
    if not all(texts) or number == 0:
        return None
    residues = frozenset(_residue(text, number) for text in texts)
    if negation:
        if not isinstance(number, int) or abs(number) > MAX_NEGATED:
            return None
        residues = frozenset(range(abs(number))) - residues
    return Congruence(subject.replace(" ", ""), residues, number)


def _residue(text: str, modulus: Residue) -> Residue:
    text = text.replace(" ", "")
    return (
        int(text) % abs(modulus) if isinstance(modulus, int) and _INTEGER.fullmatch(text) else text
    )


def _name(kind: str, points: list[str]) -> Name:
    """Return a name with its points in one order: an angle from either side, a polygon from any
    corner in either direction."""
    turned = [points, points[::-1]]
    if kind == "polygon":
        turned = [side[i:] + side[:i] for side in turned for i in range(len(points))]
    order = sorted(points) if kind == "triangle" else min(turned)
    return Name(kind, tuple(order))


def _read_date(text: str) -> Date | None:
    for pattern in _DATES:
        if match := pattern.match(text):
            parts = match.groupdict()
            month = _MONTHS[parts["name"].lower()] if parts.get("name") else int(parts["month"])
            day, year = int(parts["day"]), parts.get("year")
            if 1 <= month <= 12 and 1 <= day <= 31:
                return Date(int(year) if year else None, month, day)
    return None


def _read_clock_time(text: str) -> ClockTime | None:
    if match := _TWELVE_HOURS.match(text):
        hour, minute = int(match.group(1)), int(match.group(2) or 0)
        return _clock_time(hour % 12 + 12 * (match.group(3) == "P"), minute) if hour <= 12 else None
    if match := _TWENTY_FOUR_HOURS.match(text):
        return ClockTime(60 * int(match.group(1)) + int(match.group(2)), may_be_ratio=True)
    match = _CHINESE_TIME.match(text)
    if not match or not (match.group(1) or "点" in text):
        return None
    part_of_day, hours, *minutes, half = match.groups()
    hour = int(hours)
    hour += 12 * (hour < 12 and (part_of_day or "") in ("下午", "傍晚", "晚上"))
    return _clock_time(hour, 30 if half else int(next(filter(None, minutes), 0)))


def _clock_time(hour: int, minute: int) -> ClockTime | None:
    return ClockTime(60 * hour + minute) if hour < 24 and minute < 60 else None
