"""Label texts with the class whose words they contain, English and Chinese, without a model.

    label_texts(load_taxonomy(), ["Find all primes p with p + 2 prime."])  # [Label(code="11")]

A class's score is BM25 (Robertson and Zaragoza 2009, eq. 3.15, k1 = 1.2, b = 0) with the roles
swapped: a class's words are a document's terms, weighted by inverse class frequency, and the text
is the query. Phrases weigh more than words, and hints a third of that. A text without any word of a
class gets no label. Of texts that nearly all are of one class, as school problems are, the class
says nothing: `divide_large_classes` labels them by its parts.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from slowthink.curation.domains.taxonomy import DomainClass, Label, Taxonomy

TOKEN_PATTERN = re.compile(r"\\?[a-z][a-z']*")
CHINESE_CHARACTER = re.compile(r"[\u4e00-\u9fff]")
BM25_K1 = 1.2
"""k1: how fast repetitions of one word saturate."""
HINT_WEIGHT = 1 / 3
PHRASE_WEIGHT = 0.5
"""Added for each word of a phrase after the first, and for every two Chinese characters after the
first two."""
MIN_PREFIX_LENGTH = 3
MAX_SHARE = 0.5
"""Share of all labelled texts above which a class is divided into its parts."""
_PLURAL_ENDINGS = (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"))

ClassWeights = tuple[tuple[int, float], ...]
"""(class index, weight) pairs of one term."""


def label_texts(taxonomy: Taxonomy, texts: Sequence[str]) -> list[Label]:
    """The class of each text; ties go to the lower code."""
    terms = _cached_index(taxonomy)
    labels = []
    for text in texts:
        scores = terms.scores(text)
        best = max(scores, key=lambda index: (scores[index], -index), default=None)
        code = None if best is None else taxonomy.classes[best].code
        labels.append(Label(code, "" if code else "no word of any class"))
    return labels


def divide_large_classes(
    taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Label]
) -> tuple[list[Label], list[str]]:
    """The labels, those of a class that swallows the texts by its parts; and such classes' codes.

    A class with over MAX_SHARE of the labelled texts says nothing about most of them. If the
    taxonomy has parts of it, its texts are labelled again by these; a text without a word of any
    part keeps its label.
    """
    labels = list(labels)
    counts = Counter(label.code for label in labels if label.code is not None)
    divided = [
        domain
        for domain in taxonomy.classes
        if domain.parts and counts[domain.code] > MAX_SHARE * counts.total()
    ]
    for domain in divided:
        rows = [row for row, label in enumerate(labels) if label.code == domain.code]
        parts = Taxonomy(f"{taxonomy.name}: {domain.code}", domain.parts)
        for row, label in zip(rows, label_texts(parts, [texts[row] for row in rows]), strict=True):
            labels[row] = label if label.code else labels[row]
    return labels, [domain.code for domain in divided]


@functools.lru_cache(maxsize=1 << 18)
def stem(token: str) -> str:
    """The token without a plural or possessive ending; a crude rule for both texts and terms."""
    token = token.removesuffix("'s").rstrip("'") or token
    for ending, replacement in _PLURAL_ENDINGS:
        if token.endswith(ending) and len(token) > len(ending) + 1:
            return token.removesuffix(ending) + replacement
    if len(token) > 3 and token.endswith("s") and token[-2] not in "sui":
        return token[:-1]
    return token


class _TermsByFirstToken(dict[str, tuple[tuple[tuple[str, ...], int], ...]]):
    """Token → the terms that begin with it, as (remaining stems, term index). A cache."""

    def __init__(self, terms: Sequence[str]) -> None:
        super().__init__()
        self._by_stem: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        self._prefixes: list[tuple[str, int]] = []
        for term_index, term in enumerate(terms):
            if term.endswith("*"):
                self._prefixes.append((term[:-1], term_index))
            elif stems := [stem(token) for token in TOKEN_PATTERN.findall(term)]:
                self._by_stem.setdefault(stems[0], []).append((tuple(stems[1:]), term_index))

    def __missing__(self, token: str) -> tuple[tuple[tuple[str, ...], int], ...]:
        prefixes: list[tuple[tuple[str, ...], int]] = [
            ((), term_index) for prefix, term_index in self._prefixes if token.startswith(prefix)
        ]
        terms = tuple(self._by_stem.get(stem(token), []) + prefixes)
        if len(self) < 1_000_000:
            self[token] = terms
        return terms


class _TermIndex:
    """Finds all terms of a taxonomy in a text in one pass."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        weights = _class_weights(taxonomy)
        self._weights = list(weights.values())
        terms = list(weights)
        self._by_token = _TermsByFirstToken(
            ["" if CHINESE_CHARACTER.search(term) else term for term in terms]
        )
        self._by_character: dict[str, list[tuple[str, int]]] = {}
        for term_index, term in enumerate(terms):
            if CHINESE_CHARACTER.search(term):
                self._by_character.setdefault(term[0], []).append((term, term_index))

    def scores(self, text: str) -> dict[int, float]:
        """Scores by class index, without classes that have no word in the text."""
        scores: dict[int, float] = {}
        for term_index, count in Counter(self._find_terms(text.lower())).items():
            saturated = count * (BM25_K1 + 1) / (count + BM25_K1)
            for class_index, weight in self._weights[term_index]:
                scores[class_index] = scores.get(class_index, 0.0) + weight * saturated
        return scores

    def _find_terms(self, text: str) -> Iterable[int]:
        """The index of each term in the text, once per occurrence."""
        tokens = TOKEN_PATTERN.findall(text)
        for start, terms in enumerate(map(self._by_token.__getitem__, tokens), start=1):
            for stems, term_index in terms:
                if not stems or stems == tuple(map(stem, tokens[start : start + len(stems)])):
                    yield term_index
        if not text.isascii():
            for start, char in enumerate(text):
                for term, term_index in self._by_character.get(char, ()):
                    if text.startswith(term, start):
                        yield term_index


