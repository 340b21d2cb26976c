"""Which texts hold a problem that is tested on: copies, told apart from templates with other numbers.

Of a text and a tested problem that share runs of tokens (strict form), both directions are weighed:
the share of the problem's runs that the text holds, and the share of the text's that the problem
holds. Where the better one is high enough and the numbers agree, it is a copy:

    Leak(kind="copy", item=ExamItem("math500", "37"), score=1.0, of_item=1.0, of_text=0.83, run=21,
         span="how many vertical asymptotes does the graph of y = 2 x 2 + x - 6 have")

A problem below `min_tokens` says too little by its runs: it must be there whole, and make up half
of the text.
"""  # noqa: E501

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

from slowthink.curation.overlap.ngrams import BATCH_TEXTS, Postings
from slowthink.curation.overlap.tokens import (
    Hashed,
    Hashes,
    hashed,
    masked,
    shingles,
    strict_tokens,
    whole,
)
from slowthink.recipe import ContaminationConfig

MAX_HOLDERS = 64
"""A run that more tested problems hold says nothing about one of them, and is not looked up."""
CANDIDATE_SHARE = 0.5
"""Of min_coverage: pairs that share this much by looked-up runs are weighed in full."""
MAX_CANDIDATES = 24
"""ExamItem problems weighed for one text, nearest first."""
WINDOW = 2
"""Of a text longer than this many times a problem, only the part about the longest run counts."""
SPAN_TOKENS = 40
Ids = list[int]
"""Hashes of tokens; odd ones are numbers."""
KINDS = ("run", "copy", "paraphrase", "template", "similar")
"""What a text and a tested problem share, gravest first: a run of words (s1's); all of it; its
meaning, as a judge says; all but the numbers; perhaps its meaning, as embeddings say."""
DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
"""Asymptote code: so alike from drawing to drawing that it counts as one number, its checksum."""


@dataclass(frozen=True)
class EvaluationItem:
    """One problem that is tested on."""

    benchmark: str
    id: str
    """Its address or row in the set."""
    text: str


@dataclass(frozen=True)
class Leak:
    """A text and a tested problem that are too alike."""

    kind: str
    """One of KINDS."""
    item: EvaluationItem
    score: float
    """The larger of the two coverages, in [0, 1]; s1 has no score but 1; by meaning: the cosine."""
    of_item: float
    """Share of the problem's runs that the text holds."""
    of_text: float
    """Share of the text's runs (about the place, in a long one) that the problem holds."""
    run: int
    """Tokens of the longest common run."""
    span: str
    """That run, in normal form, 40 tokens at most."""
    said: str = ""
    """Of a paraphrase: why the judge calls it one."""


