"""Leaks of test problems into texts: copies, as opposed to templates with other numbers.

For a text and a test problem that share token n-grams (strict form), two coverages are computed:
the share of the problem's n-grams that are in the text, and the share of the text's n-grams that
are in the problem. If the larger one is high enough, the numbers agree and the same is asked
(content.asks_the_same), the text is a copy:

    Leak(kind="copy", item=EvaluationItem("math500", "37", …), score=1.0, item_coverage=1.0,
         text_coverage=0.83, match_length=21, span="how many vertical asymptotes does the graph …")

The n-grams of a problem under `min_tokens` are not specific enough. The text must contain all of
it, and at least half of the text must be the problem.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from slowthink.curation.overlap.boilerplate import strip_answer_form, strip_boilerplate
from slowthink.curation.overlap.content import asks_the_same
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
"""A pair is compared in full if looked-up n-grams cover at least this share of `min_coverage`."""
MAX_CANDIDATES = 24
"""Maximum number of test problems compared with one text, nearest first."""
MATCH_MARGIN = 1
"""Of long texts, the longest match and this many problem lengths on either side are compared."""
MAX_SPAN_TOKENS = 40
Tokens = list[int]
"""Odd hashes are those of numbers."""
LEAK_KINDS = ("run", "copy", "paraphrase", "template", "similar")
"""Kinds of leaks, worst first: a shared word n-gram (s1's); the same text; the same meaning by a
judge's verdict; the same text except for its numbers or its question; possibly the same meaning, by
embeddings."""
DRAWING_PATTERN = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
"""Asymptote code. Drawings resemble each other, so each is replaced by one number, its checksum."""


@dataclass(frozen=True)
class Leak:
    """A text and a test problem that are too similar."""

    kind: str
    """One of LEAK_KINDS."""
    item: EvaluationItem
    score: float
    """In [0, 1]: the larger coverage; 1 for `run`; the cosine for `paraphrase` and `similar`."""
    item_coverage: float
    """Share of the problem's n-grams that are in the text."""
    text_coverage: float
    """Share of the text's n-grams (of a long text's compared part) that are in the problem."""
    match_length: int
    """Number of tokens of the longest common sequence."""
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
    """N-grams of the problems with at least `min_tokens` tokens."""
    num_ngrams: NDArray[np.int64]
    """[num_items]: number of distinct n-grams that are looked up."""
    texts: Postings
    """Hashes of whole problems."""
    templates: Postings
    """Hashes of whole problems with their numbers masked."""

    @classmethod
    def from_items(cls, items: Sequence[EvaluationItem], config: ContaminationConfig) -> Self:
        """Build the index of these problems."""
        tokens = hash_tokens([_compared_text(item.text) for item in items])
        ngrams = ngram_hashes(tokens, config.shingle_tokens)
        is_long = (tokens.lengths >= config.min_tokens)[ngrams.text_indices]
        postings = Postings.from_hashes(ngrams.values[is_long], ngrams.text_indices[is_long])
        is_rare = postings.counts <= MAX_PROBLEMS_PER_NGRAM
        item_indices, _ = postings.texts_with_keys(np.flatnonzero(is_rare))
        all_indices = np.arange(len(items))
        return cls(
            items=tuple(items),
            config=config,
            tokens=tokens,
            ngrams=postings,
            num_ngrams=np.bincount(item_indices, minlength=len(items)),
            texts=Postings.from_hashes(text_hashes(tokens), all_indices),
            templates=Postings.from_hashes(text_hashes(mask_numbers(tokens)), all_indices),
        )

    def find_leaks(self, texts: Sequence[str], *, both_ways: bool = True) -> list[tuple[Leak, ...]]:
        """The problems that each text contains, as copies or templates, nearest first.

        With `both_ways` also the problems that contain the text; False for chains of thought.
        """
        leaks: list[tuple[Leak, ...]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            batch = [_compared_text(text) for text in texts[start : start + BATCH_TEXTS]]
            tokens = hash_tokens(batch)
            candidates = self._find_candidates(tokens)
            for row, text in enumerate(batch):
                hashes = tokens.row(row).tolist()
                compared = [
                    self._compare(text, hashes, item_index, both_ways=both_ways)
                    for item_index in candidates.get(row, ())
                ]
                leaks.append(tuple(sorted(filter(None, compared), key=_nearest_first)))
        return leaks

    # --- candidates -------------------------------------------------------------------------------

    def _find_candidates(self, tokens: HashedBatch) -> dict[int, list[int]]:
        """Text index → indices of the test problems to compare the text with, in order."""
        pairs = (
            self._sharing_ngrams(tokens),
            _equal_hashes(self.texts, text_hashes(tokens)),
            _equal_hashes(self.templates, text_hashes(mask_numbers(tokens))),
            self._contained_short_problems(tokens),
        )
        candidates: dict[int, list[int]] = {}
        for text_index, item_index in np.unique(np.concatenate(pairs, axis=1), axis=1).T.tolist():
            if self.tokens.lengths[item_index]:
                candidates.setdefault(text_index, []).append(item_index)
        return candidates

    def _sharing_ngrams(self, tokens: HashedBatch) -> NDArray[np.int64]:
        """[2, num_pairs]: indices of the texts and of the problems that share enough distinct
        n-grams with them, at most MAX_CANDIDATES for each text."""
        ngrams = ngram_hashes(tokens, self.config.shingle_tokens)
        positions, key_indices = self.ngrams.find(ngrams.values)
        is_rare = self.ngrams.counts[key_indices] <= MAX_PROBLEMS_PER_NGRAM
        hits = np.stack([ngrams.text_indices[positions], key_indices])[:, is_rare]
        texts, keys = np.unique(hits, axis=1)
        items, which = self.ngrams.texts_with_keys(keys)
        pairs, num_shared = np.unique(texts[which] * len(self.items) + items, return_counts=True)
        texts, items = np.divmod(pairs, max(1, len(self.items)))
        smaller = np.minimum(self.num_ngrams[items], ngrams.lengths[texts])
        share = num_shared / np.maximum(1, smaller)
        is_near = share >= CANDIDATE_SHARE * self.config.min_coverage
        texts, items, share = texts[is_near], items[is_near], share[is_near]
        order = np.lexsort((items, -share, texts))
        texts, items = texts[order], items[order]
        rank = np.arange(len(texts)) - np.searchsorted(texts, texts)
        return np.stack([texts, items])[:, rank < MAX_CANDIDATES]

    def _contained_short_problems(self, tokens: HashedBatch) -> NDArray[np.int64]:
        """[2, num_pairs]: indices of short texts, and of problems that are half of them or more."""
        pairs = [np.zeros((2, 0), np.int64)]
        short = np.flatnonzero(tokens.lengths < 2 * self.config.min_tokens)
        lengths = set(self.tokens.lengths[self.tokens.lengths < self.config.min_tokens].tolist())
        for length in sorted(lengths - {0}):
            texts = short[(tokens.lengths[short] > length) & (tokens.lengths[short] <= 2 * length)]
            for shift in range(length + 1):
                long_enough = texts[tokens.lengths[texts] >= length + shift]
                starts = tokens.offsets[long_enough] + shift
                windows = tokens.values[starts[:, None] + np.arange(length)]
                positions, items = _equal_hashes(self.texts, text_hashes(_to_batch(windows)))
                pairs.append(np.stack([long_enough[positions], items]))
        return np.concatenate(pairs, axis=1)

    # --- one pair ---------------------------------------------------------------------------------

    def _compare(
        self, text: str, tokens: Tokens, item_index: int, *, both_ways: bool
    ) -> Leak | None:
        """The leak of a problem into a text; None if they are different enough."""
        problem = self.tokens.row(item_index).tolist()
        match, part = None, tokens
        if len(tokens) > (1 + 2 * MATCH_MARGIN) * len(problem):
            match = _longest_match(tokens, problem)
            margin = MATCH_MARGIN * len(problem)
            part = tokens[max(0, match.a - margin) : match.a + match.size + margin]
        of_item, of_text = self._coverage(problem, part), self._coverage(part, problem)
        considered = [of_item]
        if both_ways and len(part) == len(tokens):
            considered.append(of_text)
        kinds = [coverage.kind for coverage in considered if coverage.kind]
        if not kinds:
            return None
        kind = min(kinds)  # copy before template
        if kind == "copy" and tokens != problem:
            item_text = _compared_text(self.items[item_index].text)
            pairs = ((item_text, text), (text, item_text))
            is_copy = any(
                coverage.kind == "copy" and asks_the_same(*pair)
                for coverage, pair in zip(considered, pairs, strict=False)
            )
            kind = "copy" if is_copy else "template"
        match = match or _longest_match(tokens, problem)
        score = max(c.copied if kind == "copy" else c.masked for c in considered)
        span = strict_tokens(text)[match.a : match.a + min(match.size, MAX_SPAN_TOKENS)]
        return Leak(
            kind, self.items[item_index], round(score, 4), round(of_item.copied, 4),
            round(of_text.copied, 4), match.size, " ".join(span),
        )  # fmt: skip

    def _coverage(self, inner: Tokens, outer: Tokens) -> _Coverage:
        width = self.config.shingle_tokens
        copied = _share_covered(inner, outer, width)
        masked = _share_covered(_mask_token_numbers(inner), _mask_token_numbers(outer), width)
        return _Coverage(copied, masked, self._kind(inner, outer, copied, masked))

    def _kind(self, inner: Tokens, outer: Tokens, copied: float, masked: float) -> str | None:
        """copy, template or None, given the shares of `inner` that `outer` covers (_Coverage)."""
        if len(inner) < self.config.min_tokens:
            if 2 * len(inner) < len(outer):
                return None
            copied, masked = float(copied == 1), float(masked == 1)
        if max(copied, masked) < self.config.min_coverage:
            return None
        numbers_agree = _share_of_numbers_covered(inner, outer) >= self.config.min_numbers
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


def _equal_hashes(index: Postings, hashes: Hashes) -> NDArray[np.int64]:
    """[2, num_pairs]: positions in `hashes`, and indices of the problems with the same hash, at
    most MAX_CANDIDATES for each."""
    positions, key_indices = index.find(hashes)
    items, which = index.texts_with_keys(key_indices)
    is_first = np.arange(len(which)) - np.searchsorted(which, which) < MAX_CANDIDATES
    return np.stack([positions[which[is_first]], items[is_first]])


def _share_covered(inner: Tokens, outer: Tokens, width: int) -> float:
    """Share of the inner text's n-grams that are in the outer text."""
    width = min(width, len(inner))
    if len(outer) < width or not width:
        return 0.0
    outer_ngrams = set(_ngrams(outer, width))
    ngrams = list(_ngrams(inner, width))
    return sum(ngram in outer_ngrams for ngram in ngrams) / len(ngrams)


def _ngrams(tokens: Tokens, width: int) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[start:] for start in range(width)), strict=False)


