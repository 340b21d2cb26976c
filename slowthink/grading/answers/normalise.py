r"""Normalisation before parsing: uniform delimiters, spaces, characters and TeX commands.

Example: `normalise("$\left( 3,\, \dfrac{π}{2} \right)$.")` is `( 3, \frac{\pi}{2} )`.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from slowthink.grading.answers.latex import FUNCTIONS
from slowthink.grading.answers.notations import unify_notations

_CHARACTERS = {
    "π": "\\pi ", "∞": "\\infty ", "√": " sqrt", "∛": " \\sqrt[3]", "×": "\\times ", "÷": "/",
    "·": "\\cdot ", "⋅": "\\cdot ", "−": "-", "–": "-", "—": "-", "≤": "\\le ", "≥": "\\ge ",
    "≠": "\\ne ", "⩽": "\\le ", "⩾": "\\ge ", "≈": "=", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ",
    "±": "\\pm ", "∓": "\\mp ", "°": "^\\circ ", "º": "^\\circ ", "²": "^{2}", "³": "^{3}",
    "⁴": "^{4}", "¹": "^{1}", "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}",
    "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "∅": "\\emptyset ", "ℝ": "\\mathbb{R}", "、": ",",
    "。": ".", "“": '"', "”": '"', "「": '"', "」": '"', "’": "'", "′": "'", "【": "[", "】": "]",
    "∠": "\\angle ", "△": "\\triangle ", "⟨": "(", "⟩": ")", "〈": "(", "〉": ")", "∶": ":",
    "⁻": "^-", "∧": "\\land ", "∨": "\\lor ", "¬": "\\neg ", "⇒": "\\implies ", "⟹": "\\implies ",
    "⇐": "\\impliedby ", "⇔": "\\iff ", "⟺": "\\iff ", "↔": "\\iff ", "→": "\\to ",
    "∀": "\\forall ", "∃": "\\exists ", "⊥": "\\perp ", "∥": "\\parallel ", "≅": "\\cong ",
    "∽": "\\sim ", "⊆": "\\subseteq ", "⊂": "\\subset ", "⊇": "\\supseteq ", "⊃": "\\supset ",
    "∉": "\\notin ", "≡": "\\equiv ", "≢": "\\not\\equiv ", "∖": "\\backslash ", "⋯": "\\ldots ",
    "∁": "\\complement ", "٫": ".", "٬": ",", "٪": "%", "…": "\\ldots ",
}  # fmt: skip
_GREEK = "αalpha βbeta γgamma δdelta εepsilon θtheta λlambda μmu νnu ρrho σsigma τtau φphi ωomega"
_CHARACTERS |= {word[0]: f"\\{word[1:]} " for word in _GREEK.split()}
_CHARACTERS |= {chr(ord("①") + i): f" ({i + 1}) " for i in range(20)}
_UNICODE_TABLE = str.maketrans(_CHARACTERS)

_COMMAND_SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "nicefrac": "frac", "sfrac": "frac",
    "surd": "sqrt", "dbinom": "binom", "tbinom": "binom", "leq": "le", "leqslant": "le",
    "geq": "ge", "geqslant": "ge", "neq": "ne", "varnothing": "emptyset", "degree": "circ",
    "infin": "infty", "imath": "i", "colon": ":", "mid": "|", "lbrace": "{", "rbrace": "}",
    "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "dots": "ldots",
    "cdots": "ldots", "tg": "tan", "ctg": "cot", "arctg": "arctan", "setminus": "backslash",
    "smallsetminus": "backslash", "wedge": "land", "vee": "lor", "lnot": "neg",
    "Rightarrow": "implies", "Longrightarrow": "implies", "Leftarrow": "impliedby",
    "Longleftarrow": "impliedby", "Leftrightarrow": "iff", "Longleftrightarrow": "iff",
    "leftrightarrow": "iff", "rightarrow": "to", "longrightarrow": "to",
}  # fmt: skip
"""Commands with a command, or a character, of the same meaning."""
_REPLACED_COMMANDS = {
    "lt": "<", "gt": ">", "approx": "=", "simeq": "=", "thickapprox": "=", "langle": "(",
    "rangle": ")", "lbrack": "[", "rbrack": "]", "quad": " ", "qquad": " ", "displaystyle": " ",
    "textstyle": " ", "limits": "", "left": "", "right": "", "big": "", "Big": "", "bigg": "",
    "Bigg": "", "bigl": "", "bigr": "", "Bigl": "", "Bigr": "", "biggl": "", "biggr": "",
    "space": " ", "enspace": " ", "thinspace": " ", "lvert": "|", "rvert": "|", "vert": "|",
    "lparen": "(", "rparen": ")", "dollar": "\\$", "percent": "\\%", "nonumber": "",
    "hfill": "", "mathstrut": "", "rm": "", "bf": "", "it": "",
}  # fmt: skip
"""Commands with the text that replaces them."""
_COMMAND = re.compile(r"\\([a-zA-Z]+)(\s*)")
_FONT_COMMANDS = (
    "mathbf|mathit|boldsymbol|bm|mathcal|mathscr|mathsf|mathtt|overline|underline|vec|hat|bar"
    r"|overrightarrow|displaystyle|mathrm|operatorname|operatorname\*"
)
_FONT = re.compile(rf"\\({_FONT_COMMANDS})(?![a-zA-Z])\s*(?:\{{([^{{}}]*)\}}|([a-zA-Z0-9]))")
_TEXT_COMMANDS = (
    "text|textbf|textrm|textit|textnormal|textsf|mbox|hbox|mathrm|operatorname|rm|texttt"
)
_TEXT_COMMAND = re.compile(rf"\\(?:{_TEXT_COMMANDS})\s*\{{([^{{}}]*)\}}")
_UNCLOSED_WORDS = re.compile(r"\\text\s*\{[^{}]*$")
_SPACING = re.compile(
    r"(?<!\\)\\[,;: ]|~|&nbsp;|\\hspace\*?\{[^{}]*\}|\\[hv]?phantom\{[^{}]*\}|\\label\{[^{}]*\}"
)
_OVERLINED_DECIMAL = re.compile(
    r"(\d{1,20})\.(\d{0,20})(?:\\(?:overline|bar)\s*\{(\d{1,20})\}|\\dot\s*\{?(\d)\}?)"
)
_DOTTED_DECIMAL = re.compile(
    r"(?<![\d.])(\d{1,20})\.(\d{0,20}?)(\d{1,6}?)\3{2,}\d{0,6}\s*(?:\\ldots(?![a-z])|\.{3,})"
)
_CONNECTIVES = frozenset((
    "and", "or", ",", ", and", "and,", ", or", "或", "或者", "且", "并且", "和", "与", "及", "以及",
    "und", "oder", "et", "ou",
))  # fmt: skip
_BROKEN_ESCAPES = {"\x0c": "\\f", "\x08": "\\b", "\x07": "\\a", "\x0b": "\\v"}
_CHINESE_MINUS = re.compile(
    r"(正)?(?<!非)负\s?(?=\$?(?:\d[\d.,]*(?![\d.,万亿千百])|\\(?:frac|dfrac|sqrt|pi)|√|π))"
)
_DOTS = re.compile(r"\.{3,}(?=\s*[,;:+*\-)\]\\])|(?<=[,:+])\s*\.{3,}$")
_MONEY = re.compile(r"\\\$|(?<=R)\$|^\$(?=\s?[\d.,]+$)|(?<=\d) ?\$$")
"""A dollar sign that stands for money, not for a formula."""
_SUBSCRIPTS = re.compile("[₀-₉]+")
_SUPERSCRIPTS = re.compile("[⁻⁰¹²³⁴-⁹]{2,}")
_QUOTED_TEXT = re.compile('"([^"]*)"')
_SQUARE_BRACKETS = re.compile(r"([\[\]])([^\[\]]*)([\[\]])")
_TWO_BOUNDS = re.compile(r"[^,;]*[^,;\s][^,;]*[,;][^,;]*[^,;\s][^,;]*")
_REALS_WITHOUT = re.compile(r"(\\mathbb\s*\{?R\}?)\s*[-/]\s*(?=\\\{)")


@functools.lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """Return the text in the uniform notation that is parsed. Words stay inside \\text{…}."""
    text = _unify_characters(text.strip())
    text = unify_notations(_remove_delimiters(text).strip())
    if "\\" in text:
        text = _unify_commands(text)
    for plain, new in (("!=", "\\ne "), (">=", "\\ge "), ("<=", "\\le "), ("==", "=")):
        text = text.replace(plain, new)
    text = re.sub(r"\*\*(?=\s*[\w({])", "^", text) if "**" in text else text
    if "..." in text or "\\ldots" in text:
        text = _DOTTED_DECIMAL.sub(_repeating_decimal, text)
    text = _REALS_WITHOUT.sub(r"\1\\backslash ", text) if "\\mathbb" in text else text
    text = _replace_reversed_brackets(text) if "]" in text or "[" in text else text
    text = _DOTS.sub(r"\\ldots ", text) if "..." in text else text
    if "\\equiv" in text and "mod" not in text:
        text = text.replace("\\equiv", "=")
    if text[-1:] in (")", "]") and not any(bracket in text for bracket in "([{"):
        text = text[:-1]  # the end of brackets that began before the answer
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"(?:(?<!\\)[.,;:\s]|\\+)+$", "", text).strip()


def without_spaces(text: str) -> str:
    """Return a normalised text without spaces, except those that end a command or a number."""
    text = re.sub(r"(?<=\d)\s+(?=\d)", "§", text)
    return re.sub(r"\s+", "", re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", "\\1§", text))


def _replace_reversed_brackets(text: str) -> str:
    """Replace the reversed brackets of ]1, 2] and [1, 2[ by round ones."""
    pairs = _SQUARE_BRACKETS.findall(text)
    has_reversed = any(opening == "]" or closing == "[" for opening, _, closing in pairs)
    if not has_reversed or not all(_TWO_BOUNDS.fullmatch(inner) for _, inner, _ in pairs):
        return text
    opening, closing = {"]": "("}, {"[": ")"}
    return _SQUARE_BRACKETS.sub(
        lambda m: opening.get(m[1], m[1]) + m[2] + closing.get(m[3], m[3]), text
    )


def _unify_characters(text: str) -> str:
    """Replace Unicode (also digits of other scripts), broken escapes and Markdown by plain text."""
    if not text.isascii():
        text = _CHINESE_MINUS.sub(lambda match: "±" if match.group(1) else "-", text)
        text = _SUPERSCRIPTS.sub(_exponent, text.rstrip("！"))
        text = _SUBSCRIPTS.sub(lambda match: f"_{{{match.group()}}}", text)
        text = unicodedata.normalize("NFKC", text.translate(_UNICODE_TABLE))
        text = text.translate(_UNICODE_TABLE)
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    text = _QUOTED_TEXT.sub(r"\1", text) if '"' in text else text
    if not text.isprintable():
        text = re.sub(r"\t(?=ext|frac|imes|heta|an\b|o\b)", r"\\t", text)
        text = "".join(_BROKEN_ESCAPES.get(c, c if c.isprintable() else " ") for c in text)
    if "\\\\begin" in text:
        text = text.replace("\\\\", "\\")
    elif "\\\\" in text and "\\begin" not in text:
        text = re.sub(r"\\{2,}(?=[a-zA-Z({\[)}\]])", r"\\", text)
    return re.sub(r"^\*\*(.*)\*\*$|^(.*[^*])\*\*$", r"\1\2", text, flags=re.DOTALL)


def _exponent(match: re.Match[str]) -> str:
    """Write a run of superscript digits as one exponent."""
    return f"^{{{unicodedata.normalize('NFKC', match.group()).replace('−', '-')}}}"


def _remove_delimiters(text: str) -> str:
    """Remove formula delimiters and unify thousands separators."""
    is_lone = text.count("$") == 1
    text = _MONEY.sub("§D§", text) if is_lone else text.replace("\\$", "§D§")
    text = re.sub(r"(?<!\\)\\[()\[\]](?!\d*\.?\d*(?:pt|em|ex|mm)\])", " ", text.replace("$", " "))
    text = re.sub(r"(?<!text)\{,\}", ",", re.sub(r"\\!\s*", "", text))
    text = re.sub(r"(?<=\d)(?:\\[,;:]|'(?=\d{3}\b))(?=\d{3}(?!\d))", "", text)
    return text.replace("§D§", "\\$")


def _unify_commands(text: str) -> str:
    """Replace commands by their synonyms, mark words as \\text{…} and remove fonts."""
    text = _SPACING.sub(" ", text)
    text = _OVERLINED_DECIMAL.sub(_repeating_decimal, text)
    text = _TEXT_COMMAND.sub(_mark_words, _UNCLOSED_WORDS.sub(r"\g<0>}", text))
    for _ in range(3):  # fonts nest
        text = _FONT.sub(_without_font, text)
    text = _COMMAND.sub(_unified_command, text)
    return re.sub(r"(?<![\\a-zA-Z])\.(?=\s*\\begin)|(?<=\})\s*\.$", "", text)


def _without_font(match: re.Match[str]) -> str:
    """Return a letter or a group without its font. A bar over one letter, and an arrow over two
    points, are kept: they name something else."""
    command, group, letter = match.groups()
    inner = group if group is not None else letter or ""
    following, before = match.string[match.end() : match.end() + 1], match.string[: match.start()]
    if (
        command in ("overline", "bar")
        and re.fullmatch(r"\s*[a-zA-Z]\s*", inner)
        and following != "_"
    ):
        inner = f"{inner.strip()}_{{bar}}"
    elif command in ("overline", "bar") and re.search(r"[-+*/=]|\\(?:cap|cup|land|lor)", inner):
        inner = f"({inner})_{{bar}}"
    elif command == "hat" and re.fullmatch(r"\s*[a-hl-wA-Z]\s*", inner) and following != "_":
        inner = f"{inner.strip()}_{{hat}}"
    elif command in ("vec", "overrightarrow") and re.fullmatch(r"\s*[A-Z]\s*[A-Z]\s*", inner):
        return f"\\vec{{{inner.replace(' ', '')}}}"
    return f" {inner}" if before[-1:].isalpha() and inner[:1].isalpha() else inner


def _repeating_decimal(match: re.Match[str]) -> str:
    """Write a repeating decimal, 0.1\\overline{6} or 0.1666..., as a fraction."""
    start, repeated = match.group(1) + match.group(2), match.group(3) or match.group(4)
    numerator = int(start + repeated) - int(start)
    denominator = 10 ** len(match.group(2)) * (10 ** len(repeated) - 1)
    return f"\\frac{{{numerator}}}{{{denominator}}}"


def _unified_command(match: re.Match[str]) -> str:
    name, space = match.groups()
    if (replacement := _REPLACED_COMMANDS.get(name)) is not None:
        return replacement + (space if replacement in ("", " ") else "")
    synonym = _COMMAND_SYNONYMS.get(name, name)
    if synonym.isalpha():
        return f"\\{synonym}{space}"
    return f"\\{synonym}" if synonym in "{}" else synonym


def _mark_words(match: re.Match[str]) -> str:
    """Mark roman words as \\text{…}, except connectives, functions and symbols."""
    inner = match.group(1)
    bare = inner.strip()
    if not bare:
        return " "
    if bare.lower() in _CONNECTIVES:
        return f" {bare.lower()} "
    is_roman = match.group().startswith(("\\mathrm", "\\rm", "\\operatorname"))
    if is_roman and bare in FUNCTIONS:
        return f"\\{bare} "
    if bare in ("e", "i", "d", "E", "P", "I", "A", "B", "C", "D", "R") and is_roman:
        return bare
    if not re.search(r"[A-Za-z一-鿿%]", bare):
        return inner
    return f"\\text{{{inner}}}"