@dataclass(frozen=True)
class StrictIndex:
    """ExamItem problems by the runs of their tokens; the same in every process."""

    items: tuple[EvaluationItem, ...]
    config: ContaminationConfig
    tokens: Hashed
    runs: Postings
    num_runs: NDArray[np.int64]
    """[num_items]: distinct runs that are looked up."""
    wholes: Postings
    """All of a problem's tokens as one hash."""
    templates: Postings
    """The same with its numbers masked."""

    @classmethod
    def of(cls, items: Sequence[EvaluationItem], config: ContaminationConfig) -> StrictIndex:
        """An index of these problems."""
        tokens = hashed([_drawn_once(item.text) for item in items])
        found = shingles(tokens, config.shingle_tokens)
        long = (tokens.lengths >= config.min_tokens)[found.owners]
        runs = Postings.of(found.values[long], found.owners[long])
        holders, _ = runs.texts_of(np.flatnonzero(runs.counts <= MAX_HOLDERS))
        numbers = np.arange(len(items))
        return cls(
            tuple(items), config, tokens, runs, np.bincount(holders, minlength=len(items)),
            Postings.of(whole(tokens), numbers), Postings.of(whole(masked(tokens)), numbers),
        )  # fmt: skip

    def leaks(self, texts: Sequence[str], *, contained: bool = True) -> list[tuple[Leak, ...]]:
        """For each text its copies and templates, nearest first.

        Without `contained` a text that a problem holds is no leak, only one that holds a problem:
        for chains of thought.
        """
        found: list[tuple[Leak, ...]] = []
        for start in range(0, len(texts), BATCH_TEXTS):
            part = [_drawn_once(text) for text in texts[start : start + BATCH_TEXTS]]
            tokens = hashed(part)
            pairs = self._candidates(tokens)
            for row, text in enumerate(part):
                ids = tokens.row(row).tolist()
                weighed = [
                    leak
                    for item in pairs.get(row, ())
                    if (leak := self._weigh(text, ids, item, contained=contained))
                ]
                found.append(tuple(sorted(weighed, key=_nearest_first)))
        return found

    def held_by(self, chains: Sequence[str]) -> list[tuple[Leak, ...]]:
        """`leaks` for chains of thought, in which a problem may lie but which lie in none."""
        return self.leaks(chains, contained=False)

    # --- candidates -------------------------------------------------------------------------------

    def _candidates(self, tokens: Hashed) -> dict[int, list[int]]:
        """Text → the tested problems that may be in it, in order of their number."""
        texts, items = self._by_runs(tokens)
        rows = [np.stack([texts, items])]
        for forms, index in ((tokens, self.wholes), (masked(tokens), self.templates)):
            places, slots = index.find(whole(forms))
            holders, which = index.texts_of(slots)
            near = np.arange(len(which)) - np.searchsorted(which, which) < MAX_CANDIDATES
            rows.append(np.stack([places[which[near]], holders[near]]))
        rows.append(self._short_inside(tokens))
        pairs = np.unique(np.concatenate(rows, axis=1), axis=1)
        found: dict[int, list[int]] = {}
        for row, item in pairs.T.tolist():
            if self.tokens.lengths[item]:
                found.setdefault(row, []).append(item)
        return found

    def _by_runs(self, tokens: Hashed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs that share enough distinct runs, at most MAX_CANDIDATES a text."""
        found = shingles(tokens, self.config.shingle_tokens)
        places, slots = self.runs.find(found.values)
        rare = self.runs.counts[slots] <= MAX_HOLDERS
        keys = np.unique(np.stack([found.owners[places[rare]], slots[rare]]), axis=1)
        holders, which = self.runs.texts_of(keys[1])
        pairs, shared = np.unique(keys[0][which] * len(self.items) + holders, return_counts=True)
        texts, items = np.divmod(pairs, max(1, len(self.items)))
        least = np.minimum(self.num_runs[items], found.lengths[texts])
        share = shared / np.maximum(1, least)
        near = share >= CANDIDATE_SHARE * self.config.min_coverage
        texts, items, share = texts[near], items[near], share[near]
        order = np.lexsort((items, -share, texts))
        texts, items = texts[order], items[order]
        rank = np.arange(len(texts)) - np.searchsorted(texts, texts)
        return texts[rank < MAX_CANDIDATES], items[rank < MAX_CANDIDATES]

    def _short_inside(self, tokens: Hashed) -> NDArray[np.int64]:
        """[2, num]: short texts that hold a short problem whole, as at least half of them."""
        found = [np.zeros((2, 0), np.int64)]
        short = np.flatnonzero(tokens.lengths < 2 * self.config.min_tokens)
        lengths = set(self.tokens.lengths[self.tokens.lengths < self.config.min_tokens].tolist())
        for length in sorted(lengths - {0}):
            rows = short[(tokens.lengths[short] > length) & (tokens.lengths[short] <= 2 * length)]
            for shift in range(length + 1):
                fits = rows[tokens.lengths[rows] >= length + shift]
                starts = tokens.offsets[fits] + shift
                windows = tokens.values[starts[:, None] + np.arange(length)]
                places, slots = self.wholes.find(whole(_rows(windows)))
                holders, which = self.wholes.texts_of(slots)
                near = np.arange(len(which)) - np.searchsorted(which, which) < MAX_CANDIDATES
                found.append(np.stack([fits[places[which[near]]], holders[near]]))
        return np.concatenate(found, axis=1)

    # --- one pair ---------------------------------------------------------------------------------

    def _weigh(self, text: str, tokens: Ids, item: int, *, contained: bool) -> Leak | None:
        problem = self.tokens.row(item).tolist()
        match, part = None, tokens
        if len(tokens) > (WINDOW + 1) * len(problem):
            match = _longest_match(tokens, problem)
            low = max(0, match.a - WINDOW // 2 * len(problem))
            part = tokens[low : match.a + match.size + WINDOW // 2 * len(problem)]
        ways = {"item": self._way(problem, part), "text": self._way(part, problem)}
        allowed = [ways["item"]]
        if contained and len(part) == len(tokens):
            allowed.append(ways["text"])
        kind = min((way.kind for way in allowed if way.kind), default=None)  # a copy goes first
        if kind is None:
            return None
        match = match or _longest_match(tokens, problem)
        score = max(way.copied if kind == "copy" else way.shaped for way in allowed)
        span = strict_tokens(text)[match.a : match.a + min(match.size, SPAN_TOKENS)]
        return Leak(
            kind, self.items[item], round(score, 4), round(ways["item"].copied, 4),
            round(ways["text"].copied, 4), match.size, " ".join(span),
        )  # fmt: skip

    def _way(self, inner: Ids, outer: Ids) -> _Coverage:
        """How the outer text covers the inner one, and what that makes of them."""
        width = self.config.shingle_tokens
        copied = _covered(inner, outer, width)
        shaped = _covered(_masked(inner), _masked(outer), width)
        return _Coverage(copied, shaped, self._kind(inner, outer, copied, shaped))

    def _kind(self, inner: Ids, outer: Ids, copied: float, shaped: float) -> str | None:
        """What the inner text is to the outer one that covers it."""
        if len(inner) < self.config.min_tokens:
            if 2 * len(inner) < len(outer):
                return None
            copied, shaped = float(copied == 1), float(shaped == 1)
        if max(copied, shaped) < self.config.min_coverage:
            return None
        agree = _numbers_in(inner, outer) >= self.config.min_numbers
        if copied >= self.config.min_coverage and agree:
            return "copy"
        return "template" if shaped >= self.config.min_coverage and not agree else None


class _Coverage(NamedTuple):
    """One text covered by another."""

    copied: float
    """Share of its runs that the other holds."""
    shaped: float
    """The same with every number alike."""
    kind: str | None


def _covered(inner: Ids, outer: Ids, width: int) -> float:
    """Share of the inner text's runs that the outer one holds, too."""
    width = min(width, len(inner))
    if len(outer) < width or not width:
        return 0.0
    held = set(_runs(outer, width))
    runs = list(_runs(inner, width))
    return sum(run in held for run in runs) / len(runs)


def _runs(tokens: Ids, width: int) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[start:] for start in range(width)), strict=False)


def _longest_match(tokens: Ids, problem: Ids) -> Match:
    return SequenceMatcher(None, tokens, problem, autojunk=False).find_longest_match()


def _drawn_once(text: str) -> str:
    return DRAWING.sub(_checksum, text) if "[asy]" in text else text


def _checksum(drawing: re.Match[str]) -> str:
    return f" {10**10 + zlib.crc32(''.join(drawing[0].split()).encode('utf-8', 'replace'))} "


def _rows(values: Hashes) -> Hashed:
    """[rows, width] as a batch."""
    rows, width = values.shape
    return Hashed(values.reshape(-1), np.arange(rows + 1, dtype=np.int64) * width)


def _masked(tokens: Ids) -> Ids:
    return [1 if token & 1 else token for token in tokens]


def _numbers_in(inner: Ids, outer: Ids) -> float:
    """Share of the inner text's numbers, with repeats, that the outer one holds; 1 for none."""
    mine, theirs = (Counter(token for token in part if token & 1) for part in (inner, outer))
    return (mine & theirs).total() / mine.total() if mine else 1.0


def _nearest_first(leak: Leak) -> tuple[bool, float, int, str, str]:
    return leak.kind == "template", -leak.score, -leak.run, leak.item.benchmark, leak.item.id
