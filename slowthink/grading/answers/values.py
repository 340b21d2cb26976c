r"""What kind of thing an answer is: number, list, tuple, set, interval, matrix, relation, words.

One real record: `parse_value(r"[-1, \frac{1}{2})")` is a ValueList of two expressions in "[)".
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from fractions import Fraction

from slowthink.grading.answers import latex, numeric
from slowthink.grading.answers.latex import LimitExceeded, Node, ParseError
from slowthink.grading.answers.units import Unit, split_unit, unit_by_name
from slowthink.grading.answers.words import number_from_words, word_key

MAX_ITEMS = 400


@dataclass(frozen=True, slots=True)
class Expression:
    """One number or term, with its unit if it has one."""

    node: Node
    text: str
    unit: Unit | None = None

    @property
    def symbols(self) -> frozenset[str]:
        """Names of its free symbols."""
        return latex.symbols(self.node)


@dataclass(frozen=True, slots=True)
class WordAnswer:
    """An answer in words, by its key."""

    key: str


@dataclass(frozen=True, slots=True)
class ValueList:
    """Several values; brackets "" (a bare list), "()", "[]", "[)", "(]", "{}" or ":" (a ratio)."""

    brackets: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as -2 < x \\le 7, as texts."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetUnion:
    """A union of sets, or with `minus` what is left of the first without the others."""

    items: tuple[Value, ...]
    minus: bool = False


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class NumberInBase:
    """Digits in a stated base."""

    digits: str
    base: int

    @property
    def value(self) -> Fraction | None:
        """The number; None where a digit does not belong to the base."""
        try:
            return Fraction(int(self.digits, self.base))
        except ValueError:
            return None


Value = Expression | WordAnswer | ValueList | Relation | SetUnion | Matrix | NumberInBase

EVERYTHING = ValueList(
    "()", (Expression(Node("neg", (Node("inf"),)), "-\\infty"), Expression(Node("inf"), "\\infty"))
)
_BRACKET = re.compile(r"\\[{}]|\\begin|\\end(?![a-zA-Z])|[()\[\]{}]")
_OPENING = frozenset(("(", "[", "{", "\\{", "\\begin"))
_SIGN = re.compile(r"\\(?:le|ge|ne|in)(?![a-zA-Z])|[<>=]")
_ENVIRONMENT = re.compile(
    r"^(?:[\[(|]|\\\{)?\s*\\begin\{([pbvB]?matrix|smallmatrix|array|cases|aligned|align\*?)\}"
    r"(?:\{[lcr| ]*\})?(.*)"
    r"\\end\{\1\}\s*[\])|]?$",
    re.DOTALL,
)
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])")
_SPACED = re.compile(r"^-?\d{1,3}(?: \d{3})+(?:\.\d+)?$")
_MIXED = re.compile(r"(?<![\w.}])(\d+) +(\d+)/(\d+)(?!\w)")
_BASED = re.compile(
    r"^(\d[\dA-F]*|[\dA-F]{2,}(?=\s*_\s*\{?\s*16))\s*_\s*\{?\s*(?:\\text\{)?\s*(\d{1,2}|two|eight|ten)\s*\}*$"
)
_BASES = {"two": 2, "eight": 8, "ten": 10}
_PREFIX = re.compile(
    r"^(?:[A-Za-z]{2,} ){0,6}(?:[A-Za-z]{3,}\s*:|(?:is|are|be|about|approximately|roughly|around"
    r"|just|exactly|only))\s+(?=[\\$\d(\[{-])"
)
_DECLARED = re.compile(
    r"(?<=\S)\s*,?\s*\b(?:for|where)\s+(?:some|any|all|every|each)?\s*"
    r"(?:(?:real|positive|integer|fixed|arbitrary|constant|number|natural|values? of)s?\s+)*[a-z]"
    r"(?:\s+is (?:an? )?(?:arbitrary )?(?:real|integer|constant)(?: constant| number)?"
    r"|\s*\\in\s*\\mathbb\s*\{?[RZNQ]\}?)?$"
)
_REMARK = re.compile(
    r"(?<=\S) \((?!mod)(?:[a-z]{3,}|or|by|as|in|on|at)(?: [^()]*)?(?:\([^()]*\)[^()]*)?\)$"
)
_COMPOUND = re.compile(
    r"^(\d+(?:\.\d+)?)\s*(?:\\text\s*\{)?\s*([a-z]+)\s*\}?\s*(?:and\s+)?"
    r"(\d+(?:\.\d+)?)\s*(?:\\text\s*\{)?\s*([a-z]+)\s*\}?$"
)
_TRANSPOSED = re.compile(r"\s*\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?$")
_BUILDER = re.compile(
    r"^([A-Za-z](?:_\w)?)\s*(?:\\in\s*(?:\\mathbb\s*\{?\s*)?R\s*\}?)?\s*[|:]\s*(.*)$", re.DOTALL
)
_SCALED = re.compile(
    r"^(-?[\d.,]+)\s*(?:\\text\s*\{\s*)?(thousand|million|billion|trillion|万|亿)\b\s*\}?",
    re.IGNORECASE,
)
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8}
_CONDITION = re.compile(
    r"(?<=\S)\s*[,;(]\s*[a-z](?:\s*,\s*[a-z])*\s*\\in\s*\\mathbb\s*\{?[ZN]\}?(?:\s*[\^_]\s*\{?[+*]\}?)?\s*\)?$"
)
_ALL_REALS = re.compile(
    r"(?:all|any|every|the)?(?:real(?:s|numbers?)|(?<=all)real)x?|(?:全体|一切|任意)实数|实数集"
)
_INFINITE = {"infinity": "\\infty", "positive infinity": "\\infty", "negative infinity": "-\\infty"}
_REALS = frozenset(("\\mathbb{R}", "\\mathbb R", "\\R", "\\Reals", "R"))


def parse_value(text: str, *, merge_thousands: bool = True) -> Value:
    """The value that a cleaned text writes. Raises Unparsed."""
    if len(text) > latex.MAX_LENGTH:
        raise LimitExceeded("too long")
    if " " in text:
        text = _REMARK.sub("", _DECLARED.sub("", _PREFIX.sub("", text)))
    compound = _COMPOUND.match(text)
    text = _summed(compound) if compound else text
    text = _connectives(_CONDITION.sub("", text))
    if merge_thousands:
        text = _merge_thousands(text)
    for separator in (";", ","):
        parts = split_top(text, separator)
        if len(parts) > 1:
            return ValueList("", _items(parts))
    return _read_one(text)


def _summed(match: re.Match[str]) -> str:
    """1 hour 30 minutes in its first unit, where both are units of one kind, the larger first."""
    first, second = unit_by_name(match.group(2)), unit_by_name(match.group(4))
    if not first.dimension or first.dimension != second.dimension or second.factor >= first.factor:
        return match.group()
    value = Fraction(match.group(1)) + Fraction(match.group(3)) * second.factor / first.factor
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}\\text{{ {match.group(2)}}}"


def split_top(text: str, separators: str) -> list[str]:
    """The text cut at the separators that stand in no bracket; empty pieces are left out."""
    if not any(s in text for s in separators):
        return [text]
    cuts, depth = [], 0
    pattern = re.compile(f"{_BRACKET.pattern}|[{re.escape(separators)}]")
    for match in pattern.finditer(text):
        token = match.group()
        if token in separators:
            if depth == 0:
                cuts.append(match.start())
        else:
            depth += 1 if token in _OPENING else -1
    ends = [-1, *cuts, len(text)]
    pieces = [text[a + 1 : b].strip() for a, b in itertools.pairwise(ends)]
    return [piece for piece in pieces if piece]


def _items(parts: list[str]) -> tuple[Value, ...]:
    """Values of the parts; a list in a list (from ±) is spread out."""
    if len(parts) > MAX_ITEMS:
        raise LimitExceeded("too many items")
    found: list[Value] = []
    for part in parts:
        commas = split_top(part, ",")
        if len(commas) > 1:
            found.append(ValueList("", _items(commas)))
            continue
        value = _read_one(part)
        is_list = isinstance(value, ValueList) and value.brackets == "" and "\\pm" in part
        found.extend(value.items if is_list and isinstance(value, ValueList) else [value])
    return tuple(found)


def _connectives(text: str) -> str:
    """ "and" and "or" as separators: a comma, or a semicolon between lists."""
    if " and " not in text and " or " not in text and "或" not in text and "和" not in text:
        return text
    text = re.sub(r"\s*[,;]\s*(?:and|or)\s+", ", ", text)
    parts = re.split(r"\s+(?:and|or)\s+|[或和]", text)
    if len(parts) > 1 and all("," in part for part in parts):
        return ";".join(parts)
    return ",".join(parts)


def _merge_thousands(text: str) -> str:
    if _SPACED.match(text):
        return text.replace(" ", "")
    if "," not in text or not _THOUSANDS.search(text):
        return text
    pieces, depth, last = [], 0, 0
    for match in _BRACKET.finditer(text):
        if depth == 0:
            pieces.append(_unmarked(text[last : match.start()]))
        else:
            pieces.append(text[last : match.start()])
        pieces.append(match.group())
        depth += 1 if match.group() in _OPENING else -1
        last = match.end()
    return "".join([*pieces, _unmarked(text[last:])])


def _unmarked(text: str) -> str:
    return _THOUSANDS.sub(lambda m: m.group(1).replace(",", ""), text)


def _read_one(text: str) -> Value:
    """One value: no separator stands outside brackets."""
    environment = _ENVIRONMENT.match(text) if "\\begin" in text else None
    if environment:
        name = "cases" if text.startswith("\\{") else environment.group(1)
        return _environment(name, environment.group(2))
    bare = _TRANSPOSED.sub("", text) if text.endswith(("T", "top", "}", "l")) else text
    if bare != text and ("," in bare or bare.endswith("matrix}")):
        return _transposed(_read_one(bare))
    if _SIGN.search(text):
        relation = _relation(text)
        if relation is not None:
            return relation
    group = _group(text)
    if group is not None:
        return group
    if "\\pm" in text or "\\mp" in text:
        pair = (("+", "-"), ("-", "+"))
        texts = [text.replace("\\pm", plus).replace("\\mp", minus) for plus, minus in pair]
        return ValueList("", tuple(_read_one(side) for side in texts))
    if "\\cup" in text or "\\backslash" in text:
        return _set_algebra(text)
    return _atom(text)


def _transposed(value: Value) -> Value:
    """A matrix turned; a tuple stays one, since rows and columns are told apart nowhere."""
    if isinstance(value, Matrix) and len({len(row) for row in value.rows}) == 1:
        return Matrix(tuple(zip(*value.rows, strict=True)))
    if isinstance(value, ValueList) and value.brackets in ("()", "[]"):
        return value
    raise ParseError("transposed")


def _relation(text: str) -> Relation | None:
    sides, signs, depth, start = [], [], 0, 0
    for match in re.finditer(f"{_BRACKET.pattern}|{_SIGN.pattern}", text):
        token = match.group()
        if _BRACKET.fullmatch(token):
            depth += 1 if token in _OPENING else -1
        elif depth == 0:
            sides.append(text[start : match.start()].strip())
            signs.append(token)
            start = match.end()
    if not signs:
        return None
    sides.append(text[start:].strip())
    if not sides[-1] or (not sides[0] and len(sides) > 2):
        raise ParseError("half a relation")
    return Relation(tuple(sides), tuple(signs))


def _set_algebra(text: str) -> Value:
    parts = split_top(text.replace("\\backslash", "\x00"), "\x00")
    if len(parts) > 1:
        return SetUnion(tuple(_read_one(part) for part in parts), minus=True)
    parts = split_top(text.replace("\\cup", "\x00"), "\x00")
    if len(parts) < 2:
        raise ParseError("union")
    return SetUnion(tuple(_read_one(part) for part in parts))


def _group(text: str) -> ValueList | Value | None:
    """A bracketed list; None where the text is none. One item in round brackets is just itself."""
    opening = next((o for o in ("\\{", "(", "[", "{") if text.startswith(o)), None)
    if opening is None or _closing(text) != len(text):
        return None
    closing = "\\}" if text.endswith("\\}") else text[-1]
    inner = text[len(opening) : len(text) - len(closing)].strip()
    is_set = opening in ("\\{", "{")
    builder = _BUILDER.match(inner) if is_set else None
    if builder and _SIGN.search(builder.group(2)):
        return parse_value(builder.group(2), merge_thousands=False)
    parts = split_top(inner, ";") if ";" in inner else split_top(inner, ",")
    if is_set and (opening == "\\{" or len(parts) > 1):
        return ValueList("{}", _items(parts) if inner else ())
    if len(parts) > 1:
        return ValueList(opening + closing, _items(parts))
    if opening in ("(", "{") and parts and _SIGN.search(inner):
        return _read_one(inner)
    return None


def _closing(text: str) -> int:
    """Where the bracket closes that opens the text."""
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += 1 if match.group() in _OPENING else -1
        if depth == 0:
            return match.end()
    return -1


def _environment(name: str, body: str) -> Value:
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr\b", body) if row.strip()]
    if sum(row.count("&") + 1 for row in rows) > MAX_ITEMS:
        raise LimitExceeded("too many items")
    if name.startswith("align") and any(row.strip(" &").startswith("=") for row in rows):
        return _read_one(" ".join(rows).replace("&", " ").strip(" ,;."))
    if name in ("cases", "aligned", "align", "align*"):
        return ValueList("", tuple(_read_one(row.replace("&", " ").strip(" ,;.")) for row in rows))
    cells = [[cell.strip() for cell in row.replace("\\hline", "").split("&")] for row in rows]
    return Matrix(tuple(tuple(_read_one(cell) for cell in row) for row in cells))


def _atom(text: str) -> Value:
    if text in _REALS and text != "R":
        return EVERYTHING
    if text == "\\emptyset":
        return ValueList("{}", ())
    based = _BASED.match(text)
    if based:
        return NumberInBase(based.group(1), int(_BASES.get(based.group(2), based.group(2))))
    ratio = split_top(text, ":")
    if len(ratio) > 2:
        return ValueList(":", tuple(_atom(part) for part in ratio))
    return _expression(text)


def _scaled(match: re.Match[str]) -> str:
    return f"{match.group(1)}\\cdot 10^{_SCALES[match.group(2).lower()]}"


def _expression(text: str) -> Value:
    bare = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip()
    text = _INFINITE.get(bare.lower(), text)
    spoken = number_from_words(bare)
    if spoken is not None:
        return Expression(latex.number(spoken), str(spoken))
    rest, unit = split_unit(_SCALED.sub(_scaled, text))
    rest = _MIXED.sub(r"\1\\frac{\2}{\3}", rest)
    words = word_key(rest)
    if words is not None:
        return EVERYTHING if _ALL_REALS.fullmatch(words) else WordAnswer(word_key(text) or words)
    if unit is not None and not rest:
        raise ParseError("a unit alone")
    literal = numeric.parse_decimal(rest) if "e" in rest or "E" in rest else None
    node = latex.parse(_merge_thousands(rest)) if literal is None else latex.number(literal.value)
    return Expression(node, rest, unit)


def number_of(value: Value) -> numeric.Number:
    """The number that a value is. Raises Unparsed for symbols and all other kinds."""
    if not isinstance(value, Expression):
        raise ParseError("no number")
    return numeric.evaluate(value.node)
