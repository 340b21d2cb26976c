r"""Units, percent, degrees and money after (or before) a number, and their conversion.

Example: `split_unit("15\text{ cm}^2")` is ("15", Unit("cm^2")), of dimension "length^2".
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from slowthink.grading.answers.latex import TEXT
from slowthink.grading.answers.normalise import normalise

_UNITS = {
    name: (dimension, Fraction(factor))
    for dimension, factor, names in (
        ("length", "1", "m meter metre 米 metro mètre м"),
        ("length", "1/1000", "mm millimeter millimetre 毫米 мм"),
        ("length", "1/100", "cm centimeter centimetre 厘米 centímetro см"),
        ("length", "1/10", "dm decimeter 分米"),
        ("length", "1000", "km kilometer kilometre 千米 公里 км"),
        ("length", "1/1000000000", "nm nanometer"),
        ("length", "254/10000", "inch inche in"),
        ("length", "3048/10000", "foot feet ft"),
        ("length", "9144/10000", "yard yd"),
        ("length", "1609344/1000", "mile mi"),
        ("length^2", "10000", "hectare ha 公顷"),
        ("mass", "1", "g gram 克 г"),
        ("mass", "1000", "kg kilogram 千克 公斤 кг"),
        ("mass", "1/1000", "mg milligram 毫克"),
        ("mass", "1000000", "ton tonne 吨"),
        ("mass", "45359237/100000", "pound lb lbs"),
        ("mass", "28349523125/1000000000", "ounce oz"),
        ("time", "1", "s second sec 秒"),
        ("time", "60", "minute min 分钟 分 мин"),
        ("time", "3600", "hour hr h 小时 时 Stunde ч"),
        ("time", "86400", "day 天"),
        ("time", "604800", "week 周"),
        ("year", "1", "year yr 年"),
        ("month", "1", "month 月"),
        ("length^3", "1/1000", "liter litre L l 升 litro"),
        ("length^3", "1/1000000", "ml mL milliliter millilitre 毫升"),
        ("angle", "1", "degree deg ° 度"),
        ("radian", "1", "radian rad 弧度"),
        ("kelvin", "1", "K kelvin"),
        ("money", "1", "dollar $ USD"),
        ("money", "1/100", "cent ¢"),
        ("yuan", "1", "元 yuan ¥ CNY RMB 块"),
        ("yuan", "1/10", "角"),
        ("euro", "1", "€ euro EUR"),
        ("pound sterling", "1", "£ GBP"),
        ("rupee", "1", "₹ rupee INR Rs"),
        ("real", "1", "R$ BRL"),
        ("rouble", "1", "₽ руб"),
        ("yen", "1", "円 yen JPY 日元"),
        ("percent", "1", "%"),
        ("percent", "1/10", "‰"),
        ("energy", "1", "J joule"),
        ("energy", "1000", "kJ"),
        ("energy", "3600000", "kWh"),
        ("charge-energy", "1", "eV"),
        ("charge-energy", "1000", "keV"),
        ("charge-energy", "1000000", "MeV"),
        ("power", "1", "W watt"),
        ("power", "1000", "kW"),
        ("force", "1", "N newton"),
        ("voltage", "1", "V volt"),
        ("current", "1", "A ampere amp"),
        ("current", "1/1000", "mA"),
        ("frequency", "1", "Hz hertz"),
        ("frequency", "1000", "kHz"),
        ("frequency", "1000000", "MHz"),
        ("pressure", "1", "Pa pascal"),
        ("pressure", "1000", "kPa"),
        ("pressure", "101325", "atm"),
        ("pressure", "101325/760", "mmHg torr"),
        ("amount", "1", "mol mole"),
        ("length/time", "1609344/3600000", "mph"),
        ("length/time", "1000/3600", "kph kmh kmph"),
        ("resistance", "1", "ohm Ω Ohm"),
        ("resistance", "1000", "kΩ"),
        ("charge", "1", "C coulomb"),
        ("field", "1", "T tesla"),
    )
    for name in names.split()
}
"""Dimension and conversion factor to the dimension's base unit, by the unit's name."""
_AMBIGUOUS_NAMES = frozenset([*"msghlLNJWVAKCT", "in"])
"""Names that mean a symbol, not a unit, unless in roman type or after a space."""
_EXPONENT = r"(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?"
_ROMAN = rf"\\text\{{([^{{}}]*)\}}\s*\}}?{_EXPONENT}"
_MORE_ROMAN = rf"(?:\s*[/\\cdot*]*\s*\\text\{{[^{{}}]*\}}{_EXPONENT})*"
_ROMAN_UNIT = re.compile(
    rf"^(.*?[\d\w}})\]])\s*(?:\^\s*\{{?\s*)?{_ROMAN}({_MORE_ROMAN})$", re.DOTALL
)
_PLAIN_UNIT = re.compile(
    rf"^(.*(?:[\d}})]|\\pi(?=\s)))\s*([A-Za-zÀ-ɏḀ-ỿа-я][A-Za-zÀ-ɏḀ-ỿа-я ]*?"
    rf"(?:\s*/\s*[A-Za-zа-я]+)?){_EXPONENT}$",
    re.DOTALL,
)
_CJK_UNIT = re.compile(r"^(.*[\d}%)])\s*([一-鿿℃Ω][一-鿿Ω/]*)$", re.DOTALL)
_CURRENCY_SIGN = re.compile(
    r"^(-?)\s*(\\\$|(?:US|R)\s?\\?\$|[¥€£₹])\s*(?=[\d.\\(-])|\s*(\\\$|[¥€£₹¢])$"
)
_OHM = re.compile(r"(?<=[\d}])\s*(k?)\s*\\Omega$")
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)\s*(?:C|F|\\text\s*\{\s*[CF]\s*\})?$")
_INSIDE_FUNCTION = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])[^()]*$")
_PERCENT_SIGN = re.compile(
    r"\s*(?:\\?%(?!\w)|\\text\{\s*(?:\\?%|percent|pct)\s*\}|\bpercent\b|\bpct\b)$", re.IGNORECASE
)
_QUANTITY_PART = re.compile(
    r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*(?:\\text\s*\{\s*)?([a-zA-Z]+|[一-鿿]+)\s*\}?\s*"
    r"(?:,|and(?= )|零)?"
)
_TEMPERATURES = {"degree C", "degree F"}
_PLAIN_NUMBER = re.compile(r"-?[\d.,/]+")
_PLAIN_OR_SCIENTIFIC = re.compile(r"-?[\d.,/]+|.*10\s*\^\s*(?:\{\s*-?\d+\s*\}|-?\d+)")
_FORMULA_WORDS = frozenset(["sin", "cos", "tan", "log", "ln", "exp", "and", "or", "pi", "sqrt"])
_POWER_WORDS = frozenset(("sq", "square", "cubic", "squared", "cubed", "per"))
_STATEMENT = re.compile(r"(?:is|are|was|were|has|have|does|can|cannot|must|not|but|if)\b")
"""Begins what is said of a symbol: "p is necessary"."""
_OPERATIONS = frozenset(
    ("times", "minus", "plus", "squared", "cubed", "factorial", "choose", "over", "divided", "mod")
)
"""Words after a number that make another number of it."""
_NOT_UNITS = ("and", "or", "th", "st", "nd", "rd")


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit. `factor` converts to the dimension's base unit; an unknown unit has no dimension."""

    name: str
    dimension: str = ""
    factor: Fraction = Fraction(1)


