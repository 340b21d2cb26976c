r"""Values that an answer may denote (number, list, set, interval, matrix, …), and their parser.

`equivalence` compares two values. Example: `parse_value(r"[-1, \frac{1}{2})")` is a ValueList with
brackets "[)" and two expressions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from slowthink.grading.answers import latex, nodes, numeric
from slowthink.grading.answers.canonical import (
    Canonical,
    Congruence,
    Name,
    merged,
    read_canonical,
    read_property,
)
from slowthink.grading.answers.labels import named_parts_as_equations, split_labels
from slowthink.grading.answers.lists import BOTH, connectives_to_commas, distribute_name
from slowthink.grading.answers.nodes import LimitExceeded, Node, ParseError
from slowthink.grading.answers.qualifiers import unify_qualifiers, without_declarations
from slowthink.grading.answers.statements import (
    LOGIC,
    SETS,
    Statement,
    StatementReader,
    is_logic,
    is_set_algebra,
)
from slowthink.grading.answers.units import Unit, in_first_unit, split_unit
from slowthink.grading.answers.words import number_from_words, predicate_key, word_key

MAX_ITEMS = 400
"""Longest list, or largest matrix, that is parsed."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A number or a term, with its unit if it has one."""

    node: Node
    text: str
    unit: Unit | None = None

    @property
    def symbols(self) -> frozenset[str]:
        """Names of its free symbols."""
        return nodes.symbols(self.node)


@dataclass(frozen=True, slots=True)
class WordAnswer:
    """An answer in words; equal answers have equal keys.

    `predicate` is the key of what a sentence says of its subject: "The graph is an ellipse."
    """

    key: str
    predicate: str = ""


@dataclass(frozen=True, slots=True)
class ValueList:
    """Several values; `brackets` is "" for a bare list, ":" for a ratio, or "()", "[)", "{}", …"""

    brackets: str
    items: tuple[Value, ...]
    joined: str = ""
    """The word, "and" or "or", before the last item of a bare list; "" for a comma, BOTH for a word
    that lists no values: 且."""

    @property
    def word(self) -> str:
        """The word as "and" or "or"; "" for a comma."""
        return "and" if self.joined == BOTH else self.joined


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation, membership or inequality, as texts. -2 < x \\le 7 has three sides."""

    sides: tuple[str, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quantifier:
    """ "For all x" or "there is an x", as text, before a statement."""

    text: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """Parts with labels, numbered in order: "(a) 3, (b) 5"."""

    numbers: tuple[int, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """What is left out of 1, 2, \\ldots, n."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True)
class NumberInBase:
    """A number whose base is stated: 1101_2."""

    digits: str
    base: int

    @property
    def value(self) -> Fraction | None:
        """The number; None if a digit is too large for the base."""
        try:
            return Fraction(int(self.digits, self.base))
        except ValueError:
            return None


Value = (
    Expression | WordAnswer | ValueList | Relation | Statement | Quantifier | Labelled | Dots
    | Matrix | NumberInBase | Canonical
)  # fmt: skip

