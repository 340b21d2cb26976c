"""Settings of decontamination: the test problems, and how similar is too similar.

filter:
  contamination: {preset: strict, benchmarks: [{name: math500}, {name: own, path: own.jsonl}]}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slowthink.recipe.base import PromptedModelConfig, Settings
from slowthink.recipe.evaluation import BenchmarkConfig

MAX_BENCHMARKS = 200


class ParaphraseConfig(Settings):
    """Paraphrases of test problems, English only: sentence embeddings, and an optional judge."""

    min_similarity: float = Field(default=0.8, ge=0.5, le=1)
    """Minimum cosine similarity of a candidate."""
    max_candidates: int = Field(default=3, ge=1)
    """Maximum number of candidates per problem, nearest first."""
    similar: Literal["keep", "drop"] = "keep"
    """What happens to problems whose candidates are not judged. Embeddings hardly distinguish
    numbers: most of these are other problems of the same form."""
    judge: PromptedModelConfig | None = None
    """Decides for each candidate whether it is the same problem, which is then dropped. null: none.
    """
    batch_size: int = Field(default=64, ge=1)
    """Texts per batch of the embedding model."""


class ContaminationConfig(Settings):
    """Drop what contains a test problem. The pool's held-out problems are always test problems."""

    preset: Literal["s1", "strict"] = "strict"
    """s1: one shared n-gram of 8 words, normalising case and white space only. strict: share of
    either text that is covered, normalising LaTeX and Chinese too, and distinguishing copies from
    templates."""
    benchmarks: tuple[BenchmarkConfig, ...] = Field(default=(), max_length=MAX_BENCHMARKS)
    """Sets to check against, besides the held-out problems: by name, or files. `max_problems` also
    limits them here: leave it out to check against all."""
    run_words: int = Field(default=8, ge=2)
    """s1: words of an n-gram."""
    cross_source: bool = False
    """s1: the kept problems of a source are test problems for the sources after it, as in s1's code
    (not its paper). Drops more from later sources."""
    source_order: tuple[str, ...] = ()
    """s1 with cross_source: the order of the sources. Sources not named here come last, by name.
    """
    shingle_tokens: int = Field(default=4, ge=2)
    """strict: tokens of an n-gram."""
    min_coverage: float = Field(default=0.65, gt=0, le=1)
    """strict: minimum share of a question's n-grams that the other text contains."""
    min_tokens: int = Field(default=12, ge=3)
    """strict: a shorter question must occur whole, and make up half of the text."""
    min_numbers: float = Field(default=0.8, gt=0, le=1)
    """strict: minimum share of the question's numbers that the other text contains; below it the
    pair is a template with other numbers, not a copy."""
    templates: Literal["keep", "drop"] = "keep"
    """strict: what happens to templates; they are reported in both cases."""
    paraphrase: ParaphraseConfig | None = None
    """Both presets: paraphrased questions, which n-grams cannot detect. null: off."""