PERCENT = Unit("%", "percent")


def split_unit(text: str) -> tuple[str, Unit | None]:
    """Return a normalised text without its unit, and the unit, None if there is none."""
    text = _OHM.sub(r"\\text{\1Ω}", text) if text.endswith("\\Omega") else text
    text = text.replace("sq. ", "sq ")
    if _PERCENT_SIGN.search(text):
        return _PERCENT_SIGN.sub("", text).strip(), PERCENT
    if text.endswith("‰"):
        return text[:-1].strip(), unit_by_name("‰")
    is_degree = text.count("\\circ") == 1 and _DEGREES.search(text) is not None
    if is_degree and not _INSIDE_FUNCTION.search(text):
        scale = re.search(r"([CF])\s*\}?$", text)
        name = f"degree {scale.group(1)}" if scale else "degree"
        return _DEGREES.sub("", text).strip(), Unit(name, "angle")
    currency = _CURRENCY_SIGN.search(text)
    if currency:
        minus, before, after = currency.groups()
        name = (before or after).removeprefix("US").strip().replace("\\", "")
        return _CURRENCY_SIGN.sub(minus or "", text).strip(), unit_by_name(name)
    for pattern in (_ROMAN_UNIT, _PLAIN_UNIT, _CJK_UNIT):
        match = pattern.match(text)
        if match and (unit := _matched_unit(match)):
            return match.group(1).strip(), unit
    return text, None


