"""A chain as steps (sentences and lines), each with what it adds to the question and the others.

    read_steps("Tom is 3a years old.", "3a + 10 = 2(a + 10), so a = 10.\\nWait.")[0].content  # 2.0

What a step says is its pairs of adjacent values: "6 * 7 = 42" and "6 times 7 gives 42" both say
(6, 7), (7, 42), so that other words for the same are nothing new. Words of the subject count a
little, once each, and words that a lexicon counts not at all. A value is a number, a letter, or a
name in capitals (AB).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from slowthink.curation.scores.lexicons import KINDS, read_lexicons

WORD_CREDIT = 0.1
"""What a new word counts, compared with a new pair of values; half of it for two Chinese
characters, which overlap others."""
NEAR = 3
"""Values at most this far apart are remembered as a pair, so that leaving out those between makes
nothing new."""
LINKED_SHARE = 1 / 3
"""Share of a step's values, or words, that must be known for full credit."""
ADOPTED_LINK = 0.4
"""Link from which a step's values are known to the steps after it."""
TRIVIAL = frozenset({"0", "1", "2"})
"""Values that link no step to another, since every text has them."""
MAX_NAME = 4
"""Letters of a name in capitals, such as a line's AB or a quadrilateral's ABCD: a value too."""

_CJK = r"\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN = re.compile(
    rf"\d+(?:,\d{{3}}(?!\d))*(?:\.\d+)?|(?<![\w=+*/^<>(){{}}\\-])[aAI] (?=[a-zA-Z]{{2}})"
    rf"|\\?[a-zA-Z]{{2,}}|[a-zA-Z]|[{_CJK}]|[=+*/^<>~-]"
    r"|,|\n|[.!?](?=\s)|[;\u3002\uff1f\uff01\uff1b]|[^\W\d_]+"
)
"""A number, "a" or "I" as a word, a word or command, a letter, a Chinese character, an operator, a
comma, a step's end, a word in another script."""
_ENDS = frozenset("\n.!?;。？！；")
_OPERATORS = frozenset([*"=+*/^<>~-", "\\sqrt"])
_RELATIONS = "perp parallel in notin subset subseteq cap cup equiv mid cong sim ne neq pm to mapsto"
_OPERATOR_NAMES = {
    **dict.fromkeys(("\\cdot", "\\times", "times", "\\ast"), "*"),
    **dict.fromkeys(("\\div", "\\frac", "\\dfrac", "\\tfrac", "\\over"), "/"),
    **dict.fromkeys(("\\le", "\\leq", "\\leqslant", "\\lt"), "<"),
    **dict.fromkeys(("\\ge", "\\geq", "\\geqslant", "\\gt"), ">"),
    **{f"\\{name}": "~" for name in _RELATIONS.split()},
    **dict.fromkeys(("equals", "equal", "gives", "yields"), "="),
    "plus": "+", "minus": "-", "\\sqrt": "\\sqrt",
}  # fmt: skip
_SEPARATOR = ","
"""Between equations in a step: for a comma or a word."""
_SIGNS = str.maketrans({
    "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "≤": "<", "≥": ">",
    **dict.fromkeys("⊥∥∈⊂≡≠±", "~"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad"),
    **dict(zip("аеорсухі", "aeopcyxi", strict=True)),
})  # fmt: skip
"""One sign for each operation, no invisible characters, and Latin for Cyrillic look-alikes."""


@dataclass(frozen=True, slots=True)
class ReasoningStep:
    """What one step adds."""

    size: float
    """Words and values; a Chinese character is half a word."""
    content: float
    """Number of new facts, as far as they are linked to what is known."""
    builds: bool
    """Whether its content rests on a value that an earlier step found."""
    recomputes: frozenset[str]
    """Earlier values that new expressions of known values give again."""
    changes: frozenset[str]
    """Left sides to which it gives another value, which is still another one at the end."""
    is_check: bool
    """Whether a word announces a check."""
    is_correction: bool
    """Whether a word calls something wrong."""


@dataclass(slots=True)
class _Tokens:
    """The tokens of a step by kind."""

    values: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    signs: list[str] = field(default_factory=list)
    """Values and operators, in order."""
    size: int = 0
    """Words and values count 2, Chinese characters 1."""
    is_check: bool = False
    is_correction: bool = False


@lru_cache(maxsize=4096)
def read_steps(question: str, thinking: str) -> tuple[ReasoningStep, ...]:
    """The steps of a chain; cached, since several scores read them."""
    known = _Known()
    for tokens in split_steps(question):
        known.add_question(tokens)
    steps = [known.read(tokens) for tokens in split_steps(thinking)]
    taken_back = {left for left, value in known.results.items() if value == known.first[left]}
    return tuple(replace(s, changes=s.changes - taken_back) if s.changes else s for s in steps)


def split_steps(text: str) -> Iterator[_Tokens]:
    """The tokens of each step, in order; steps without words and values are left out."""
    step, last_character = _Tokens(), ""
    for token in _TOKEN.findall(normalise(text)):
        is_cjk = "\u3400" <= token <= "\u9fff"
        if token in _ENDS:
            if step.size:
                yield step
            step = _Tokens()
        elif is_cjk:
            _add_word(step, last_character + token, size=1)
        else:
            _add_token(step, token)
        last_character = token if is_cjk else ""
    if step.size:
        yield step


def _add_token(step: _Tokens, token: str) -> None:
    """Add a token that is no Chinese character."""
    if operator := token if token in _OPERATORS else _OPERATOR_NAMES.get(token):
        step.signs.append(operator)
    elif token[0].isdigit():
        _add_value(step, _plain_number(token))
    elif token == _SEPARATOR:
        step.signs.append(_SEPARATOR)
    elif token[0] == "\\":
        return
    elif len(token) == 1 or (token.isupper() and token.isalpha() and len(token) <= MAX_NAME):
        _add_value(step, token)
    else:
        _add_word(step, token.lower(), size=2)


def _add_value(step: _Tokens, value: str) -> None:
    step.size += 2
    step.values.append(value)
    step.signs.append(value)


def _add_word(step: _Tokens, word: str, *, size: int) -> None:
    """Add an English word, or a Chinese character with the one before it."""
    step.size += size
    step.signs.append(_SEPARATOR)
    vocabulary = _vocabulary()
    step.is_check |= word in vocabulary.checks
    step.is_correction |= word in vocabulary.corrections
    if word in vocabulary.uncounted:
        return
    if len(word) > 3 if word.isascii() else len(word) > 1 and vocabulary.grammar.isdisjoint(word):
        step.words.append(word)


def normalise(text: str) -> str:
    """NFKC, one sign for each operation, and commas around Chinese words of the lexicon,
    so that they form no pairs of characters with others."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
        text = _chinese_phrases().sub(r",\g<0>,", text)
    return text


@lru_cache(maxsize=1)
def _chinese_phrases() -> re.Pattern[str]:
    standard = read_lexicons()["standard"]
    phrases = [phrase for kind in KINDS for phrase in standard[kind] if not phrase.isascii()]
    return re.compile("|".join(sorted(phrases, key=lambda phrase: (-len(phrase), phrase))))


@dataclass(frozen=True)
class _Vocabulary:
    """Words of lexicon.yaml, as tokens: English words, and pairs of Chinese characters."""

    uncounted: frozenset[str]
    """Words that say nothing about a problem, those of the standard lexicon included."""
    grammar: frozenset[str]
    checks: frozenset[str]
    corrections: frozenset[str]


@lru_cache(maxsize=1)
def _vocabulary() -> _Vocabulary:
    lexicons = read_lexicons()
    checks, corrections = frozenset(lexicons["check"]), frozenset(lexicons["correction"])
    phrases = [phrase for kind in KINDS for phrase in lexicons["standard"][kind]]
    words = {word for phrase in phrases for word in re.split(r"[ -]", phrase)}
    pairs = {a + b for word in words if not word.isascii() for a, b in itertools.pairwise(word)}
    common = frozenset(lexicons["common"].split())
    return _Vocabulary(
        uncounted=common | words | pairs | checks | corrections,
        grammar=frozenset(lexicons["grammar"]), checks=checks, corrections=corrections,
    )  # fmt: skip


def _plain_number(token: str) -> str:
    """A number without thousands separators and final zeros: 1,250.50 → 1250.5."""
    token = token.replace(",", "")
    if "." in token:
        token = token.rstrip("0").rstrip(".")
    return token.lstrip("0") or "0"


class _Known:
    """What the question and the steps so far have said."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        """Values of the question, and those beside operators in steps that are linked to it."""
        self.found: set[str] = set()
        """Those that a step found: absent from the question."""
        self.words: set[str] = set()
        self.pairs: set[tuple[str, str]] = set()
        self.last_values: tuple[str, ...] = ()
        self.subject: set[str] = set()
        """Words of the question."""
        self.forms: Counter[tuple[str, ...]] = Counter()
        self.lefts: set[str] = set()
        """Left sides of equations."""
        self.expressions: set[str] = set()
        """Sides of equations whose other side is a number."""
        self.results: dict[str, str] = {}
        """Left side of an equation → its last value."""
        self.first: dict[str, str] = {}
        """Left side of an equation → its first value."""

    def read(self, tokens: _Tokens) -> ReasoningStep:
        """The step, after which its content is known."""
        pairs = {_unordered(a, b) for a, b in _operated(tokens.signs)}
        values, form = {value for pair in pairs for value in pair}, _form(tokens)
        link = self._link(values, tokens)
        content = (
            self._num_new(pairs - self._second_values(tokens), tokens)
            * link
            / (1 + self.forms[form]) ** 2
        )
        builds = content > 0 and not self.found.isdisjoint(values)
        recomputes, changes = self._compare_results(tokens)
        self.forms[form] += 1
        self._add(tokens)
        if link >= ADOPTED_LINK:
            self.found |= values - self.values - TRIVIAL
            self.values |= values
        return ReasoningStep(
            size=tokens.size / 2, content=content, builds=builds, recomputes=recomputes,
            changes=changes, is_check=tokens.is_check, is_correction=tokens.is_correction,
        )  # fmt: skip

    def add_question(self, tokens: _Tokens) -> None:
        """Remember a sentence of the question."""
        self._add(tokens)
        self.values.update(tokens.values)
        self.subject.update(tokens.words)

    def _add(self, tokens: _Tokens) -> None:
        self.words.update(tokens.words)
        values = (*self.last_values, *tokens.values)
        for distance in range(1, NEAR + 1):
            self.pairs.update(map(_unordered, values, values[distance:]))
        self.last_values = values[-NEAR:]

    def _num_new(self, pairs: set[tuple[str, str]], tokens: _Tokens) -> float:
        """Number of new pairs of values with an operator between them; new words count less."""
        new_words = set(tokens.words) - self.words
        num_words = sum(1.0 if word.isascii() else 0.5 for word in new_words)
        return len(pairs - self.pairs) + WORD_CREDIT * num_words

    def _second_values(self, tokens: _Tokens) -> set[tuple[str, str]]:
        """Pairs that only give another value to what had one: a correction, or a false start."""
        return {
            _unordered(left[-1], right[0])
            for left, right in _equations(tokens.signs)
            if " ".join(left) in self.lefts
        }

    def _link(self, values: set[str], tokens: _Tokens) -> float:
        """How far the step rests on what is known, in [0, 1]: by its values beside operators, since
        the number of a step or line rests on nothing, or by its words."""
        shares = [
            len(side & known) / len(side)
            for side, known in (
                (values - TRIVIAL, self.values), (set(tokens.words), self.subject),
            )
            if side
        ]  # fmt: skip
        return min(1.0, max(shares, default=0.0) / LINKED_SHARE)

    def _compare_results(self, tokens: _Tokens) -> tuple[frozenset[str], frozenset[str]]:
        """The values found again, and the left sides that have got another value."""
        recomputed, changed = set[str](), set[str]()
        for left, right in _equations(tokens.signs):
            self.lefts.add(" ".join(left))
            for expression, result in ((left, right), (right, left)):
                if not _is_number(result) or _is_number(expression):
                    continue
                key = " ".join(expression)
                if key not in self.expressions and self._finds_again(expression, result[0]):
                    recomputed.add(result[0])
                self.expressions.add(key)
                if self.first.setdefault(key, result[0]) != result[0]:
                    changed.add(key)
                self.results[key] = result[0]
        return frozenset(recomputed), frozenset(changed)

    def _finds_again(self, expression: list[str], result: str) -> bool:
        """Whether a known result comes from at least two other known numbers, and operators between
        them."""
        operands = set(expression) - _OPERATORS
        is_whole = expression[0][0].isdigit() and expression[-1][0].isdigit()
        return (
            is_whole and len(operands) > 1 and result not in operands and result in self.values
            and operands <= self.values and all(operand[0].isdigit() for operand in operands)
        )  # fmt: skip


def _unordered(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a <= b else (b, a)


def _operated(signs: list[str]) -> Iterator[tuple[str, str]]:
    """Neighbouring values with operators, and no word, between them."""
    last, has_operator = "", False
    for sign in signs:
        if sign == _SEPARATOR:
            last = ""
        elif sign in _OPERATORS:
            has_operator = True
            continue
        elif last and has_operator and sign != last:
            yield last, sign
            last = sign
        else:
            last = sign
        has_operator = False


def _is_number(side: list[str]) -> bool:
    return len(side) == 1 and side[0][0].isdigit()


def _form(tokens: _Tokens) -> tuple[str, ...]:
    """What is left of a step without its numbers: its words, or else its operators and letters."""
    return tuple(tokens.words) or tuple(
        "0" if sign[0].isdigit() else sign for sign in tokens.signs if sign != _SEPARATOR
    )


def _equations(signs: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Neighbouring sides of the equations in a step: a = b = c gives (a, b) and (b, c)."""
    if "=" not in signs:
        return
    sides: list[list[str]] = [[]]
    for sign in [*signs, _SEPARATOR]:
        if sign == _SEPARATOR:
            yield from ((a, b) for a, b in itertools.pairwise(sides) if a and b)
            sides = [[]]
        elif sign == "=":
            sides.append([])
        else:
            sides[-1].append(sign)