ALL_REALS = ValueList(
    "()", (Expression(Node("neg", (Node("inf"),)), "-\\infty"), Expression(Node("inf"), "\\infty"))
)
_BRACKET_TOKEN = re.compile(r"\\[{}]|\\begin|\\end(?![a-zA-Z])|[()\[\]{}]")
_OPENING = frozenset(("(", "[", "{", "\\{", "\\begin"))
_NAMED_SIGNS = (
    "to perp parallel nparallel cong sim subseteq subset supseteq supset notin mapsto propto equiv"
)
_RELATION_SIGN = re.compile(
    rf"\\(?:le|ge|ne|in|{_NAMED_SIGNS.replace(' ', '|')})(?![a-zA-Z])|[<>=]"
)
FLIPPED = {
    "<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne", "=": "=", "\\in": "\\in",
    "\\perp": "\\perp", "\\parallel": "\\parallel", "\\nparallel": "\\nparallel",
    "\\subseteq": "\\supseteq", "\\supseteq": "\\subseteq", "\\subset": "\\supset",
    "\\supset": "\\subset", "\\cong": "\\cong", "\\sim": "\\sim", "\\equiv": "\\equiv",
}  # fmt: skip
"""Sign of a relation after its sides are swapped."""
_ENVIRONMENT = re.compile(
    r"^(?:[\[(]|\\\{)?\s*\\begin\{([pbB]?matrix|smallmatrix|array|cases|aligned|align\*?)\}"
    r"(?:\{[lcr| ]*\})?(.*)"
    r"\\end\{\1\}\s*[\])]?$",
    re.DOTALL,
)
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])")
_SPACED_THOUSANDS = re.compile(r"^-?\d{1,3}(?: \d{3})+(?:\.\d+)?$")
_MIXED_NUMBER = re.compile(r"(?<![\w.}])(\d+) +(\d+)/(\d+)(?!\w)")
_BASE_DIGITS = r"\d[\dA-F]*|[\dA-F]{2,}(?=\s*_\s*\{?\s*16)"
_BASE_WORDS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "ten": 10,
}
_NUMBER_IN_BASE = re.compile(
    rf"^({_BASE_DIGITS})\s*_\s*\{{?\s*\(?(?:\\text\{{)?\s*(\d{{1,2}}|{'|'.join(_BASE_WORDS)})\s*[)\}}]*$"
)
_LEADING_WORDS = re.compile(
    r"^(?:[A-Za-z]{2,} ){0,6}(?:[A-Za-z]{3,}\s*:|(?:is|are|be|about|approximately|roughly|around"
    r"|just|exactly|only))\s+(?=[\\$\d(\[{-])"
)
_PROSE = re.compile(
    r"(?<![\\a-zA-Z])(?!sin|cos|tan|cot|log|exp|sqrt|mod|max|min|gcd|lcm)[a-z]{3,}\s+[a-z]{2,}(?![a-zA-Z])"
    r"|(?<![\\a-zA-Z])[fghFG]\s*\(\s*[fghFG]\s*\("
)
"""Words, and a function of a function: no product of their letters."""
_REMARK_IN_BRACKETS = re.compile(
    r"(?<=\S) \((?!mod)(?:[a-z]{3,}|or|by|as|in|on|at)(?: [^()]*)?(?:\([^()]*\)[^()]*)?\)$"
)
_TRANSPOSE_SIGN = re.compile(r"\s*\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?$")
_SET_BUILDER = re.compile(
    r"^([A-Za-z](?:_\w)?)\s*(?:\\in\s*(?:\\mathbb\s*\{?\s*)?R\s*\}?)?\s*[|:]\s*(.*)$", re.DOTALL
)
_NUMBER_AND_SCALE_WORD = re.compile(
    r"^(-?[\d.,]+)\s*(?:\\text\s*\{\s*)?"
    r"((?:dozen|hundred|thousand|lakh|million|crore|billion|trillion)\b|[十百千]?[万亿]|百(?!分)|千(?!米|克|瓦|焦|帕|伏|欧|牛|赫|卡))"
    r"\s*\}?",
    re.IGNORECASE,
)
_SCALES = {
    "dozen": "12", "hundred": "10^2", "thousand": "10^3", "lakh": "10^5", "million": "10^6",
    "crore": "10^7", "billion": "10^9", "trillion": "10^{12}", "百": "10^2", "千": "10^3",
    "万": "10^4", "十万": "10^5", "百万": "10^6", "千万": "10^7", "亿": "10^8", "十亿": "10^9",
    "百亿": "10^{10}", "千亿": "10^{11}",
}  # fmt: skip
_CASE_WORDS = re.compile(r"^\s*(?:if|when|for|where|当)\s*|\s*时$")
_QUANTIFIER = re.compile(r"\\(?:forall|exists)(?![a-z])")
_NUMBER_SET = re.compile(r"\\mathbb\s*\{?\s*([NZQC])\s*\}?(?:\s*[\^_]\s*\{?([+*-])\}?)?")
_NUMBER_SETS = {
    word: parts
    for parts, words in (
        (("Z",), "allintegers integers theintegers 整数集 全体整数 所有整数"),
        (("Z", "+"), "allpositiveintegers positiveintegers 正整数集 全体正整数 所有正整数"),
        (("N",), "allnaturalnumbers naturalnumbers 自然数集 全体自然数"),
        (("Q",), "allrationalnumbers rationalnumbers 有理数集 全体有理数"),
    )
    for word in words.split()
}
_COMPLEMENT = re.compile(r"[A-Z](?:\s*\^\s*\{?\s*(?:c|C|\\complement)\s*\}?|_\{bar\})")
_DOTS = frozenset(("\\ldots", "...", "\\ldots \\ldots"))
_REAL_WORDS = re.compile(
    r"(?:all|any|every|the)?(?:real(?:s|numbers?)|(?<=all)real)x?|(?:全体|一切|任意)实数|实数集"
)
_INFINITY = {"infinity": "\\infty", "positive infinity": "\\infty", "negative infinity": "-\\infty"}
_REALS_COMMANDS = frozenset(("\\mathbb{R}", "\\mathbb R", "\\R", "\\Reals"))


