"""Duplicates in a list of questions: equal but for form, then near duplicates of those left.

find_duplicates([("What is 2 + 3?", ()), ("what is $2+3$", ())])
    # [Duplicate(row=1, kept=0, kind="exact", score=1.0)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slowthink.curation.overlap.clusters import cluster_equal_keys
from slowthink.curation.overlap.exact import exact_keys, split_options
from slowthink.curation.overlap.near import MIN_OVERLAP, find_near_duplicates

Question = tuple[str, Sequence[str]]
"""A question and its options."""


@dataclass(frozen=True)
class Duplicate:
    """A question that repeats an earlier one."""

    row: int
    kept: int
    """The first question that it repeats."""
    kind: str
    """exact (the same but for case, LaTeX, signs and the order of options) or near."""
    score: float
    """Share of common token n-grams, in [0, 1]; 1 for exact."""


def find_duplicates(
    questions: Sequence[Question], *, near: bool = True, min_overlap: float = MIN_OVERLAP
) -> list[Duplicate]:
    """The questions that repeat an earlier one, in order; of equal questions the first is kept.

    With `near` also those that share at least `min_overlap` of their token n-grams and have the
    same numbers and meaning-bearing words.
    """
    keys = [key or None for key in exact_keys(questions).tolist()]
    clusters = [("exact", cluster) for cluster in cluster_equal_keys(keys)]
    if near:
        repeated = {member.row for _, cluster in clusters for member in cluster.members}
        rows = [row for row in range(len(questions)) if row not in repeated]
        texts = [sorted_options_text(*questions[row]) for row in rows]
        found = find_near_duplicates(texts, min_overlap=min_overlap)
        clusters += [("near", cluster.reindexed(rows)) for cluster in found]
    duplicates = [
        Duplicate(row=member.row, kept=cluster.kept, kind=kind, score=member.score)
        for kind, cluster in clusters
        for member in cluster.members
    ]
    return _point_to_kept(sorted(duplicates, key=lambda duplicate: duplicate.row))


def _point_to_kept(duplicates: list[Duplicate]) -> list[Duplicate]:
    """The duplicates; one whose original is itself a near duplicate repeats that one's original."""
    originals = {duplicate.row: duplicate for duplicate in duplicates}
    return [
        Duplicate(row=d.row, kept=original.kept, kind=original.kind, score=original.score)
        if (original := originals.get(d.kept))
        else d
        for d in duplicates
    ]


def sorted_options_text(question: str, choices: Sequence[str] = ()) -> str:
    """The question with its options in alphabetical order, without their letters."""
    stem, inline_options = split_options(question)
    return "\n".join([stem, *sorted([*inline_options, *choices])])
