r"""Units, percent, degrees and money at the end (or the front) of a number.

One real record: `split_unit("15\text{ cm}^2")` is ("15", Unit("cm^2")).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

from slowthink.grading.answers.normalise import clean

_LENGTH, _MASS, _TIME, _VOLUME, _ANGLE, _MONEY = (
    "length",
    "mass",
    "time",
    "volume",
    "angle",
    "money",
)

_TABLE: dict[str, tuple[str, Fraction]] = {}


def _add(dimension: str, factor: str, names: str) -> None:
    for name in names.split():
        _TABLE[name.replace("_", " ")] = (dimension, Fraction(factor))


for _row in (
    (_LENGTH, "1", "m meter metre 米"),
    (_LENGTH, "1/1000", "mm millimeter millimetre 毫米"),
    (_LENGTH, "1/100", "cm centimeter centimetre 厘米"),
    (_LENGTH, "1/10", "dm decimeter 分米"),
    (_LENGTH, "1000", "km kilometer kilometre 千米 公里"),
    (_LENGTH, "1/1000000000", "nm nanometer"),
    (_LENGTH, "254/10000", "inch inche in"),
    (_LENGTH, "3048/10000", "foot feet ft"),
    (_LENGTH, "9144/10000", "yard yd"),
    (_LENGTH, "1609344/1000", "mile mi"),
    (_MASS, "1", "g gram 克"),
    (_MASS, "1000", "kg kilogram 千克 公斤"),
    (_MASS, "1/1000", "mg milligram 毫克"),
    (_MASS, "1000000", "ton tonne 吨"),
    (_MASS, "45359237/100000", "pound lb lbs"),
    (_MASS, "28349523125/1000000000", "ounce oz"),
    (_TIME, "1", "s second sec 秒"),
    (_TIME, "60", "minute min 分钟"),
    (_TIME, "3600", "hour hr h 小时 时"),
    (_TIME, "86400", "day 天"),
    (_TIME, "604800", "week 周"),
    ("year", "1", "year yr 年"),
    ("month", "1", "month 月"),
    (_VOLUME, "1", "liter litre L l 升"),
    (_VOLUME, "1/1000", "ml mL milliliter 毫升"),
    (_ANGLE, "1", "degree deg ° 度"),
    ("radian", "1", "radian rad 弧度"),
    ("kelvin", "1", "K kelvin"),
    (_MONEY, "1", "dollar $"),
    (_MONEY, "1/100", "cent ¢"),
    ("yuan", "1", "元 yuan ¥"),
    ("euro", "1", "€ euro"),
    ("pound sterling", "1", "£"),
    ("percent", "1", "%"),
    ("energy", "1", "J joule"),
    ("energy", "1000", "kJ"),
    ("charge-energy", "1", "eV"),
    ("charge-energy", "1000", "keV"),
    ("charge-energy", "1000000", "MeV"),
    ("power", "1", "W watt"),
    ("power", "1000", "kW"),
    ("force", "1", "N newton"),
    ("voltage", "1", "V volt"),
    ("current", "1", "A ampere amp"),
    ("frequency", "1", "Hz hertz"),
    ("frequency", "1000", "kHz"),
    ("frequency", "1000000", "MHz"),
    ("pressure", "1", "Pa pascal"),
    ("pressure", "1000", "kPa"),
    ("pressure", "101325", "atm"),
    ("amount", "1", "mol mole"),
    ("length/time", "1609344/3600000", "mph"),
    ("length/time", "1000/3600", "kph kmh kmph"),
    ("resistance", "1", "ohm Ω Ohm"),
    ("resistance", "1000", "kΩ"),
    ("charge", "1", "C coulomb"),
    ("field", "1", "T tesla"),
):
    _add(*_row)

_LETTER_ONLY = frozenset(
    ["m", "s", "g", "h", "l", "L", "N", "J", "W", "V", "A", "K", "C", "T", "in"]
)
"""Names that are symbols unless they stand in roman type or after a space."""
_POWER = r"(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?"
_ROMAN_TAIL = re.compile(
    rf"^(.*?[\d\w}})\]])\s*(?:\^\s*\{{?\s*)?\\text\{{([^{{}}]*)\}}\s*\}}?{_POWER}((?:\s*[/\\cdot*]*\s*\\text\{{[^{{}}]*\}}{_POWER})*)$",
    re.DOTALL,
)
_PLAIN_TAIL = re.compile(
    rf"^(.*[\d}})])\s*([A-Za-z][A-Za-z ]*?(?:\s*/\s*[A-Za-z]+)?){_POWER}$", re.DOTALL
)
_CJK_TAIL = re.compile(r"^(.*[\d}%)])\s*([一-鿿℃Ω][一-鿿Ω/]*)$", re.DOTALL)
_CURRENCY = re.compile(r"^(-?)\s*(\\\$|US\s?\\?\$|[¥€£])\s*(?=[\d.\\(-])|\s*(\\\$|[¥€£])$")
_OHM = re.compile(r"(?<=[\d}])\s*(k?)\s*\\Omega$")
_DEGREE = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)\s*(?:C|F|\\text\s*\{\s*[CF]\s*\})?$")
_ANGLE_WITHIN = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])[^()]*$")
_PERCENT = re.compile(
    r"\s*(?:\\?%|\\text\{\s*(?:\\?%|percent|pct)\s*\}|\bpercent\b|\bpct\b)$", re.IGNORECASE
)
_SCALES = {"degree C", "degree F"}
_FUNCTION_WORDS = frozenset(["sin", "cos", "tan", "log", "ln", "exp", "and", "or", "pi", "sqrt"])


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as found; dimension and factor are empty where it is not in the table."""

    name: str
    dimension: str = ""
    factor: Fraction = Fraction(1)