def parse_value(text: str, *, merge_thousands: bool = True) -> Value:
    """Return the value that a normalised text denotes. Raises ParseError or LimitExceeded."""
    if len(text) > latex.MAX_LENGTH:
        raise LimitExceeded("too long")
    if (labelled := split_labels(text)) is not None:
        values = tuple(parse_value(part, merge_thousands=merge_thousands) for _, part in labelled)
        return Labelled(tuple(number for number, _ in labelled), values)
    text = named_parts_as_equations(text)
    if " and " in text and (number := number_from_words(text)) is not None:
        return Expression(nodes.number(number), str(number))
    if (canonical := read_canonical(text)) is not None:
        return canonical
    if (stated := read_property(text)) is not None:
        fact, relations = stated
        return ValueList("", (*map(_parse_item, relations), fact), "and") if relations else fact
    text = unify_qualifiers(text)
    if " " in text:
        text = _REMARK_IN_BRACKETS.sub("", _LEADING_WORDS.sub("", text))
    text = in_first_unit(text)
    text, joined = connectives_to_commas(text)
    if merge_thousands:
        text = _merge_thousands(text)
    for separator in (";", ","):
        parts = split_top_level(text, separator)
        if len(parts) > 1:
            return _parse_list(distribute_name(without_declarations(parts)), joined)
    return _parse_item(text)


def _parse_list(parts: list[str], joined: str) -> Value:
    """Parse a bare list; congruences of one number that are alternatives become one."""
    items = _parse_items(parts)
    if len(items) == 1:
        return items[0]
    congruences = [item for item in items if isinstance(item, Congruence)]
    if len(congruences) == len(items) and joined in ("", "or") and (one := merged(congruences)):
        return one
    return ValueList("", items, joined)


def split_top_level(text: str, separator: str) -> list[str]:
    """Split a text at the separators outside all brackets. Empty parts are dropped."""
    if separator not in text:
        return [text]
    spans = [match.span() for match in _outside_brackets(re.escape(separator), text)]
    return [part for part in _parts_between(spans, text) if part]


def _outside_brackets(pattern: str, text: str) -> list[re.Match[str]]:
    """Return the matches of a pattern outside all brackets."""
    matches, depth = [], 0
    for match in re.finditer(f"{_BRACKET_TOKEN.pattern}|{pattern}", text):
        if _BRACKET_TOKEN.fullmatch(match.group()):
            depth += 1 if match.group() in _OPENING else -1
        elif depth == 0:
            matches.append(match)
    return matches