def _longest_match(tokens: Tokens, problem: Tokens) -> Match:
    return SequenceMatcher(None, tokens, problem, autojunk=False).find_longest_match()


def _compared_text(text: str) -> str:
    """The text without boilerplate, and with a number in place of each drawing."""
    return _replace_drawings(strip_answer_form(strip_boilerplate(text)))


def _replace_drawings(text: str) -> str:
    return DRAWING_PATTERN.sub(_checksum_of_drawing, text) if "[asy]" in text else text


def _checksum_of_drawing(drawing: re.Match[str]) -> str:
    return f" {10**10 + zlib.crc32(''.join(drawing[0].split()).encode('utf-8', 'replace'))} "


def _to_batch(values: Hashes) -> HashedBatch:
    """A matrix [num_texts, num_tokens] as a batch."""
    rows, width = values.shape
    return HashedBatch(values.reshape(-1), np.arange(rows + 1, dtype=np.int64) * width)


def _mask_token_numbers(tokens: Tokens) -> Tokens:
    return [1 if token & 1 else token for token in tokens]


def _share_of_numbers_covered(inner: Tokens, outer: Tokens) -> float:
    """Share of the inner text's numbers, with repeats, that are in the outer text; 1 if the inner
    text has none."""
    numbers, available = (Counter(token for token in text if token & 1) for text in (inner, outer))
    return (numbers & available).total() / numbers.total() if numbers else 1.0


def _nearest_first(leak: Leak) -> tuple[bool, float, int, str, str]:
    item = leak.item
    return leak.kind == "template", -leak.score, -leak.match_length, item.benchmark, item.id
