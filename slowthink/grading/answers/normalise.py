r"""One spelling for what is written in many ways: delimiters, spacing, Unicode, relations, text.

One real record: `clean("$\left( 3,\, \dfrac{π}{2} \right)$.")` is `( 3, \frac{\pi}{2} )`.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from slowthink.grading.answers.latex import FUNCTIONS
from slowthink.grading.answers.notations import respelled

_UNICODE = {
    "π": "\\pi ",
    "∞": "\\infty ",
    "√": " sqrt",
    "∛": " \\sqrt[3]",
    "×": "\\times ",
    "÷": "/",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "−": "-",
    "–": "-",
    "—": "-",
    "≤": "\\le ",
    "≥": "\\ge ",
    "≠": "\\ne ",
    "⩽": "\\le ",
    "⩾": "\\ge ",
    "≈": "=",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "±": "\\pm ",
    "∓": "\\mp ",
    "°": "^\\circ ",
    "º": "^\\circ ",
    "²": "^{2}",
    "³": "^{3}",
    "⁴": "^{4}",
    "¹": "^{1}",
    "½": "\\frac{1}{2}",
    "⅓": "\\frac{1}{3}",
    "⅔": "\\frac{2}{3}",
    "¼": "\\frac{1}{4}",
    "¾": "\\frac{3}{4}",
    "∅": "\\emptyset ",
    "ℝ": "\\mathbb{R}",
    "、": ",",
    "。": ".",
    "“": '"',
    "”": '"',
    "「": '"',
    "」": '"',
    "’": "'",
    "′": "'",
    "【": "[",
    "】": "]",
    "∠": "\\angle ",
    "△": "\\triangle ",
    "⟨": "(",
    "⟩": ")",
    "〈": "(",
    "〉": ")",
    "∶": ":",
    "⁻": "^-",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    "…": "\\ldots ",
}
_GREEK = "αalpha βbeta γgamma δdelta εepsilon θtheta λlambda μmu νnu ρrho σsigma τtau φphi ωomega"
_UNICODE |= {word[0]: f"\\{word[1:]} " for word in _GREEK.split()}
_UNICODE_TABLE = str.maketrans(_UNICODE)

_COMMANDS = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "nicefrac": "frac",
    "sfrac": "frac",
    "surd": "sqrt",
    "dbinom": "binom",
    "tbinom": "binom",
    "leq": "le",
    "leqslant": "le",
    "geq": "ge",
    "geqslant": "ge",
    "neq": "ne",
    "varnothing": "emptyset",
    "degree": "circ",
    "infin": "infty",
    "imath": "i",
    "colon": ":",
    "mid": "|",
    "lbrace": "{",
    "rbrace": "}",
    "varepsilon": "epsilon",
    "varphi": "phi",
    "vartheta": "theta",
    "dots": "ldots",
    "cdots": "ldots",
    "tan": "tan",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "setminus": "backslash",
}
_REPLACED = {
    "lt": "<",
    "gt": ">",
    "approx": "=",
    "simeq": "=",
    "thickapprox": "=",
    "langle": "(",
    "rangle": ")",
    "lbrack": "[",
    "rbrack": "]",
    "quad": " ",
    "qquad": " ",
    "displaystyle": " ",
    "textstyle": " ",
    "limits": "",
    "left": "",
    "right": "",
    "big": "",
    "Big": "",
    "bigg": "",
    "Bigg": "",
    "bigl": "",
    "bigr": "",
    "Bigl": "",
    "Bigr": "",
    "biggl": "",
    "biggr": "",
    "space": " ",
    "enspace": " ",
    "thinspace": " ",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "lparen": "(",
    "rparen": ")",
    "dollar": "\\$",
    "percent": "\\%",
    "land": " and ",
    "lor": " or ",
    "wedge": " and ",
    "vee": " or ",
    "iff": "=",
    "implies": "=",
    "Rightarrow": "=",
    "nonumber": "",
    "hfill": "",
    "mathstrut": "",
    "rm": "",
    "bf": "",
    "it": "",
}
_COMMAND = re.compile(r"\\([a-zA-Z]+)(\s*)")
_FONT = re.compile(
    r"\\(?:mathbf|mathit|boldsymbol|bm|mathcal|mathscr|mathsf|mathtt|overline|underline|vec|hat|bar"
    r"|overrightarrow|displaystyle|mathrm|operatorname|operatorname\*)(?![a-zA-Z])\s*(?:\{([^{}]*)\}|([a-zA-Z0-9]))"
)
_TEXT = re.compile(
    r"\\(?:text|textbf|textrm|textit|textnormal|textsf|mbox|hbox|mathrm|operatorname|rm|texttt)\s*\{([^{}]*)\}"
)
_SPACES = re.compile(
    r"(?<!\\)\\[,;: ]|~|&nbsp;|\\hspace\*?\{[^{}]*\}|\\[hv]?phantom\{[^{}]*\}|\\label\{[^{}]*\}"
)
_REPEATING = re.compile(
    r"(\d{1,20})\.(\d{0,20})(?:\\(?:overline|bar)\s*\{(\d{1,20})\}|\\dot\s*\{?(\d)\}?)"
)
_BROKEN = {"\x0c": "\\f", "\x08": "\\b", "\x07": "\\a", "\x0b": "\\v"}
_QUOTED = re.compile('"([^"]*)"')
_ENDLESS = re.compile(
    r"(?<![\d.])(\d{1,20})\.(\d{0,20}?)(\d{1,6}?)\3{2,}\d{0,6}\s*(?:\\ldots(?![a-z])|\.{3,})"
)
_BRACKETED = re.compile(r"([\[\]])([^\[\]]*)([\[\]])")
_ENDS = re.compile(r"[^,;]*[^,;\s][^,;]*[,;][^,;]*[^,;\s][^,;]*")
_REALS_LESS = re.compile(r"(\\mathbb\s*\{?R\}?)\s*[-/]\s*(?=\\\{)")
_PYTHON = re.compile(r"\bsqrt\s*\(|\*\*")


@functools.lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """The text in one spelling; words in roman type come as \\text{…}."""
    text = _characters(text.strip())
    text = respelled(_delimiters(text).strip())
    if "\\" in text:
        text = _commands(text)
    text = (
        text.replace("!=", "\\ne ").replace(">=", "\\ge ").replace("<=", "\\le ").replace("==", "=")
    )
    text = re.sub(r"\*\*(?=\s*[\w({])", "^", text) if "**" in text else text
    text = _ENDLESS.sub(_repeating, text) if "..." in text or "\\ldots" in text else text
    text = _REALS_LESS.sub(r"\1\\backslash ", text) if "\\mathbb" in text else text
    text = _outward(text) if "]" in text or "[" in text else text
    text = re.sub(r"\.{3,}(?=\s*[,;+*\-])", r"\\ldots ", text) if "..." in text else text
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"(?:(?<!\\)[.,;:\s]|\\+)+$", "", text).strip()


def squeezed(text: str) -> str:
    """A cleaned text without any space but those that end a command."""
    text = re.sub(r"(?<=\d)\s+(?=\d)", "§", text)
    return re.sub(r"\s+", "", re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", "\\1§", text))


def _outward(text: str) -> str:
    """Brackets that open outwards, ]1, 2] and [1, 2[, as the round ones that they stand for."""
    pairs = _BRACKETED.findall(text)
    inverted = [pair for pair in pairs if pair[0] == "]" or pair[2] == "["]
    if not inverted or not all(_ENDS.fullmatch(inner) for _, inner, _ in pairs):
        return text
    return _BRACKETED.sub(
        lambda m: (
            f"{'(' if m.group(1) == ']' else '['}{m.group(2)}{')' if m.group(3) == '[' else ']'}"
        ),
        text,
    )


def plain_digits(text: str) -> str:
    """The text with the decimal digits of all scripts as 0 to 9."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def _characters(text: str) -> str:
    """Unicode, broken escapes and markdown."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_UNICODE_TABLE))
        text = plain_digits(text.translate(_UNICODE_TABLE))
    text = _QUOTED.sub(r"\1", text) if '"' in text else text
    if not text.isprintable():
        text = "".join(_BROKEN.get(c, c if c.isprintable() else " ") for c in _tabs(text))
    if "\\\\" in text and "\\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z({\[)}\]])", r"\\", text)
    return re.sub(r"^\*\*(.*)\*\*$", r"\1", text, flags=re.DOTALL)


def _tabs(text: str) -> str:
    return re.sub(r"\t(?=ext|frac|imes|heta|an\b|o\b)", r"\\t", text)


def _delimiters(text: str) -> str:
    """Without formula signs, and with one form of thousands marks."""
    text = text.replace("\\$", "§D§") if "\\$" in text else text
    text = re.sub(r"(?<!\\)\\[()\[\]](?!\d*\.?\d*(?:pt|em|ex|mm)\])", " ", text.replace("$", " "))
    text = re.sub(r"\\!\s*", "", text).replace("{,}", ",")
    text = re.sub(r"(?<=\d)\\[,;:](?=\d{3}(?!\d))", "", text)
    return text.replace("§D§", "\\$")


def _commands(text: str) -> str:
    """One name for each command, text and fonts taken apart."""
    text = _SPACES.sub(" ", text)
    text = _REPEATING.sub(_repeating, text)
    text = _TEXT.sub(_as_text, text)
    for _ in range(3):
        changed = _FONT.sub(lambda m: m.group(1) or m.group(2) or "", text)
        if changed == text:
            break
        text = changed
    text = _COMMAND.sub(_command, text)
    text = re.sub(r"(?<![\\a-zA-Z])\.(?=\s*\\begin)|(?<=\})\s*\.$", "", text)
    return text


def _repeating(match: re.Match[str]) -> str:
    """0.1\\overline{6} as the fraction it is."""
    whole, fixed, period = match.group(1), match.group(2), match.group(3) or match.group(4)
    scale = 10 ** len(fixed)
    nines = scale * (10 ** len(period) - 1)
    value = int(whole + fixed + period) - int(whole + fixed)
    return f"\\frac{{{value}}}{{{nines}}}"


def _command(match: re.Match[str]) -> str:
    name, space = match.groups()
    if name in _REPLACED:
        return _REPLACED[name] + (space if _REPLACED[name] in ("", " ") else "")
    new = _COMMANDS.get(name, name)
    return f"\\{new}{space}" if new.isalpha() else (f"\\{new}" if new in "{}" else new)


def _as_text(match: re.Match[str]) -> str:
    """Roman words: connectives become plain, single letters stay symbols, the rest is text."""
    inner = match.group(1)
    bare = inner.strip()
    if not bare:
        return " "
    if bare.lower() in ("and", "or", ",", ", and", "and,"):
        return f" {bare.lower()} "
    is_roman = match.group().startswith(("\\mathrm", "\\rm", "\\operatorname"))
    if is_roman and bare in FUNCTIONS:
        return f"\\{bare} "
    if bare in ("e", "i", "d", "E", "P", "I", "A", "B", "C", "D", "R") and is_roman:
        return bare
    if not re.search(r"[A-Za-z一-鿿%]", bare):
        return inner
    return "\\text{" + inner + "}"
