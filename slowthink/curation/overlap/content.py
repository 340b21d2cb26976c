r"""Whether two questions that share most of their words ask for the same.

    same_words("Find the roots of x + 1.", "Determine the roots of $x+1$")  # True
    same_words("How many integers n …", "How many prime integers n …")      # False
    asks_the_same(item, text)                                               # for copies

A word carries content unless it is in HARMLESS, a closed class: a word that nobody has thought of
counts as another problem, not as the same.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, compress
from typing import NamedTuple

from slowthink.curation.overlap.exact import MEANING_WORDS
from slowthink.curation.overlap.tokens import strict_tokens

_HARMLESS = (
    "an the of and is are was were be been being it its this that these those there then so such "
    "which have has had do does did we you your our us please kindly now "
    "let suppose assume given consider denote find determine compute calculate evaluate obtain "
    "solve what express answer following exact value values form question problem "
    "le la les un une el los las una "
    "overline underline bar vec hat widehat widetilde mathbb mathbf displaystyle ldots dots cdots "
    "dotsc dotsb dotsm circ degree degrees ensuremath array tag label nonumber hline cal "
    "的 了 是 在 有 设 若 则 求 且 与 及 其 这 那 个 为 之 所 得 请 解 已 知 如 果 使 令 试 问 "
    "到 时 以 计 算 出 值 把 将 地 么 呢 吗 们 就 也 给 定"
)
HARMLESS = frozenset(_HARMLESS.split())
"""Articles, forms of `be`, instructions to compute, and commands for typesetting."""
MIN_TYPO_LETTERS = 6
"""A shorter word that differs in one letter is another word: `white` and `while`."""
MIN_CLAUSE_OVERLAP = 0.6
"""Share of a clause's content words that a copy of it has."""
_PREPOSITION_WORDS = "in on at to for by with from as into if when where will can"
_PREPOSITIONS = frozenset(_PREPOSITION_WORDS.split())
"""Words in which copies of one question differ."""
_IMPLIED = frozenset(("positive", "one", "正", "一"))
"""Words of MEANING_WORDS that are often left out where they are implied."""
_PARAGRAPH_END = r"\n\s*\n(?!\s*(?:\$\$|\\\[|\\begin))"
_SENTENCE = re.compile(
    rf"(?:[^.?!。！？；;\n]|[.!](?=[^\s$\"'”)\]}}])|(?!{_PARAGRAPH_END})\n)+"
    rf"(?:[.?!。！？；;]|{_PARAGRAPH_END}|\Z)"
)
"""A sentence, or a paragraph that a formula of its own does not continue."""
_ASKS = re.compile(
    r"\b(?:find|compute|determine|calculate|evaluate|what|how (?:many|much)|which of|prove|show"
    r"|simplify|solve|express|factor|expand|estimate|state|list|name|sketch|decide|write|draw|sort"
    r"|order|arrange|trouve[rz]?|calcule[rz]?|détermine[rz]?|combien|quel(?:le)?s?|halla|calcula"
    r"|determina|encuentra|cuánt[oa]s?|cuál|qué|quant[oa]s|qual|bestimme|berechne|ermittle|finde"
    r"|wie viele?|welche[rs]?|найдите|вычислите|определите|сколько|какой|какова)\b"
    r"|求|计算|化简|解方程|多少|几|什么|哪|判断|证明|いくつ|구하",
    re.IGNORECASE,
)
_ASKED_BEFORE = re.compile(r"[^，,；;]*(?=多少|几|什么|いくつ)")
"""In Chinese, what is asked for stands before the word that asks: "现价是多少元"."""
Words = list[str]


def content_words(text: str) -> Words:
    """The words of the strict form that are not in HARMLESS; `a` and `s` where they are variables,
    not an article and a genitive."""
    words = strict_tokens(text)
    return [
        word
        for word, following in zip(words, [*words, ""][1:], strict=True)
        if not (
            word in HARMLESS
            or (word in ("a", "s") and len(following) > 2)
            or (word == "s" and following in HARMLESS)
        )
    ]


def same_words(first: str, second: str) -> bool:
    """Whether the two texts have the same content words in the same order, but for typing errors,
    plurals and the spaces in formulas."""
    words, others = content_words(first), content_words(second)
    if "".join(words) == "".join(others):
        return True
    return len(words) == len(others) and all(map(is_same_word, words, others))


def is_same_word(word: str, other: str) -> bool:
    """Whether two words are equal, or differ in a plural or in one letter of a long word.

    The first letter must agree, and the last letter must not be replaced: `squares`, `squared`.
    """
    if word == other:
        return True
    short, long = sorted((word, other), key=len)
    if len(short) < 3 or word[0] != other[0] or not (word.isalpha() and word.isascii()):
        return False
    if long == short + "s":
        return True
    if len(long) < MIN_TYPO_LETTERS or len(long) - len(short) > 1:
        return False
    start = next((i for i, pair in enumerate(zip(short, long, strict=False)) if len({*pair}) > 1),
                 len(short))  # fmt: skip
    rest, long_rest = short[start:], long[start:]
    if len(short) < len(long):
        return rest == long_rest[1:]
    is_swap = rest[:2] == long_rest[1::-1] and rest[2:] == long_rest[2:]
    return is_swap or (len(rest) > 1 and rest[1:] == long_rest[1:])