def _class_weights(taxonomy: Taxonomy) -> dict[str, ClassWeights]:
    """The classes of each term with their weights; a term's idf is over classes."""
    weights: dict[str, dict[int, float]] = {}
    for class_index, domain in enumerate(taxonomy.classes):
        for term, weight in _weighted_terms(domain):
            if term:
                of_classes = weights.setdefault(term, {})
                of_classes[class_index] = max(weight, of_classes.get(class_index, 0.0))
    num_classes = len(taxonomy.classes)
    return {
        term: tuple(
            (index, weight * math.log(1 + num_classes / len(of_classes)) * _length_weight(term))
            for index, weight in of_classes.items()
        )
        for term, of_classes in weights.items()
    }


def _weighted_terms(domain: DomainClass) -> Iterable[tuple[str, float]]:
    for term in (*domain.words, *domain.words_zh, domain.name, domain.zh):
        yield _normalise_term(term), 1.0
    for term in (*domain.hints, *domain.hints_zh):
        yield _normalise_term(term), HINT_WEIGHT


def _normalise_term(term: str) -> str:
    """The term's normal form, which is equal for equal terms of two classes; "" to ignore it."""
    term = term.lower().strip()
    if CHINESE_CHARACTER.search(term) or (term.endswith("*") and len(term) > MIN_PREFIX_LENGTH):
        return term
    stems = [stem(token) for token in TOKEN_PATTERN.findall(term)]
    return " ".join(stems) if len(term) > 1 and len("".join(stems)) > 1 else ""


def _length_weight(term: str) -> float:
    """Factor for the length of a term: 1 for a word or two Chinese characters, at most 2.5."""
    num_more = (len(term) - 2) / 2 if CHINESE_CHARACTER.search(term) else term.count(" ")
    return 1 + PHRASE_WEIGHT * min(max(num_more, -0.5), 3)


@functools.lru_cache(maxsize=4)
def _cached_index(taxonomy: Taxonomy) -> _TermIndex:
    return _TermIndex(taxonomy)
