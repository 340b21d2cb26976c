"""Settings of the filter's search for duplicates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slowthink.recipe.base import Settings

Preference = Literal["answer", "solution", "source_order", "longest_solution", "shortest_solution"]


class NearConfig(Settings):
    """Nearly equal questions: MinHash candidates, confirmed by their n-grams."""

    min_overlap: float = Field(default=0.8, ge=0.6, le=1)
    """Minimum Jaccard similarity of the questions' n-grams; below 0.6 MinHash would miss too many.
    """
    width: int = Field(default=3, ge=1, le=8)
    """Tokens of an n-gram."""
    same_sense: bool = True
    """Numbers, letters, operators and words such as `least` must also be equal, in order, and no
    word may be replaced by another. false: similarity alone decides, which also drops templates
    with other numbers."""


class SemanticConfig(Settings):
    """Questions of the same meaning, by sentence embeddings; English only, others are kept."""

    min_similarity: float = Field(default=0.97, ge=0.5, le=1)
    """Minimum cosine similarity of two questions with the same numbers and operators."""
    batch_size: int = Field(default=64, ge=1)
    """Questions per batch of the embedding model."""


class DuplicatesConfig(Settings):
    """Which questions count as equal, and which of them is kept."""

    exact: Literal["plain", "strict"] | None = "strict"
    """Normalisation before comparing. plain: NFKC, case, white space, order of options. strict:
    also LaTeX, punctuation and options written into the question. null: off."""
    near: NearConfig | None = NearConfig()
    """Near duplicates. null: off."""
    semantic: SemanticConfig | None = None
    """Questions of the same meaning. null: off."""
    keep: tuple[Preference, ...] = ("answer", "solution")
    """Which of equal questions is kept: decided by the first of these in which they differ, else by
    the lowest id. answer, solution: the one that has it. source_order: the first in `sources`."""
    sources: tuple[str, ...] = ()
    """Names of sources, best first, for `source_order`; other sources come last."""
