"""A text's class by its words, English and Chinese, without a model.

    label_texts(load_taxonomy(), ["Find all primes p with p + 2 prime."])  # [Label(code="11")]

A class's score is BM25 (Robertson and Zaragoza 2009, eq. 3.15, k1 = 1.2, b = 0) with the roles
swapped: a class's words are a document's terms, weighted by inverse class frequency, and the text
is the query. Phrases weigh more than words, hints a third. A text without any such word gets no
label.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from slowthink.curation.domains.taxonomy import DomainClass, Label, Taxonomy

TOKEN = re.compile(r"\\?[a-z][a-z']*")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SATURATION = 1.2
"""k1: how fast repetitions of one word saturate."""
HINT_WEIGHT = 1 / 3
PHRASE_WEIGHT = 0.5
"""Added for each word of a phrase after the first, and for two Chinese characters after two."""
MIN_PREFIX = 3
_ENDINGS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"))

Weights = tuple[tuple[int, float], ...]
"""(class, weight) pairs of one word."""


def label_texts(taxonomy: Taxonomy, texts: Sequence[str]) -> list[Label]:
    """The class of each text; ties go to the lower code."""
    index = _index(taxonomy)
    labels = []
    for text in texts:
        scores = index.scores(text)
        best = max(scores, key=lambda number: (scores[number], -number), default=None)
        labels.append(
            Label(None, "no word of any class")
            if best is None
            else Label(taxonomy.classes[best].code)
        )
    return labels


@functools.lru_cache(maxsize=1 << 18)
def stem(token: str) -> str:
    """The token without a plural or possessive ending. Crude, but the same for texts and terms."""
    token = token.removesuffix("'s").rstrip("'") or token
    for ending, replacement in _ENDINGS:
        if token.endswith(ending) and len(token) > len(ending) + 1:
            return token.removesuffix(ending) + replacement
    if len(token) > 3 and token.endswith("s") and token[-2] not in "sui":
        return token[:-1]
    return token


class _Entries(dict[str, tuple[tuple[tuple[str, ...], int], ...]]):
    """Token → the terms that begin with it, as (remaining stems, term number). A cache."""

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
        prefixes: list[tuple[tuple[str, ...], int]] = [
            ((), number) for prefix, number in self._prefixes if token.startswith(prefix)
        ]
        entries = tuple(self._by_stem.get(stem(token), []) + prefixes)
        if len(self) < 1_000_000:
            self[token] = entries
        return entries


class _Index:
    """Finds all terms of a taxonomy in a text in one pass."""

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
        """Scores by number of the class, without classes that have no word in the text."""
        scores: dict[int, float] = {}
        for term, count in Counter(self._terms(text.lower())).items():
            saturated = count * (SATURATION + 1) / (count + SATURATION)
            for number, weight in self._weights[term]:
                scores[number] = scores.get(number, 0.0) + weight * saturated
        return scores

    def _terms(self, text: str) -> Iterable[int]:
        """The number of each term in the text, once per occurrence."""
        tokens = TOKEN.findall(text)
        for start, entries in enumerate(map(self._entries.__getitem__, tokens), start=1):
            for stems, number in entries:
                if not stems or stems == tuple(map(stem, tokens[start : start + len(stems)])):
                    yield number
        if not text.isascii():
            for start, char in enumerate(text):
                for term, number in self._chinese.get(char, ()):
                    if text.startswith(term, start):
                        yield number


def _weights(taxonomy: Taxonomy) -> dict[str, Weights]:
    """The classes of each term with their weights; a term's idf is over classes."""
    by_term: dict[str, dict[int, float]] = {}
    for number, domain in enumerate(taxonomy.classes):
        for term, weight in _terms_of(domain):
            if term:
                classes = by_term.setdefault(term, {})
                classes[number] = max(weight, classes.get(number, 0.0))
    total = len(taxonomy.classes)
    return {
        term: tuple(
            (number, weight * math.log(1 + total / len(classes)) * _size(term))
            for number, weight in classes.items()
        )
        for term, classes in by_term.items()
    }


def _terms_of(domain: DomainClass) -> Iterable[tuple[str, float]]:
    for term in (*domain.words, *domain.words_zh, domain.name, domain.zh):
        yield _normal(term), 1.0
    for term in (*domain.hints, *domain.hints_zh):
        yield _normal(term), HINT_WEIGHT


def _normal(term: str) -> str:
    """A term's normal form, the same in all classes."""
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
