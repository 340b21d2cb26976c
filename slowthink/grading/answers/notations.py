r"""Other notations, rewritten to the one that is parsed.

A step of `normalise`: repeating decimals, clock times, degrees with minutes, sequences with dots,
ratios in words, currency codes. Example: `unify_notations(r"0.1(6)")` is `0.1\overline{6}`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from fractions import Fraction

from slowthink.grading.answers.words import number_from_words

MAX_SEQUENCE = 200
"""Most terms of a sequence with dots that is written out."""

_DOTS = r"(?:\\(?:ldots|dots|cdots)(?![a-z])|\.\.\.)"
_SEQUENCE = re.compile(rf"(?<![\d.,])((?:-?\d{{1,9}}\s*,\s*)+){_DOTS}\s*,\s*(-?\d{{1,9}})(?![\d.])")
_DEGREES_AND_MINUTES = re.compile(
    r"(\d{1,6})\s*\^\s*\{?\s*\\circ\s*\}?\s*(\d{1,2})\s*(?:'|\^\s*\{?\s*\\prime\s*\}?)"
    r"(?:\s*(\d{1,2})\s*(?:''|\"))?"
)
_CLOCK_TIME = re.compile(
    r"^(\d{1,2})([:.]\d\d)?\s*(?:\\(?:text|mathrm|mbox)\s*\{\s*~?)?\s*([ap])\.?\s?m\b\.?\s*\}?$",
    re.IGNORECASE,
)
_PLUS_MINUS_PAIR = re.compile(r"^\\?\(((?:[^()]|\([^()]*\))*)\)$")
_MODULO = re.compile(
    r"\\pmod\s*(?:\{([^{}]*)\}|(\w+))"
    r"|\(\s*(?:\\?b?mod|\\(?:text|mathrm|operatorname)\{\s*mod\s*\})(?![a-z])~?\s*([^()]*)\)"
)
_PERCENT_WORDS = re.compile(
    r"(?<=[\d)}\s])\s*(?:\\text\s*\{\s*)?(?:per ?cent\b|percentage points?|percent points?"
    r"|por ciento|Prozent|pour cent|por cento|个百分点|процент\w*)\s*\}?$",
    re.IGNORECASE,
)
_CHINESE_PERCENT = re.compile(
    r"^百分之(\d{1,9}(?:\.\d{1,9})?|[零一二两三四五六七八九十百点]+)$|^(\d(?:\.\d)?|[一二两三四五六七八九])成([一二三四五六七八九])?$"
    r"|^([一二三四五六七八九]|\d(?=\.?\d?折))\.?([一二三四五六七八九]|\d)?折$"
)
_COMPARISON_SIGNS = tuple(
    (re.compile(pattern), sign)
    for pattern, sign in (
        (r"不小于|不少于|不低于|大于等于|大于或等于|at least|(?:no|not) less than"
         r"|(?:greater|more) than or equal to", "\\ge"),
        (r"不大于|不多于|不超过|小于等于|小于或等于|at most|(?:no|not) (?:more|greater) than"
         r"|less than or equal to", "\\le"),
        (r"不等于|not equal to|different from", "\\ne"),
        (r"大于|(?:strictly )?(?:greater|larger|more) than", ">"),
        (r"小于|(?:strictly )?(?:less|smaller) than", "<"),
    )
)  # fmt: skip
_COMPARISON_IN_WORDS = re.compile(
    rf"^([a-zA-Z])\s*(?:\\text\s*\{{)?\s*(?:is |must be )?"
    rf"({'|'.join(pattern.pattern for pattern, _ in _COMPARISON_SIGNS)})\s*\}}?\s*([^\s，,].*)$"
)
_COUNT_IN_CHINESE = re.compile(
    r"^([一二两三四五六七八九十百千]{1,8})([个只条种人本次名张件支颗元米天年岁])$"
)
_GEOMETRIC_RELATION = re.compile(
    r"^(?:lines? |segment |直线|线段)?\s*([A-Z]{2}|[a-z])\s*(?:\\text\s*\{)?\s*"
    r"((?:is )?(?:perpendicular|parallel) to|垂直于?|平行于?)\s*\}?\s*"
    r"(?:lines? |segment |直线|线段)?([A-Z]{2}|[a-z])$"
)
_CURRENCIES = {"USD": "\\$", "EUR": "€", "GBP": "£", "CNY": "¥", "RMB": "¥"}
_CURRENCY_AMOUNT = re.compile(
    rf"^({'|'.join(_CURRENCIES)}|INR|Rs\.?|₹|\\text\{{\s*Rs\.?\s*\}})\s*(?=[\d.])(.*)$"
)
_WORD_LIST = re.compile(r"\\(?:text|mbox)\s*\{\s*(\w+(?:,\s*\w+)*),?\s+(?:and|or)\s+(\w+)\s*\}")
_ARROW_OF_LOGIC = re.compile(
    r"^((?:\\(?:neg|lnot)\s*)?[p-sP-S])\s*\\(?:to|rightarrow)(?![a-z])\s*"
    r"((?:\\(?:neg|lnot)\s*)?[p-sP-S])$"
)
"""p \\to q, which is no limit."""
_UNIT_PRODUCT = re.compile(r"\\(?:mathrm|text|rm)\s*\{([^{}]*\^(?:[^{}]|\{[^{}]*\})*)\}")
_UNIT_FACTOR = re.compile(r"([A-Za-z]+)(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?")
_SET_BUILDER = re.compile(r"(\\\{[^{}|:]*[a-zA-Z][^{}|:]*):(?=[^{}:]*(?:\\in|[<>=]|\\[lg]e|\\ne))")
_ORDINAL = re.compile(
    r"^(?:\\text\s*\{)?\s*(\d+)\s*\^?\s*\{?\s*(?:\\(?:text|mathrm)\s*\{)?\s*"
    r"(?:st|nd|rd|th)\s*\}*$"
)
_LEADING_WORDS = re.compile(
    r"^(?:(?:[^\W\d_]+\s+){1,6}(?:is|equals|is equal to|est|ist|es|è)\s+"
    r"|(?:therefore|hence|thus|so|then|finally)\b,?\s+"
    r"|(?:[一-鿿]{0,4}[a-zA-Z]的)?(?!第)[一-鿿]{1,12}(?:是|为|[:：=])\s*)(?=[-\d\\(\[]|[a-zA-Z](?:\([a-z]\))?\s*[<>=\\])",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^\\text\s*\{[^{}]*(?:\b(?:is|are)|:)\s*\}\s*(?!.*\\text\s*\{[^{}]*:)")
"""Text before a value: "The ratio is"; not one of several, which label parts."""
_TRAILING_WORDS = re.compile(
    r"^(-?[\d.,/]+)\s+(?:of (?:them|these|those)|in total|altogether|left|remaining)$"
)


def unify_notations(text: str) -> str:
    """Return the text with `_REWRITES` applied. Formula delimiters must be removed before."""
    for required, pattern, replacement in _REWRITES:
        if required in text:
            text = pattern.sub(replacement, text)
    if ")" in text and ("\\pm" in text or "\\mp" in text):
        text = _write_out_plus_minus(text)
    return text


def _write_out_sequence(match: re.Match[str]) -> str:
    """Write out an arithmetic sequence, 1, 3, \\ldots, 9; other sequences are unchanged."""
    terms = [int(term) for term in match.group(1).replace(" ", "").strip(",").split(",")]
    last = int(match.group(2))
    step = terms[-1] - terms[-2] if len(terms) > 1 else 1
    is_arithmetic = all(b - a == step for a, b in itertools.pairwise(terms))
    if step == 0 or not is_arithmetic or (last - terms[-1]) % step:
        return match.group()
    length = (last - terms[0]) // step + 1
    if not len(terms) < length <= MAX_SEQUENCE:
        return match.group()
    return ", ".join(str(terms[0] + k * step) for k in range(length))


def _degrees_as_fraction(match: re.Match[str]) -> str:
    degrees, minutes, seconds = (int(part or 0) for part in match.groups())
    value = degrees + Fraction(minutes, 60) + Fraction(seconds, 3600)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}^\\circ"


def _unify_clock_time(match: re.Match[str]) -> str:
    hour, minute, am_or_pm = match.groups()
    return f"{int(hour)}:{(minute or ':00')[1:]} {am_or_pm.upper()}M"


def _unify_modulus(match: re.Match[str]) -> str:
    modulus = next(part for part in match.groups() if part is not None)
    return f" \\pmod{{{modulus.strip()}}}"


def _unify_currency(match: re.Match[str]) -> str:
    code, amount = match.groups()
    return f"{_CURRENCIES[code]}{amount}" if code in _CURRENCIES else f"{amount} rupees"


def _digit(text: str) -> int | Fraction:
    number = number_from_words(text)
    return Fraction(text) if number is None else number


def _percent_from_words(match: re.Match[str]) -> str:
    """Write 百分之二十, 八成 and 八五折 with a percent sign."""
    of_hundred, *tens = match.groups()
    of_ten, more = tens[2:] if tens[2] else tens[:2]
    more_percent = _digit(more) if more else 0
    number = _digit(of_hundred or of_ten)
    value = number if of_hundred else 10 * number + more_percent
    return f"{float(value):g}\\%"


def _formula_of_elements(match: re.Match[str]) -> str:
    """Write H2O as H_2O. Letters without a digit are unchanged."""
    is_formula = match.start() == 0 and re.search(r"[A-Za-z]\d", match.group())
    return re.sub(r"(?<=[A-Za-z])(\d+)", r"_{\1}", match.group()) if is_formula else match.group()


def _count_to_digits(match: re.Match[str]) -> str:
    return f"{number_from_words(match.group(1))}{match.group(2)}"


def _spaced_continental(match: re.Match[str]) -> str:
    return f"{match.group(1)}{match.group(2).replace(' ', '')}.{match.group(3)}"


def _unify_comparison(match: re.Match[str]) -> str:
    name, words, bound = match.groups()
    signs = [sign for pattern, sign in _COMPARISON_SIGNS if pattern.fullmatch(words)]
    return f"{name} {signs[0]} {bound}"


def _unify_geometric_relation(match: re.Match[str]) -> str:
    first, words, second = match.groups()
    sign = "\\parallel" if re.search("paral|平行", words) else "\\perp"
    return f"{first} {sign} {second}"


def _split_word_list(match: re.Match[str]) -> str:
    words = [*re.split(r",\s*", match.group(1)), match.group(2)]
    return ", ".join(f"\\text{{{word}}}" for word in words)


def _write_out_plus_minus(text: str) -> str:
    """Write (\\pm 1, 2) as two pairs. A text with several independent signs is unchanged."""
    match = _PLUS_MINUS_PAIR.match(text)
    if match is None or "," not in text or text.count("\\pm") > 1:
        return text
    signs = (("", "-"), ("-", ""))
    return ", ".join(re.sub(r"\\pm\s*", p, re.sub(r"\\mp\s*", m, text)) for p, m in signs)


def _split_unit_product(match: re.Match[str]) -> str:
    """Put each factor of \\mathrm{m\\,s^{-2}} in its own \\text{…}."""
    parts = re.split(r"\\[,;: ]|\\cdot|~|\s+", match.group(1).strip())
    factors = [_UNIT_FACTOR.fullmatch(part) for part in parts if part]
    if not all(factors):
        return match.group()
    units = [factor.groups() for factor in factors if factor]
    return "\\cdot".join(f"\\text{{{n}}}" + (f"^{{{p}}}" if p else "") for n, p in units)


def _number_word_to_digits(match: re.Match[str]) -> str:
    """Write "six students" as "6 students"; "two thirds" is a number as a whole."""
    number = number_from_words(match.group(1))
    if number is None or number_from_words(match.group()) is not None:
        return match.group()
    return f"{number} {match.group(2)}"


_Rewrite = tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]
_REWRITES: tuple[_Rewrite, ...] = (
    ("dot", re.compile(r"\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?"), r"\\overline{\1\2\3}"),
    ("(", re.compile(r"^(-?\d*\.\d*)\((\d{1,9})\)$"), r"\1\\overline{\2}"),
    ("x", re.compile(r"(?<=\d)\s*x\s*(?=10\s*\^)"), r"\\times "),
    ("_", re.compile(r"^__([^_]+)__$"), r"\1"),
    ("_", re.compile(r"^\(([\dA-F]+)\)\s*(?=_)"), r"\1"),
    ("`", re.compile(r"^`+([^`]+)`+$"), r"\1"),
    ("+/-", re.compile(r"\+/-"), r"\\pm "),
    ("+-", re.compile(r"(^|=)\s*\+-\s*(?=[\d\\a-z])"), r"\1\\pm "),
    ("\\degree", re.compile(r"(?:\^\s*\{?\s*)?\\degree(?![a-z])\s*\}?"), r"^\\circ "),
    ("\\over", re.compile(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}"), r"\\frac{\1}{\2}"),
    ("\\choose", re.compile(r"\{([^{}]*)\\choose(?![a-z])([^{}]*)\}"), r"\\binom{\1}{\2}"),
    ("", _PERCENT_WORDS, r"\\%"),
    ("", _CHINESE_PERCENT, _percent_from_words),
    ("", re.compile(r"\bpounds sterling\b"), "GBP"),
    ("root of", re.compile(r"^(?:the )?square root of (\d+|[a-z])$"), r"\\sqrt{\1}"),
    ("root of", re.compile(r"^(?:the )?cube root of (\d+|[a-z])$"), r"\\sqrt[3]{\1}"),
    ("比", re.compile(r"^(\d+)\s*比\s*(\d+)$"), r"\1:\2"),
    ("0b", re.compile(r"^0b([01]+)$"), r"\1_2"),
    ("0x", re.compile(r"^0x([\dA-F]+)$"), r"\1_{16}"),
    ("\\mapsto", re.compile(r"^(?:f\s*:\s*)?([a-z])\s*\\mapsto\s*"), r"f(\1)="),
    ("约", re.compile(r"^大?约(?:为|等于)?\s*(?=[-\d\\])"), ""),
    ("", re.compile(r"(?<![a-zA-Z])((?:[A-Z][a-z]?\d*)+)$"), _formula_of_elements),
    ("根号", re.compile(r"根号\s*(\d+|[a-z])"), r"\\sqrt{\1}"),
    (" and ", re.compile(r"^(\d+) and (\d+)/(\d+)$"), r"\1\\frac{\2}{\3}"),
    (" ", re.compile(r"^(-?\d{1,3})((?: \d{3})+),(\d+)$"), _spaced_continental),
    ("Celsius", re.compile(r"\bdegrees? Celsius"), r"^\\circ C"),
    ("Fahrenheit", re.compile(r"\bdegrees? Fahrenheit"), r"^\\circ F"),
    ("摄氏度", re.compile("摄氏度"), r"^\\circ C"),
    ("人民币", re.compile("^人民币"), ""),
    ("dollars", re.compile(r"\b(?:US|U\.S\.) dollars"), "dollars"),
    ("OR", re.compile(r"(?<=[\w})\]])\s*\bOR\b\s*(?=[\\\d(a-z])|(?<=[})])OR(?=\\)"), " or "),
    ("", _COMPARISON_IN_WORDS, _unify_comparison),
    ("", _GEOMETRIC_RELATION, _unify_geometric_relation),
    ("", re.compile(r"^(?:\\text\s*\{\s*)?(?:线段|直线|segment|line)\s*\}?\s*(?=[A-Z]{2}$)"), ""),
    ("//", re.compile(r"(?<=[A-Z]{2})\s*//\s*(?=[A-Z]{2})"), r" \\parallel "),
    ("", _CURRENCY_AMOUNT, _unify_currency),
    ("\\circ", _DEGREES_AND_MINUTES, _degrees_as_fraction),
    ("sqrt", re.compile(r"(?<![\\a-zA-Z])sqrt\s*(\d+(?:\.\d+)?)"), r"\\sqrt{\1}"),
    ("cbrt", re.compile(r"\\?\bcbrt\s*\(([^()]*)\)"), r"\\sqrt[3]{\1}"),
    ("=>", re.compile(r"^([a-zA-Z])\s*=>\s*"), r"\1 \\ge "),
    ("=<", re.compile(r"=<"), r"\\le "),
    ("\\not", re.compile(r"\\not\s*="), r"\\ne "),
    ("j", re.compile(r"^(-?[\d.]+\s*[-+]\s*[\d.]*)j$"), r"\1i"),
    ("\\", _ARROW_OF_LOGIC, r"\1\\implies \2"),
    ("mod", _MODULO, _unify_modulus),
    ("\\equiv", re.compile(r"(?<![\\a-z])(?:\\b?mod|mod)\s*\{?(\w+)\}?$"), r"\\pmod{\1}"),
    ("m", _CLOCK_TIME, _unify_clock_time),
    ("M", _CLOCK_TIME, _unify_clock_time),
    ("to", re.compile(r"^(\d+)\s*(?:\\text\s*\{\s*to\s*\}|to)\s*(\d+)$"), r"\1:\2"),
    ("out of", re.compile(r"^(\d+)\s*(?:\\text\s*\{\s*out of\s*\}|out of)\s*(\d+)$"), r"\1/\2"),
    ("U", re.compile(r"(?<=[\])}])\s*U\s*(?=[(\[{\\])"), r" \\cup "),
    (".", re.compile(r"^(-?[1-9]\d{0,2})\.(\d{3})\.(\d{3})(?:\.(\d{3}))?$"), r"\1\2\3\4"),
    (",", _SEQUENCE, _write_out_sequence),
    ("text", _WORD_LIST, _split_word_list),
    ("^", _UNIT_PRODUCT, _split_unit_product),
    ("", re.compile(r"^([a-z]+) ([a-z]{3,})$"), _number_word_to_digits),
    (":", _SET_BUILDER, r"\1|"),
    ("quad", re.compile(r"(?<![,;\s}])\s*\\q?quad\s*(?=[a-zA-Z](?:_\{?\w+\}?)?\s*=)"), ", "),
    ("", _COUNT_IN_CHINESE, _count_to_digits),
    ("第", re.compile(r"^第(\d+)[一-鿿]{0,2}$"), r"\1"),
    ("", _ORDINAL, r"\1"),
    ("</think>", re.compile(r"^.*</think>\s*", re.DOTALL), ""),
    ("\\", re.compile(r"^\\(?:implies|iff|therefore|to)(?![a-z])\s*"), ""),
    ("=", re.compile(r"^(?:[A-Za-z]{2,},? ){1,6}(?=[-\d(][-\d\s+*/.()]*=)"), ""),
    (". ", re.compile(r"^.*\.\s+(?:so|thus|hence|therefore),?\s+(?=[-\d\\(])", re.I | re.S), ""),
    ("", _LEADING_WORDS, ""),
    ("text", _LABEL, ""),
    ("", _TRAILING_WORDS, r"\1"),
    ("~", re.compile("~"), " "),
)  # fmt: skip
"""(required substring, pattern, replacement), applied in order."""
