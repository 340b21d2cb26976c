"""Settings of decontamination: which problems are tested on, and how close is too close.

filter:
  contamination: {preset: strict, benchmarks: [{name: math500}, {name: own, path: own.jsonl}]}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slowthink.recipe.base import AskedModel, Settings
from slowthink.recipe.evaluation import BenchmarkConfig

MAX_BENCHMARKS = 200


class ParaphraseConfig(Settings):
    """Tested problems in other words, English only: sentence embeddings, and who judges them."""

    min_similarity: float = Field(default=0.8, ge=0.5, le=1)
    """Cosine from which on a tested problem is a candidate."""
    max_candidates: int = Field(default=3, ge=1)
    """Candidates of one problem, nearest first."""
    similar: Literal["keep", "drop"] = "keep"
    """What happens to problems whose candidates nobody has judged. Embeddings hardly see numbers:
    most of these are problems of the same form."""
    judge: AskedModel | None = None
    """Says of each candidate whether it is the same problem; the same go, others stay. null: none.
    """
    batch_size: int = Field(default=64, ge=1)
    """Texts embedded at a time."""


class ContaminationConfig(Settings):
    """Drop what holds a problem that is tested on. The pool's held-out problems are always such."""

    preset: Literal["s1", "strict"] = "strict"
    """s1: one shared run of 8 words, lower case and white space only. strict: share of either text
    covered, LaTeX and Chinese understood, copies told apart from templates."""
    benchmarks: tuple[BenchmarkConfig, ...] = Field(default=(), max_length=MAX_BENCHMARKS)
    """Sets to check against beside the held-out problems: by name, or files. Their `max_problems`
    counts here too: leave it out to check against all."""
    run_words: int = Field(default=8, ge=2)
    """s1: words of a run."""
    cross_source: bool = False
    """s1: what a source keeps counts as tested on for the sources after it, as in s1's code (not
    its paper). Drops more the later a source stands."""
    source_order: tuple[str, ...] = ()
    """s1 with cross_source: sources in s1's sense, first ones first. Those not named come after, by
    name."""
    shingle_tokens: int = Field(default=4, ge=2)
    """strict: tokens of a run that is looked up."""
    min_coverage: float = Field(default=0.65, gt=0, le=1)
    """strict: share of a question's runs that the other text must hold."""
    min_tokens: int = Field(default=12, ge=3)
    """strict: shorter questions must be there whole, and make up half of the text."""
    min_numbers: float = Field(default=0.8, gt=0, le=1)
    """strict: share of the covered question's numbers that the other text must hold; below it the
    pair is a template with other numbers, not a copy."""
    templates: Literal["keep", "drop"] = "keep"
    """strict: what happens to templates; they are reported either way."""
    paraphrase: ParaphraseConfig | None = None
    """Either preset: what is the same in other words, of which runs of words say nothing. Questions
    only. null: off."""