def unit_by_name(name: str) -> Unit:
    """Return the unit with this name: "m", "square inches", "km/h", "m s^-2", "feet per minute"."""
    name = name.strip()
    factor, powers = Fraction(1), Counter[str]()
    for i, part in enumerate(re.split(r"\s*/\s*|\s+per\s+", name)):
        for entry, power in _entries_and_powers(part):
            if entry is None:
                return Unit(_singular(name.lower()))
            dimension, unit_factor = entry
            power = power if i == 0 else -power
            factor *= unit_factor**power
            for base, exponent in _base_dimensions(dimension):
                powers[base] += exponent * power
    dimension = " ".join(f"{b}^{p}" if p != 1 else b for b, p in sorted(powers.items()) if p)
    return Unit(name, dimension, factor)


def _base_dimensions(dimension: str) -> list[tuple[str, int]]:
    """Return the base dimensions of an entry with their powers: "length/time", "length^3"."""
    first, *others = dimension.split("/")
    base, _, power = first.partition("^")
    return [(base, int(power or 1)), *((other, -1) for other in others)]


def in_first_unit(text: str) -> str:
    """Return a quantity in several units, 1 hour 30 minutes, in the first; other texts unchanged.

    The units have one dimension, and each is smaller than the one before.
    """
    if len(text) > 100 or len(parts := list(_QUANTITY_PART.finditer(text))) < 2:
        return text
    if parts[0].start() or any(a.end() != b.start() for a, b in itertools.pairwise(parts)):
        return text
    units = [unit_by_name(part.group(2)) for part in parts]
    if units[0].dimension == "yuan":  # 分 is a hundredth of 元 there, not a minute
        units = [Unit("分", "yuan", Fraction(1, 100)) if u.name == "分" else u for u in units]
    first = units[0]
    decreasing = all(a.factor > b.factor for a, b in itertools.pairwise(units))
    if parts[-1].end() != len(text) or not first.dimension or not decreasing:
        return text
    if any(unit.dimension != first.dimension for unit in units):
        return text
    amounts = [Fraction(part.group(1)) for part in parts]
    total = sum(a * u.factor for a, u in zip(amounts, units, strict=True)) / first.factor
    return f"\\frac{{{total.numerator}}}{{{total.denominator}}}\\text{{ {first.name}}}"


@functools.lru_cache(maxsize=256)
def stated_unit(text: str) -> Unit:
    """Return the unit that a problem states, in any notation: "cm^2", "$\\mathrm{~m}/s$"."""
    return split_unit(normalise(f"1 {text}"))[1] or unit_by_name(text)


def conversion_factor(gold: Unit | None, pred: Unit | None) -> Fraction | None:
    """Return the factor from the prediction's unit to the reference's; None if incompatible."""
    if gold is None or pred is None:
        return Fraction(1)
    if {gold.dimension, pred.dimension} == {"mass", "pound sterling"}:
        is_pound = all(_singular(unit.name.lower()) in ("£", "pound") for unit in (gold, pred))
        return Fraction(1) if is_pound else None
    if gold.dimension and pred.dimension:
        if gold.dimension == pred.dimension and {gold.name, pred.name} != _TEMPERATURES:
            return pred.factor / gold.factor
        return None
    words = [re.findall(r"[^\W\d_]+", _singular(unit.name.lower())) for unit in (gold, pred)]
    shorter, longer = sorted(words, key=len)
    if gold.name == pred.name or (shorter and _occur_in_order(shorter, longer)):
        return Fraction(1)
    return None if gold.dimension == pred.dimension == "" else Fraction(1)


