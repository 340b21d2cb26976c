"""Text that repeats itself: equal or nearly equal sentences and paragraphs, and runs of tokens.

A sentence that occurs a third time counts as repeated if it has the same numbers, signs and
variables, and most of its words: "For n = 3: 10 is no square." does not repeat "For n = 2: 5 is
no square."
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from slowthink.curation.gate.text import Fault, GatedText, fault_at
from slowthink.forcing.machine import is_loop
from slowthink.records import LoopRule

REASON = "the text repeats itself"
END_RULE = LoopRule(max_period=64, repeats=4, min_tokens=96)
"""A repeated run of words and signs at the end."""
MIN_LETTERS = 130
"""Characters without spaces, CJK ones counted as three, repeated without much in between."""
OTHER_TEXT_WEIGHT = 3
"""Each character of other text in between outweighs so many repeated ones."""
MAX_DIFFERENCE = 0.35
"""Largest share of the words, fillers left out, by which nearly equal sentences differ."""
MAX_UNIT_PIECES = 40
"""A longer sentence is cut into pieces of so many words or CJK characters."""
MAX_KINDS = 60
"""Sentences with the same signs are compared with this many kinds of them, newest first."""

_BREAK = re.compile(
    r"(?<![:：\[{&=,])\n+(?!\s*(?:\\\[|\\\]|\$\$|\\end|&))|(?<=[.!?])\s+|(?<=[。！？；])"
)
"""The end of a sentence or line; a displayed formula belongs to the line before it."""
_CJK = "\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W\d_]+|\d+|[^\w\s]")
_PIECE = re.compile(rf"[{_CJK}]+|[^\s{_CJK}]+")
_SYLLABLES = re.compile(
    rf"([^\W\d_{_CJK}]{{1,6}}?)\1{{40}}|([^\W\d_{_CJK}]{{2,12}}\W{{1,3}})\2{{30}}"
    rf"|([{_CJK}]{{1,6}}?)\3{{20}}"
)
_COUNTER = re.compile(
    r"\W*(?:[A-Z][a-z]+ \d{1,3}(?:[.:)]|(?= ))|\d{1,3}[.:)]|第(?:\d{1,3}"
    r"|[一二三四五六七八九十]{1,3})"
    r"[次遍轮回步][^：:，,\n]{0,4}[：:，,])\s*"
)
"""The number of an attempt, check or item at its start."""
MIN_COUNTED_BYTES = 40
"""A longer sentence repeats another one even if the number before it differs."""
_EDGES = ".,;:!?()\"'“”‘’，。；：！？（）、*"
_NUMERAL_WORDS = (
    "one two three four five six seven eight nine ten first second third fourth fifth sixth "
    "seventh eighth ninth tenth next last left right"
)
_NUMERALS = frozenset(_NUMERAL_WORDS.split())
_CHINESE_NUMERAL = re.compile(r"第[一二三四五六七八九十百]+|[甲乙丙丁左右上下]")
_FILLER_WORDS = (
    "a an the and or but so of to in on at for is are be was it that this then now again once "
    "more all just really quite very maybe perhaps hmm wait okay ok well yes no also still about i "
    "we me let let's us my our should could would can will"
)
_FILLERS = frozenset(_FILLER_WORDS.split())
"""Words by which repetitions of the same sentence differ."""


def find_loop(text: GatedText) -> Fault | None:
    """The place where the thinking or the response begins to repeat itself."""
    for part, content in text.parts():
        position = loop_position(content)
        if position is not None:
            return fault_at(REASON, part, content, position)
    return None


def loop_position(text: str) -> int | None:
    """Where repeated text begins; None if the text does not repeat itself."""
    tail = [match.group() for match in _TOKEN.finditer(text, max(0, len(text) - 4000))]
    numbers: dict[str, int] = {}
    if not _is_row(set(tail[-END_RULE.min_tokens :])) and is_loop(
        [numbers.setdefault(token, len(numbers)) for token in tail], END_RULE
    ):
        return max(0, len(text) - 200)
    syllables = _SYLLABLES.search(text, max(0, len(text) - 4000))
    if syllables is not None:
        return syllables.start()
    return _repeated_span(list(_units(text)))


def _is_row(tokens: set[str]) -> bool:
    """Whether text of these tokens is a line, or part of a board or a matrix."""
    return len(tokens) <= 2 and all(len(token) == 1 for token in tokens) and (
        len(tokens) == 1 or all(map(str.isalnum, tokens))
    )  # fmt: skip


@dataclass(slots=True)
class _Unit:
    """A sentence, a line, or a piece of a long one."""

    position: int
    """Where its sentence begins."""
    weight: int = 0
    signs: list[str] = field(default_factory=list)
    """Numbers, numerals, variables and pieces of formulas, in order."""
    words: set[str] = field(default_factory=set)
    """Other words; of CJK text, pairs of characters."""
    num_pieces: int = 0
    num_seen: int = 0
    """How often it occurred, exactly or nearly, if it was the first."""

    def add(self, piece: str) -> None:
        if "\u3040" <= piece[0] <= "\u9fff":
            self.weight += 3 * len(piece) if len(set(piece)) > 2 else 0  # a row of a board
            self.num_pieces += len(piece)
            self.signs.extend(_CHINESE_NUMERAL.findall(piece))
            self.words.update(piece[i : i + 2] for i in range(max(1, len(piece) - 1)))
            return
        self.weight += len(piece)
        self.num_pieces += 1
        word, is_sign = _read_piece(piece)
        if is_sign:
            self.signs.append(word)
        elif word:
            self.words.add(word)


@functools.lru_cache(maxsize=1 << 16)
def _read_piece(piece: str) -> tuple[str, bool]:
    """A piece without punctuation around it, and whether it is a number, variable or formula."""
    word = piece.strip(_EDGES).lower()
    is_word = word.replace("'", "").replace("-", "").isalpha() and len(word) > 1
    return word, bool(word) and (not is_word or word in _NUMERALS)


def _units(text: str) -> Iterator[_Unit]:
    start = 0
    breaks = [(match.start(), match.end()) for match in _BREAK.finditer(text)]
    for end, following in [*breaks, (len(text), len(text))]:
        unit = _Unit(start)
        counter = _COUNTER.match(text, start, end)
        is_counted = counter and len(text[counter.end() : end].encode()) >= MIN_COUNTED_BYTES
        begin = counter.end() if counter and is_counted else start
        for piece in _PIECE.findall(text, begin, end):
            unit.add(piece)
            if unit.num_pieces >= MAX_UNIT_PIECES:
                yield unit
                unit = _Unit(start)
        if unit.num_pieces:
            yield unit
        start = following


def _repeated_span(units: list[_Unit]) -> int | None:
    """Where the heaviest stretch of repeated sentences begins; None if it is too light. A stretch
    gains the characters of sentences seen twice before, twice those of sentences seen more often,
    and loses those of others."""
    best, total, start = 0.0, 0.0, 0
    best_start: int | None = None
    for unit, factor in zip(units, _repetitions(units), strict=True):
        if total <= 0:
            total, start = 0.0, unit.position
        total += unit.weight * (factor or -OTHER_TEXT_WEIGHT)
        if total > best:
            best, best_start = total, start
    return best_start if best >= MIN_LETTERS else None


def _repetitions(units: list[_Unit]) -> Iterator[int]:
    """For each sentence: 1 if it or one nearly equal occurred twice before, 2 if exactly this one
    occurred more often, else 0."""
    kinds: dict[tuple[str, ...], list[_Unit]] = {}
    for unit in units:
        same_signs = kinds.setdefault(tuple(unit.signs), [])
        recent = reversed(same_signs[-MAX_KINDS:])
        kind = next((kind for kind in recent if _is_near(unit.words, kind.words)), None)
        if kind is None:
            same_signs.append(kind := unit)
        kind.num_seen += 1
        most = 2 if kind.words == unit.words else 1
        yield min(most, max(0, kind.num_seen - 2))


def _is_near(words: set[str], others: set[str]) -> bool:
    if words == others:
        return True
    num_different = len((words ^ others) - _FILLERS)
    return num_different <= MAX_DIFFERENCE * len((words | others) - _FILLERS)