def split_unit(text: str) -> tuple[str, Unit | None]:
    """A cleaned text without its unit, and the unit."""
    text = _OHM.sub(r"\\text{\1Ω}", text) if text.endswith("\\Omega") else text
    if _PERCENT.search(text):
        return _PERCENT.sub("", text).strip(), Unit("%", "percent")
    if (
        "\\circ" in text
        and _DEGREE.search(text)
        and text.count("\\circ") == 1
        and not _ANGLE_WITHIN.search(text)
    ):
        scale = re.search(r"([CF])\s*\}?$", text)
        name = f"degree {scale.group(1)}" if scale else "degree"
        return _DEGREE.sub("", text).strip(), Unit(name, _ANGLE)
    money = _CURRENCY.search(text)
    if money:
        sign, front, back = money.groups()
        name = "$" if "$" in (front or back) else (front or back)
        return _CURRENCY.sub(sign or "", text).strip(), named(name)
    for pattern in (_ROMAN_TAIL, _PLAIN_TAIL, _CJK_TAIL):
        match = pattern.match(text)
        if match and (found := _tail(match, is_plain=pattern is _PLAIN_TAIL)):
            return match.group(1).strip(), found
    return text, None


def named(name: str) -> Unit:
    """The unit of this name, as far as the table knows it."""
    parts = re.split(r"\s*/\s*|\s+per\s+", name.strip())
    factor, dimensions = Fraction(1), []
    for i, part in enumerate(parts):
        base, power = _base(part)
        if base is None:
            return Unit(_singular(name.strip().lower()))
        dimension, size = base
        factor *= size ** (power if i == 0 else -power)
        dimensions.append(f"{dimension}^{power}" if power != 1 else dimension)
    return Unit(name.strip(), "/".join(dimensions), factor)


@functools.lru_cache(maxsize=256)
def stated(text: str) -> Unit:
    """The unit that a problem states apart, however it is written: "cm^2", "$\\mathrm{~m}/s$"."""
    return split_unit(clean(f"1 {text}"))[1] or named(text)


def compatible(gold: Unit | None, pred: Unit | None) -> Fraction | None:
    """The factor from the answer's unit to the key's; None where they do not fit."""
    if gold is None or pred is None:
        return Fraction(1)
    if gold.dimension and pred.dimension:
        if gold.dimension == pred.dimension and {gold.name, pred.name} != _SCALES:
            return pred.factor / gold.factor
        return None
    words = [set(re.findall(r"[a-z一-鿿]+", _singular(unit.name.lower()))) for unit in (gold, pred)]
    if gold.name == pred.name or words[0] & words[1]:
        return Fraction(1)
    return None if gold.dimension == pred.dimension == "" else Fraction(1)


def _tail(match: re.Match[str], *, is_plain: bool) -> Unit | None:
    """The unit at the end of a text; None where the letters are symbols."""
    name = match.group(2).strip()
    if is_plain:
        if not _is_plain_unit(name, before=match.group(1), text=match.group()):
            return None
        return named(name + (f"^{match.group(3)}" if match.group(3) else ""))
    if match.re is _ROMAN_TAIL:
        if name.startswith("-"):
            return None
        if not name or (
            name.lower() in ("and", "or", "th", "st", "nd", "rd") and not match.group(4)
        ):
            return Unit(name) if name else None
        rest = re.sub(r"\\text\{([^{}]*)\}", r"\1", match.group(4) or "").replace("\\cdot", " ")
        power = f"^{match.group(3)}" if match.group(3) else ""
        return named((name + power + rest).replace("{", "").replace("}", ""))
    return named(name)


def _is_plain_unit(name: str, *, before: str, text: str) -> bool:
    words = re.findall(r"[A-Za-z]+", name)
    if not words or _FUNCTION_WORDS & set(words):
        return False
    spaced = text[len(before)].isspace()
    if len(words) > 1 and "/" not in name and all(len(word) == 1 for word in words):
        return words[0].isupper() and re.fullmatch(r"-?[\d.,/]+", before) is not None
    if len(words) == 1 and (words[0] in _LETTER_ONLY or len(words[0]) == 1):
        return (
            spaced
            and words[0] in _LETTER_ONLY
            and re.fullmatch(r"-?[\d.,/]+|.*10\s*\^\s*(?:\{\s*-?\d+\s*\}|-?\d+)", before)
            is not None
        )
    named = [_singular(word) in _TABLE or word in _TABLE for word in words]
    known = all(named) if all(len(word) <= 2 for word in words) and "/" not in name else any(named)
    return known or (spaced and all(len(word) > 2 for word in words[:1]))


def _base(part: str) -> tuple[tuple[str, Fraction] | None, int]:
    """Table entry and power of one factor: "cm^2", "square inches", "cubic meter"."""
    power = 1
    match = re.match(r"^(.*?)\s*\^\s*(-?\d)$", part)
    if match:
        part, power = match.group(1), int(match.group(2))
    for word, value in (("square", 2), ("sq", 2), ("cubic", 3), ("平方", 2), ("立方", 3)):
        if part.lower().startswith(word):
            part, power = part[len(word) :].lstrip(" ."), value
    part = part.strip(" .")
    return next(
        (_TABLE[n] for n in (part, part.lower(), _singular(part.lower())) if n in _TABLE), None
    ), power


def _singular(name: str) -> str:
    return re.sub(r"(?<=[a-z]{2})s\b", "", name.strip())
