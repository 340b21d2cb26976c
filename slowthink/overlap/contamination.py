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
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from slowthink.overlap.ngrams import BATCH_TEXTS, Postings
from slowthink.overlap.normal import (
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
KINDS = ("run", "copy", "paraphrase", "template", "similar")
"""What a text and a tested problem share, gravest first: a run of words (s1's); all of it; its
meaning, as a judge says; all but the numbers; perhaps its meaning, as embeddings say."""
DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)
"""Asymptote code: so alike from drawing to drawing that it counts as one number, its checksum."""


@dataclass(frozen=True)
class ExamItem:
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
    item: ExamItem
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

    items: tuple[ExamItem, ...]
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
    def of(cls, items: Sequence[ExamItem], config: ContaminationConfig) -> StrictIndex:
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
                weighed = [
                    leak
                    for item in pairs.get(row, ())
                    if (leak := self._weigh(text, tokens.row(row), item, contained=contained))
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

    def _weigh(self, text: str, tokens: Hashes, item: int, *, contained: bool) -> Leak | None:
        problem = self.tokens.row(item)
        matcher = SequenceMatcher(None, tokens.tolist(), problem.tolist(), autojunk=False)
        match = matcher.find_longest_match()
        around = slice(0, len(tokens))
        if len(tokens) > (WINDOW + 1) * len(problem):
            low = max(0, match.a - WINDOW // 2 * len(problem))
            around = slice(low, match.a + match.size + WINDOW // 2 * len(problem))
        part = tokens[around]
        directions = {"item": (problem, part), "text": (part, problem)}
        whole_text = contained and len(part) == len(tokens)
        copies, shapes = {}, {}
        for name, (inner, outer) in directions.items():
            copies[name] = self._covered(inner, outer)
            shapes[name] = self._covered(_masked(inner), _masked(outer))
        allowed = ["item", *(["text"] if whole_text else [])]
        kind = None
        for name in allowed:
            inner, outer = directions[name]
            kind = _closest(kind, self._kind(inner, outer, copies[name], shapes[name]))
        if kind is None:
            return None
        score = max((copies if kind == "copy" else shapes)[name] for name in allowed)
        span = strict_tokens(text)[match.a : match.a + min(match.size, SPAN_TOKENS)]
        return Leak(
            kind, self.items[item], round(score, 4), round(copies["item"], 4),
            round(copies["text"], 4), match.size, " ".join(span),
        )  # fmt: skip

    def _kind(self, inner: Hashes, outer: Hashes, copied: float, shaped: float) -> str | None:
        """What the inner text is to the outer one that covers it."""
        if len(inner) < self.config.min_tokens:
            if 2 * len(inner) < len(outer):
                return None
            copied, shaped = float(copied == 1), float(shaped == 1)
        agree = _numbers_in(inner, outer) >= self.config.min_numbers
        if copied >= self.config.min_coverage and agree:
            return "copy"
        return "template" if shaped >= self.config.min_coverage and not agree else None

    def _covered(self, inner: Hashes, outer: Hashes) -> float:
        """Share of the inner text's tokens that lie in a run which the outer one holds, too."""
        width = min(self.config.shingle_tokens, len(inner))
        if len(outer) < width or not width:
            return 0.0
        runs, others = (shingles(_rows(part[None]), width).values for part in (inner, outer))
        return float(np.isin(runs, others).mean())


def _drawn_once(text: str) -> str:
    return DRAWING.sub(_checksum, text) if "[asy]" in text else text


def _checksum(drawing: re.Match[str]) -> str:
    return f" {10**10 + zlib.crc32(''.join(drawing[0].split()).encode('utf-8', 'replace'))} "


def _rows(values: Hashes) -> Hashed:
    """[rows, width] as a batch."""
    rows, width = values.shape
    return Hashed(values.reshape(-1), np.arange(rows + 1, dtype=np.int64) * width)


def _masked(values: Hashes) -> Hashes:
    return np.where(values & np.uint64(1), np.uint64(1), values)


def _numbers_in(inner: Hashes, outer: Hashes) -> float:
    """Share of the inner text's numbers, with repeats, that the outer one holds; 1 for none."""
    mine, theirs = (
        Counter(part[(part & np.uint64(1)).astype(bool)].tolist()) for part in (inner, outer)
    )
    return (mine & theirs).total() / mine.total() if mine else 1.0


def _closest(one: str | None, other: str | None) -> str | None:
    return "copy" if "copy" in (one, other) else one or other


def _nearest_first(leak: Leak) -> tuple[bool, float, int, str, str]:
    return leak.kind == "template", -leak.score, -leak.run, leak.item.benchmark, leak.item.id
