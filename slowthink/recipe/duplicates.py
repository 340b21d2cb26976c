"""Settings of the filter's search for duplicates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slowthink.recipe.base import Settings

Preference = Literal["answer", "solution", "source_order", "longest_solution", "shortest_solution"]


class NearConfig(Settings):
    """Nearly equal questions: MinHash candidates, confirmed by what the texts share."""

    min_overlap: float = Field(default=0.8, ge=0.6, le=1)
    """Jaccard overlap of the runs of tokens from which on two questions may be the same; below 0.6
    the candidates would miss too many."""
    width: int = Field(default=3, ge=1, le=8)
    """Tokens in a run."""
    same_sense: bool = True
    """Numbers, letters, operators and words such as `least` must be the same too, in order, and no
    word may stand for another. False: overlap alone decides, and templates with other numbers go.
    """


class SemanticConfig(Settings):
    """Questions of the same meaning, by sentence embeddings; English only, others stay."""

    min_similarity: float = Field(default=0.97, ge=0.5, le=1)
    """Cosine from which on two questions with the same numbers and operators are the same."""
    batch_size: int = Field(default=64, ge=1)
    """Questions embedded at a time."""


class DuplicatesConfig(Settings):
    """Which questions count as the same, and which of them stays."""

    exact: Literal["plain", "strict"] | None = "strict"
    """plain: NFKC, case, white space, order of options. strict: also LaTeX, punctuation and options
    written into the question. null: off."""
    near: NearConfig | None = NearConfig()
    """null: off."""
    semantic: SemanticConfig | None = None
    """null: off."""
    keep: tuple[Preference, ...] = ("answer", "solution")
    """Which of equal questions stays: by the first of these that tells them apart, else the lowest
    id. answer, solution: the one that has it. source_order: the source named first in `sources`."""
    sources: tuple[str, ...] = ()
    """Names of sources, best first, for `source_order`; the others come last."""