def _parts_between(spans: list[tuple[int, int]], text: str) -> list[str]:
    """Return the parts of a text before, between and after these spans."""
    starts, ends = [0, *(end for _, end in spans)], [*(start for start, _ in spans), len(text)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def _parse_items(parts: list[str]) -> tuple[Value, ...]:
    """Parse the parts of a list. The two values of a ± become two items."""
    if len(parts) > MAX_ITEMS:
        raise LimitExceeded("too many items")
    values: list[Value] = []
    for part in parts:
        inner_parts = split_top_level(part, ",")
        if len(inner_parts) > 1:
            values.append(ValueList("", _parse_items(inner_parts)))
            continue
        value = _parse_item(part)
        is_plus_minus = "\\pm" in part and isinstance(value, ValueList) and value.brackets == ""
        values.extend(value.items if is_plus_minus and isinstance(value, ValueList) else [value])
    return tuple(values)


def _merge_thousands(text: str) -> str:
    if _SPACED_THOUSANDS.match(text):
        return text.replace(" ", "")
    if "," in text and _THOUSANDS.search(text):
        for match in reversed(_outside_brackets(_THOUSANDS.pattern, text)):
            text = text[: match.start()] + match.group().replace(",", "") + text[match.end() :]
    return text


def _parse_item(text: str) -> Value:
    """Parse one value: a text without separators outside brackets."""
    environment = _ENVIRONMENT.match(text) if "\\begin" in text else None
    if environment and f"\\end{{{environment.group(1)}}}" not in environment.group(2):
        name = "cases" if text.startswith("\\{") else environment.group(1)
        return _parse_environment(name, environment.group(2))
    bare = _TRANSPOSE_SIGN.sub("", text) if text.endswith(("T", "top", "}", "l")) else text
    if bare != text and ("," in bare or bare.endswith("matrix}")):
        return _transpose(_parse_item(bare))
    if _QUANTIFIER.match(text):
        return Quantifier(re.sub(r"\\in(?:\\mathbb)?\{?R\}?|\\mathbb|[\s{}]", "", text))
    if is_logic(text):
        logic: Value = StatementReader(LOGIC, split_top_level, _parse_plain).read(text)
        return logic
    return _parse_plain(text)


def _parse_plain(text: str) -> Value:
    """Parse one value without signs of logic."""
    relation = _parse_relation(text) if _RELATION_SIGN.search(text) else None
    value = relation or read_canonical(text) or _parse_bracketed(text)
    if value is not None:
        return value
    if "\\pm" in text or "\\mp" in text:
        signs = (("+", "-"), ("-", "+"))
        texts = [text.replace("\\pm", upper).replace("\\mp", lower) for upper, lower in signs]
        return ValueList("", tuple(map(_parse_item, texts)))
    if is_set_algebra(text) or _COMPLEMENT.fullmatch(text):
        algebra: Value = StatementReader(SETS, split_top_level, _parse_set).read(text)
        return algebra
    return _parse_atom(text)


def _transpose(value: Value) -> Value:
    """Transpose a matrix. A tuple is unchanged, since it may be a row or a column."""
    if isinstance(value, Matrix) and len({len(row) for row in value.rows}) == 1:
        return Matrix(tuple(zip(*value.rows, strict=True)))
    if isinstance(value, ValueList) and value.brackets in ("()", "[]"):
        return value
    raise ParseError("transposed")


def _parse_relation(text: str) -> Relation | None:
    signs = _outside_brackets(_RELATION_SIGN.pattern, text)
    if not signs:
        return None
    sides = _parts_between([sign.span() for sign in signs], text)
    if not sides[-1] or (not sides[0] and len(sides) > 2):
        raise ParseError("incomplete relation")
    return Relation(tuple(sides), tuple(sign.group() for sign in signs))


def _parse_set(text: str) -> Value:
    """Parse an operand of a set operation, in which every sign is outside of its brackets."""
    return _parse_bracketed(text) or _parse_atom(text)


def _parse_bracketed(text: str) -> Value | None:
    """Parse a text in brackets; None for other texts. (x) is parsed as x."""
    opening = next((o for o in ("\\{", "(", "[", "{") if text.startswith(o)), None)
    if opening is None or _matching_bracket_end(text) != len(text):
        return None
    closing = "\\}" if text.endswith("\\}") else text[-1]
    inner = text[len(opening) : len(text) - len(closing)].strip()
    is_set = opening in ("\\{", "{")
    set_builder = _SET_BUILDER.match(inner) if is_set else None
    if set_builder and _RELATION_SIGN.search(set_builder.group(2)):
        return parse_value(set_builder.group(2), merge_thousands=False)
    parts = split_top_level(inner, ";" if ";" in inner else ",")
    if is_set and (opening == "\\{" or len(parts) > 1 or not inner):
        return ValueList("{}", _parse_items(parts) if inner else ())
    if len(parts) > 1:
        return ValueList(opening + closing, _parse_items(parts))
    if opening in ("(", "{") and parts and _RELATION_SIGN.search(inner):
        return _parse_item(inner)
    return None


def _matching_bracket_end(text: str) -> int:
    """Return the end of the bracket that opens the text; -1 if it is not closed."""
    depth = 0
    for match in _BRACKET_TOKEN.finditer(text):
        depth += 1 if match.group() in _OPENING else -1
        if depth == 0:
            return match.end()
    return -1


def _parse_environment(name: str, body: str) -> Value:
    """Parse the body of a LaTeX environment: a matrix, a list of cases or a chained equation."""
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr\b", body) if row.strip()]
    if sum(row.count("&") + 1 for row in rows) > MAX_ITEMS:
        raise LimitExceeded("too many items")
    if name.startswith("align") and any(row.strip(" &").startswith("=") for row in rows):
        return _parse_item(" ".join(rows).replace("&", " ").strip(" ,;."))
    if name == "cases" and (cases := _parse_cases(rows)):
        return cases
    if name in ("cases", "aligned", "align", "align*"):
        lines = [row.replace("&", " ").strip(" ,;.") for row in rows]
        return ValueList("", tuple(map(_parse_item, lines)))
    cells = [[cell.strip() for cell in row.replace("\\hline", "").split("&")] for row in rows]
    return Matrix(tuple(tuple(map(_parse_item, row)) for row in cells))


def _parse_cases(rows: list[str]) -> ValueList | None:
    """Parse "value & condition" in each row; None for a system of equations."""
    pairs = [[part.strip(" ,;.") for part in row.split("&")] for row in rows]
    if any(len(pair) != 2 or not pair[1] or pair[1][0] in "=<>" for pair in pairs):
        return None
    pairs = [[value, _CASE_WORDS.sub("", latex.TEXT.sub(r"\1", when))] for value, when in pairs]
    items = [ValueList("case", tuple(map(parse_value, pair))) for pair in pairs]
    return ValueList("cases", tuple(items))


def _parse_atom(text: str) -> Value:
    """Parse a value without brackets, relation or set operation."""
    if text in _REALS_COMMANDS:
        return ALL_REALS
    if text in _DOTS:
        return Dots()
    if (number_set := _NUMBER_SET.fullmatch(text)) is not None:
        parts = tuple(filter(None, number_set.groups()))
        is_positive = parts in (("N", "*"), ("N", "+"))
        return Name("number set", ("Z", "+") if is_positive else parts)
    if "\\ldots" in text and len(terms := split_top_level(text, "+")) > 2:
        return ValueList("+", tuple(map(_parse_atom, terms)))
    if text == "\\emptyset":
        return ValueList("{}", ())
    in_base = _NUMBER_IN_BASE.match(text)
    if in_base:
        digits, base = in_base.groups()
        return NumberInBase(digits, int(_BASE_WORDS.get(base, base)))
    ratio = split_top_level(text, ":")
    if len(ratio) > 2:
        return ValueList(":", tuple(map(_parse_atom, ratio)))
    return _parse_expression(text)


def _scale_word_to_power(match: re.Match[str]) -> str:
    return f"{match.group(1)}\\cdot {_SCALES[match.group(2).lower()]}"


def _parse_expression(text: str) -> Value:
    bare = latex.TEXT.sub(r"\1", text).strip()
    text = _INFINITY.get(bare.lower(), text)
    number = number_from_words(bare)
    if number is not None:
        return Expression(nodes.number(number), str(number))
    term, unit = split_unit(_NUMBER_AND_SCALE_WORD.sub(_scale_word_to_power, text))
    term = _MIXED_NUMBER.sub(r"\1\\frac{\2}{\3}", term)
    words = word_key(term)
    if words is not None:
        if words in _NUMBER_SETS:
            return Name("number set", _NUMBER_SETS[words])
        if _REAL_WORDS.fullmatch(words):
            return ALL_REALS
        return WordAnswer(word_key(text) or words, predicate_key(text))
    if unit is not None and not term:
        raise ParseError("unit without a number")
    if _PROSE.search(term):
        raise ParseError("words")  # not a product of their letters
    literal = numeric.parse_decimal(term) if "e" in term or "E" in term else None
    node = latex.parse(_merge_thousands(term)) if literal is None else nodes.number(literal.value)
    return Expression(node, term, unit)


def to_number(value: Value) -> numeric.Number:
    """Return the number that a value is. Raises ParseError for other values and for symbols."""
    if not isinstance(value, Expression):
        raise ParseError("not a number")
    return numeric.evaluate(value.node)