def _occur_in_order(words: list[str], others: list[str]) -> bool:
    """Whether the words are among the others in this order, as "north of east" demands."""
    remaining = iter(others)
    return all(word in remaining for word in words)


def _matched_unit(match: re.Match[str]) -> Unit | None:
    """Return the unit at the end of a text; None if the letters are symbols."""
    name = match.group(2).strip()
    if name.split(" ")[0].lower() in _OPERATIONS or name.startswith("的"):
        return None
    if match.re is _CJK_UNIT:
        return unit_by_name(name)
    power = f"^{match.group(3)}" if match.group(3) else ""
    if match.re is _PLAIN_UNIT:
        is_unit = _is_plain_unit(name, before=match.group(1), text=match.group())
        return unit_by_name(name + power) if is_unit else None
    if not name or name.startswith("-"):
        return None
    is_denied = re.search(r"\bnot\b", name) is not None
    if _STATEMENT.match(name) and (is_denied or not match.group(1).rstrip()[-1:].isdigit()):
        return None  # "5 is the answer" says nothing else of 5
    if name.lower() in _NOT_UNITS and not match.group(4):
        return Unit(name)
    more_units = TEXT.sub(r"\1", match.group(4) or "").replace("\\cdot", " ")
    return unit_by_name((name + power + more_units).replace("{", "").replace("}", ""))


def _is_plain_unit(name: str, *, before: str, text: str) -> bool:
    """Whether letters after a number, not in roman type, are a unit and not symbols."""
    words = re.findall(r"[^\W\d_]+", name)
    if not words or _FORMULA_WORDS & set(words):
        return False
    is_spaced = text[len(before)].isspace()
    if len(words) > 1 and "/" not in name and all(len(word) == 1 for word in words):
        return words[0].isupper() and _PLAIN_NUMBER.fullmatch(before) is not None
    if len(words) == 1 and (words[0] in _AMBIGUOUS_NAMES or len(words[0]) == 1):
        is_number = _PLAIN_OR_SCIENTIFIC.fullmatch(before) is not None
        return is_spaced and words[0] in _AMBIGUOUS_NAMES and is_number
    words = [word for word in words if word not in _POWER_WORDS] or words
    is_known = [_singular(word) in _UNITS or word in _UNITS for word in words]
    is_short = all(len(word) <= 2 for word in words) and "/" not in name
    if all(is_known) if is_short else any(is_known):
        return True
    return is_spaced and len(words[0]) > 2


_Entry = tuple[str, Fraction]


def _entries_and_powers(part: str) -> list[tuple[_Entry | None, int]]:
    """Return the entries in `_UNITS` and the powers of a product: "cm^2", "m s^-2"."""
    whole = _entry_and_power(part)
    factors = re.split(r"\s+|\\cdot|·|\*", part.strip())
    if whole[0] is not None or len(factors) == 1:
        return [whole]
    return [_entry_and_power(factor) for factor in factors if factor]


def _entry_and_power(part: str) -> tuple[_Entry | None, int]:
    power = 1
    match = re.match(r"^(.*?)\s*\^\s*(-?\d)$", part)
    if match:
        part, power = match.group(1), int(match.group(2))
    for word, value in (("squared", 2), ("cubed", 3)):
        if part.lower().endswith(f" {word}"):
            part, power = part[: -len(word)].rstrip(), value
    for word, value in (("square", 2), ("sq", 2), ("cubic", 3), ("平方", 2), ("立方", 3)):
        if part.lower().startswith(word):
            part, power = part[len(word) :].lstrip(" ."), value
    part = part.strip(" .")
    names = (part, part.lower(), _singular(part.lower()))
    return next((_UNITS[name] for name in names if name in _UNITS), None), power


def _singular(name: str) -> str:
    return re.sub(r"(?<=[a-z]{2})s\b", "", name.strip())
