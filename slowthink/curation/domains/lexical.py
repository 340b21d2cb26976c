"""A text's class by the words in it, English and Chinese, without a model.

    label_texts(load_taxonomy(), ["Find all primes p with p + 2 prime."])  # [Label(code="11")]

A class's score is BM25 turned round (Robertson and Zaragoza 2009, eq. 3.15, k1 = 1.2, b = 0): the
classes' words are the documents' terms, weighted by in how few classes they stand; the text asks.
Phrases weigh more than words, hints a third. No word found: no label.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Sequence

from slowthink.curation.domains.taxonomy import DomainClass, Label, Taxonomy

TOKEN = re.compile(r"\\?[a-z][a-z']*")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SATURATION = 1.2
"""k1: how soon more of one word says no more."""
HINT_WEIGHT = 1 / 3
PHRASE_WEIGHT = 0.5
"""Each word of a phrase after the first adds this much; so do two Chinese characters after two."""
MIN_PREFIX = 3
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"))

Weights = tuple[tuple[int, float], ...]
"""(class, weight) pairs of one word."""


def label_texts(taxonomy: Taxonomy, texts: Sequence[str]) -> list[Label]:
    """The class of each text; ties go to the lower code."""
    index = _index(taxonomy)
    codes = [one.code for one in taxonomy.classes]
    found = []
    for text in texts:
        scores = index.scores(text)
        best = max(scores, key=lambda place: (scores[place], -place), default=None)
        label = Label(None, "no word of any class") if best is None else Label(codes[best])
        found.append(label)
    return found


@functools.lru_cache(maxsize=1 << 18)
def stem(token: str) -> str:
    """The token without a plural's or a possessive's ending; crude, the same for both sides."""
    token = token.removesuffix("'s").rstrip("'") or token
    for ending, other in _ENDINGS:
        if token.endswith(ending) and len(token) > len(ending) + 1:
            return token.removesuffix(ending) + other
    if len(token) > 3 and token.endswith("s") and token[-2] not in "sui":
        return token[:-1]
    return token


class _Entries(dict[str, tuple[tuple[tuple[str, ...], int], ...]]):
    """The terms that begin with a token, as (further stems, term); filled as tokens come."""

    def __init__(self, terms: Sequence[str]) -> None:
        super().__init__()
        self._by_stem: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        self._prefixes: list[tuple[str, int]] = []
        for number, term in enumerate(terms):
            if term.endswith("*"):
                self._prefixes.append((term[:-1], number))
            elif stems := [stem(token) for token in TOKEN.findall(term)]:
                self._by_stem.setdefault(stems[0], []).append((tuple(stems[1:]), number))

    def __missing__(self, token: str) -> tuple[tuple[tuple[str, ...], int], ...]:
        begun: list[tuple[tuple[str, ...], int]] = [
            ((), number) for prefix, number in self._prefixes if token.startswith(prefix)
        ]
        found = tuple(self._by_stem.get(stem(token), []) + begun)
        if len(self) < 1_000_000:
            self[token] = found
        return found


class _Index:
    """All terms of a taxonomy, found in a text in one pass."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        weights = _weights(taxonomy)
        self._weights = list(weights.values())
        terms = list(weights)
        self._entries = _Entries(["" if CHINESE.search(term) else term for term in terms])
        self._chinese: dict[str, list[tuple[str, int]]] = {}
        for number, term in enumerate(terms):
            if CHINESE.search(term):
                self._chinese.setdefault(term[0], []).append((term, number))

    def scores(self, text: str) -> dict[int, float]:
        """Score by place of the class; classes without a word are not there."""
        text = text.lower()
        found: dict[int, int] = {}
        for number in self._terms(text):
            found[number] = found.get(number, 0) + 1
        scores: dict[int, float] = {}
        for number, count in found.items():
            filled = count * (SATURATION + 1) / (count + SATURATION)
            for place, weight in self._weights[number]:
                scores[place] = scores.get(place, 0.0) + weight * filled
        return scores

    def _terms(self, text: str) -> Iterable[int]:
        tokens = TOKEN.findall(text)
        for place, entries in enumerate(map(self._entries.__getitem__, tokens)):
            for rest, number in entries:
                if not rest or rest == tuple(map(stem, tokens[place + 1 : place + 1 + len(rest)])):
                    yield number
        if not text.isascii():
            for place, char in enumerate(text):
                for term, number in self._chinese.get(char, ()):
                    if text.startswith(term, place):
                        yield number


def _weights(taxonomy: Taxonomy) -> dict[str, Weights]:
    """The classes of each word with their weights; a word's idf is over classes."""
    found: dict[str, dict[int, float]] = {}
    for place, one in enumerate(taxonomy.classes):
        for term, weight in _terms_of(one):
            if not term:
                continue
            places = found.setdefault(term, {})
            places[place] = max(weight, places.get(place, 0.0))
    total = len(taxonomy.classes)
    return {
        term: tuple(
            (place, weight * math.log(1 + total / len(places)) * _size(term))
            for place, weight in places.items()
        )
        for term, places in found.items()
    }


def _terms_of(one: DomainClass) -> Iterable[tuple[str, float]]:
    for term in (*one.words, *one.words_zh, one.name, one.zh):
        yield _normal(term), 1.0
    for term in (*one.hints, *one.hints_zh):
        yield _normal(term), HINT_WEIGHT


def _normal(term: str) -> str:
    """A term in one form, so that it is one term in all classes."""
    term = term.lower().strip()
    if CHINESE.search(term) or (term.endswith("*") and len(term) > MIN_PREFIX):
        return term
    stems = [stem(token) for token in TOKEN.findall(term)]
    return " ".join(stems) if len(term) > 1 and len("".join(stems)) > 1 else ""


def _size(term: str) -> float:
    more = (len(term) - 2) / 2 if CHINESE.search(term) else term.count(" ")
    return 1 + PHRASE_WEIGHT * min(max(more, -0.5), 3)


@functools.lru_cache(maxsize=4)
def _index(taxonomy: Taxonomy) -> _Index:
    return _Index(taxonomy)
