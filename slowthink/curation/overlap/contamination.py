"""Texts that contain a test problem: copies, distinguished from templates with other numbers.

For a text and a test problem that share token n-grams (strict form), two coverages are computed:
the share of the problem's n-grams that are in the text, and the share of the text's n-grams that
are in the problem. If the larger one is high enough and the numbers agree, the text is a copy:

    Leak(kind="copy", item=EvaluationItem("math500", "37", …), score=1.0, of_item=1.0, of_text=0.83,
         run=21, span="how many vertical asymptotes does the graph of y = 2 x 2 + x - 6 have")

The n-grams of a problem below `min_tokens` are not specific enough: all of it must be in the text,
and be at least half of the text.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.evaluation_sets import EvaluationItem
from slowthink.curation.overlap.ngrams import BATCH_TEXTS, Postings
from slowthink.curation.overlap.tokens import (
    HashedBatch,
    Hashes,
    hash_tokens,
    mask_numbers,
    ngram_hashes,
    strict_tokens,
    text_hashes,
)
from slowthink.recipe import ContaminationConfig

MAX_PROBLEMS_PER_NGRAM = 64
"""An n-gram of more test problems than this is too unspecific and not looked up."""
CANDIDATE_SHARE = 0.5
"""Share of min_coverage: pairs with this coverage by looked-up n-grams are compared in full."""
MAX_CANDIDATES = 24
"""Maximum number of test problems compared with one text, nearest first."""
WINDOW = 2
"""Of a text over WINDOW + 1 times as long as a problem, the part around the match counts."""
SPAN_TOKENS = 40
Ids = list[int]
"""Hashes of tokens; odd ones are numbers."""
KINDS = ("run", "copy", "paraphrase", "template", "similar")
"""Kinds of leaks, gravest first: a shared word n-gram (s1's); the same text; the same meaning by
a judge's verdict; the same text but for the numbers; possibly the same meaning, by embeddings."""
DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
"""Asymptote code. Drawings resemble each other, so each is replaced by one number, its checksum."""


@dataclass(frozen=True)
class Leak:
    """A text and a test problem that are too similar."""

    kind: str
    """One of KINDS."""
    item: EvaluationItem
    score: float
    """The larger coverage, in [0, 1]; always 1 for s1; the cosine for kinds by meaning."""
    of_item: float
    """Share of the problem's n-grams that are in the text."""
    of_text: float
    """Share of the text's n-grams (of a long text's compared part) that are in the problem."""
    run: int
    """Length of the longest common token sequence."""
    span: str
    """That sequence in normal form, at most 40 tokens."""
    judge_reason: str = ""
    """The judge's reason for calling it a paraphrase."""


@dataclass(frozen=True)
class StrictIndex:
    """Test problems by their token n-grams; the same in every process."""

    items: tuple[EvaluationItem, ...]
    config: ContaminationConfig
    tokens: HashedBatch
    ngrams: Postings
    num_ngrams: NDArray[np.int64]
    """[num_items]: number of distinct n-grams that are looked up."""
    texts: Postings
    """Hashes of whole problems."""
    templates: Postings
    """Hashes of whole problems with their numbers masked."""

    @classmethod
    def of(cls, items: Sequence[EvaluationItem], config: ContaminationConfig) -> StrictIndex:
        """Build the index of these problems."""
        tokens = hash_tokens([_replace_drawings(item.text) for item in items])
        all_ngrams = ngram_hashes(tokens, config.shingle_tokens)
        is_long = (tokens.lengths >= config.min_tokens)[all_ngrams.owners]
        ngrams = Postings.of(all_ngrams.values[is_long], all_ngrams.owners[is_long])
        owners, _ = ngrams.texts_of(np.flatnonzero(ngrams.counts <= MAX_PROBLEMS_PER_NGRAM))
        numbers = np.arange(len(items))
        return cls(
            items=tuple(items),
            config=config,
            tokens=tokens,
            ngrams=ngrams,
            num_ngrams=np.bincount(owners, minlength=len(items)),
            texts=Postings.of(text_hashes(tokens), numbers),
            templates=Postings.of(text_hashes(mask_numbers(tokens)), numbers),
        )

    def leaks(self, texts: Sequence[str], *, contained: bool = True) -> list[tuple[Leak, ...]]:
        """The copies and templates of each text, nearest first.

        With `contained` a text that is contained in a problem is a leak too, not only a text that
        contains a problem. Chains of thought are checked without.
        """
        leaks: list[tuple[Leak, ...]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            batch = [_replace_drawings(text) for text in texts[start : start + BATCH_TEXTS]]
            tokens = hash_tokens(batch)
            candidates = self._candidates(tokens)
            for row, text in enumerate(batch):
                ids = tokens.row(row).tolist()
                compared = [
                    leak
                    for item in candidates.get(row, ())
                    if (leak := self._compare(text, ids, item, contained=contained))
                ]
                leaks.append(tuple(sorted(compared, key=_nearest_first)))
        return leaks

    # --- candidates -------------------------------------------------------------------------------

    def _candidates(self, tokens: HashedBatch) -> dict[int, list[int]]:
        """Row of a text → numbers of the test problems to compare it with, in order."""
        pairs = [self._by_ngrams(tokens)]
        pairs.append(_matches(self.texts, text_hashes(tokens)))
        pairs.append(_matches(self.templates, text_hashes(mask_numbers(tokens))))
        pairs.append(self._contained_short_problems(tokens))
        candidates: dict[int, list[int]] = {}
        for row, item in np.unique(np.concatenate(pairs, axis=1), axis=1).T.tolist():
            if self.tokens.lengths[item]:
                candidates.setdefault(row, []).append(item)
        return candidates

    def _by_ngrams(self, tokens: HashedBatch) -> NDArray[np.int64]:
        """[2, num_pairs]: rows of texts and problems that share enough distinct n-grams, at most
        MAX_CANDIDATES for each text."""
        ngrams = ngram_hashes(tokens, self.config.shingle_tokens)
        positions, slots = self.ngrams.find(ngrams.values)
        is_rare = self.ngrams.counts[slots] <= MAX_PROBLEMS_PER_NGRAM
        keys = np.unique(np.stack([ngrams.owners[positions[is_rare]], slots[is_rare]]), axis=1)
        owners, which = self.ngrams.texts_of(keys[1])
        pairs, shared = np.unique(keys[0][which] * len(self.items) + owners, return_counts=True)
        texts, items = np.divmod(pairs, max(1, len(self.items)))
        smaller = np.minimum(self.num_ngrams[items], ngrams.lengths[texts])
        share = shared / np.maximum(1, smaller)
        near = share >= CANDIDATE_SHARE * self.config.min_coverage
        texts, items, share = texts[near], items[near], share[near]
        order = np.lexsort((items, -share, texts))
        texts, items = texts[order], items[order]
        rank = np.arange(len(texts)) - np.searchsorted(texts, texts)
        return np.stack([texts, items])[:, rank < MAX_CANDIDATES]

    def _contained_short_problems(self, tokens: HashedBatch) -> NDArray[np.int64]:
        """[2, num_pairs]: rows of short texts, and problems that are at least half of them."""
        pairs = [np.zeros((2, 0), np.int64)]
        short = np.flatnonzero(tokens.lengths < 2 * self.config.min_tokens)
        lengths = set(self.tokens.lengths[self.tokens.lengths < self.config.min_tokens].tolist())
        for length in sorted(lengths - {0}):
            rows = short[(tokens.lengths[short] > length) & (tokens.lengths[short] <= 2 * length)]
            for shift in range(length + 1):
                fits = rows[tokens.lengths[rows] >= length + shift]
                starts = tokens.offsets[fits] + shift
                windows = tokens.values[starts[:, None] + np.arange(length)]
                positions, items = _matches(self.texts, text_hashes(_rows(windows)))
                pairs.append(np.stack([fits[positions], items]))
        return np.concatenate(pairs, axis=1)

    # --- one pair ---------------------------------------------------------------------------------

    def _compare(self, text: str, tokens: Ids, item: int, *, contained: bool) -> Leak | None:
        """The leak of a problem into a text; None if they are different enough."""
        problem = self.tokens.row(item).tolist()
        match, part = None, tokens
        if len(tokens) > (WINDOW + 1) * len(problem):
            match = _longest_match(tokens, problem)
            low = max(0, match.a - WINDOW // 2 * len(problem))
            part = tokens[low : match.a + match.size + WINDOW // 2 * len(problem)]
        of_item, of_text = self._coverage(problem, part), self._coverage(part, problem)
        allowed = [of_item]
        if contained and len(part) == len(tokens):
            allowed.append(of_text)
        kinds = [coverage.kind for coverage in allowed if coverage.kind]
        if not kinds:
            return None
        kind = min(kinds)  # copy before template
        match = match or _longest_match(tokens, problem)
        score = max(c.copied if kind == "copy" else c.masked for c in allowed)
        span = strict_tokens(text)[match.a : match.a + min(match.size, SPAN_TOKENS)]
        return Leak(
            kind, self.items[item], round(score, 4), round(of_item.copied, 4),
            round(of_text.copied, 4), match.size, " ".join(span),
        )  # fmt: skip

    def _coverage(self, inner: Ids, outer: Ids) -> _Coverage:
        width = self.config.shingle_tokens
        copied = _share_covered(inner, outer, width)
        masked_share = _share_covered(_masked(inner), _masked(outer), width)
        return _Coverage(copied, masked_share, self._kind(inner, outer, copied, masked_share))

    def _kind(self, inner: Ids, outer: Ids, copied: float, masked: float) -> str | None:
        """The kind of leak between a text and another one that covers it."""
        if len(inner) < self.config.min_tokens:
            if 2 * len(inner) < len(outer):
                return None
            copied, masked = float(copied == 1), float(masked == 1)
        if max(copied, masked) < self.config.min_coverage:
            return None
        numbers_agree = _share_of_numbers(inner, outer) >= self.config.min_numbers
        if copied >= self.config.min_coverage and numbers_agree:
            return "copy"
        return "template" if masked >= self.config.min_coverage and not numbers_agree else None


class _Coverage(NamedTuple):
    """How much of an inner text an outer text covers."""

    copied: float
    """Share of the inner text's n-grams that are in the outer text."""
    masked: float
    """The same share with all numbers masked."""
    kind: str | None


def _matches(index: Postings, hashes: Hashes) -> NDArray[np.int64]:
    """[2, num_pairs]: positions in `hashes` and the problems with the same hash, at most
    MAX_CANDIDATES for each."""
    positions, slots = index.find(hashes)
    items, which = index.texts_of(slots)
    is_first = np.arange(len(which)) - np.searchsorted(which, which) < MAX_CANDIDATES
    return np.stack([positions[which[is_first]], items[is_first]])


def _share_covered(inner: Ids, outer: Ids, width: int) -> float:
    """Share of the inner text's n-grams that are in the outer text."""
    width = min(width, len(inner))
    if len(outer) < width or not width:
        return 0.0
    outer_ngrams = set(_ngrams(outer, width))
    ngrams = list(_ngrams(inner, width))
    return sum(ngram in outer_ngrams for ngram in ngrams) / len(ngrams)


def _ngrams(tokens: Ids, width: int) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[start:] for start in range(width)), strict=False)


def _longest_match(tokens: Ids, problem: Ids) -> Match:
    return SequenceMatcher(None, tokens, problem, autojunk=False).find_longest_match()


def _replace_drawings(text: str) -> str:
    return DRAWING.sub(_checksum, text) if "[asy]" in text else text


def _checksum(drawing: re.Match[str]) -> str:
    return f" {10**10 + zlib.crc32(''.join(drawing[0].split()).encode('utf-8', 'replace'))} "


def _rows(values: Hashes) -> HashedBatch:
    """A matrix [rows, width] as a batch."""
    rows, width = values.shape
    return HashedBatch(values.reshape(-1), np.arange(rows + 1, dtype=np.int64) * width)


def _masked(tokens: Ids) -> Ids:
    return [1 if token & 1 else token for token in tokens]


def _share_of_numbers(inner: Ids, outer: Ids) -> float:
    """Share of the inner text's numbers, with repeats, that are in the outer text; 1 for none."""
    numbers, others = (Counter(token for token in part if token & 1) for part in (inner, outer))
    return (numbers & others).total() / numbers.total() if numbers else 1.0


def _nearest_first(leak: Leak) -> tuple[bool, float, int, str, str]:
    return leak.kind == "template", -leak.score, -leak.run, leak.item.benchmark, leak.item.id