# --- copies ---------------------------------------------------------------------------------------


def asks_the_same(inner: str, outer: str) -> bool:
    """Whether the outer text gives and asks what the inner one does, among other things perhaps.

    Each clause of the inner text that asks must be in the outer text and end there: the same data
    with another question, or with a further condition, are another problem. The other clauses may
    differ in a few words, but not in those of MEANING_WORDS.
    """
    text, clauses = _read_text(outer), _read_text(inner).clauses
    return all(
        text.asks(clause.words, following=clauses[index + 1 :])
        if clause.is_question
        else text.gives(clause.words)
        for index, clause in enumerate(clauses)
    )


class _Clause(NamedTuple):
    """A sentence, or a sentence's part before or from the word that asks."""

    words: Words
    is_question: bool
    ends_sentence: bool = True


def _clauses(text: str) -> list[_Clause]:
    """The clauses of a text; the last one counts as a question if there is none."""
    clauses = []
    for match in _SENTENCE.finditer(text):
        sentence = match[0]
        ask = _ASKS.search(sentence)
        if ask and (before := _ASKED_BEFORE.search(sentence, 0, ask.end())):
            ask = before
        start = ask.start() if ask else 0 if sentence.rstrip()[-1:] in "?？" else len(sentence)
        given, asked = _clause_words(sentence[:start]), _clause_words(sentence[start:])
        clauses += [_Clause(given, False, not asked)] if given else []
        clauses += [_Clause(asked, True)] if asked else []
    if clauses and not any(clause.is_question for clause in clauses):
        clauses[-1] = _Clause(clauses[-1].words, True)
    return clauses


def _clause_words(text: str) -> Words:
    return [word for word in content_words(text) if word not in _PREPOSITIONS]


@functools.lru_cache(maxsize=1024)
def _read_text(text: str) -> _Text:
    """The text's clauses; a problem is often compared with several others."""
    return _Text(text)


class _Text:
    """The content words of a text, and where its sentences end."""

    def __init__(self, text: str) -> None:
        self.clauses = _clauses(text)
        words = [word for clause in self.clauses for word in clause.words]
        self.joined = "".join(words)
        self.starts = _positions(words)
        ends = _positions("".join(clause.words) for clause in self.clauses)[1:]
        is_end = [clause.ends_sentence for clause in self.clauses]
        self.sentence_ends = list(compress(ends, is_end))

    def asks(self, words: Words, *, following: Sequence[_Clause]) -> bool:
        """Whether the words are in the text up to the end of a sentence, or of the words that
        follow them in their own text; or whether a question has the same words in another order.
        """
        follow = "".join("".join(clause.words) for clause in following)
        for end in self._ends(words):
            rest = self.joined[end : self.sentence_ends[bisect_left(self.sentence_ends, end)]]
            if follow.startswith(rest):
                return True
        return any(
            len(words) == len(clause.words) and _have_same_words(words, clause.words)
            for clause in self.clauses
            if clause.is_question
        )

    def gives(self, words: Words) -> bool:
        """Whether the text has the words, one after another or in a clause that is alike."""
        if next(self._ends(words), None) is not None:
            return True
        counts = Counter(words)
        clauses = [clause.words for clause in self.clauses]
        nearest = max(clauses, key=lambda words: (counts & Counter(words)).total(), default=[])
        matcher = SequenceMatcher(None, words, nearest, autojunk=False)
        num_equal = sum(block.size for block in matcher.get_matching_blocks())
        if num_equal < MIN_CLAUSE_OVERLAP * len(words):
            return False
        differing = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
        return not any(
            _changes_meaning(words[start:stop], nearest[start_other:stop_other])
            for _, start, stop, start_other, stop_other in differing
            if not (start == stop and (not start or start == len(words)))
        )

    def _ends(self, words: Words) -> Iterator[int]:
        """Positions in `joined` at which the words end, wherever they start and end at a word."""
        joined = "".join(words)
        start = self.joined.find(joined)
        while start >= 0:
            end = start + len(joined)
            if _contains(self.starts, start) and _contains(self.starts, end):
                yield end
            start = self.joined.find(joined, start + 1)


def _changes_meaning(removed: Words, added: Words) -> bool:
    """Whether a word of MEANING_WORDS is replaced, or is added or left out and not implied."""
    if removed and added:
        return bool(MEANING_WORDS & ({*removed} ^ {*added}))
    return bool((MEANING_WORDS - _IMPLIED) & {*removed, *added})


def _have_same_words(words: Words, others: Words) -> bool:
    """Whether two clauses have the same words in any order, but for typing errors."""
    counts, other_counts = Counter(words), Counter(others)
    removed = sorted((counts - other_counts).elements())
    added = sorted((other_counts - counts).elements())
    return len(removed) == len(added) and all(map(is_same_word, removed, added))


def _positions(parts: Iterable[str]) -> list[int]:
    return [0, *accumulate(map(len, parts))]


def _contains(positions: list[int], position: int) -> bool:
    index = bisect_left(positions, position)
    return index < len(positions) and positions[index] == position
