"""Settings of the stage filter.

filter:
  quality: strict
  duplicates: {exact: strict, near: {}}
  contamination: {preset: strict, benchmarks: [{name: math500}, {name: own, path: own.jsonl}]}
  domains: {methods: [lexical, llm]}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from slowthink.recipe.base import PromptedModelConfig, Settings
from slowthink.recipe.difficulty import DifficultyConfig
from slowthink.recipe.evaluation import BenchmarkConfig

# --- quality --------------------------------------------------------------------------------------

QualityRule = Literal[
    "encoding", "image", "drawing", "link", "multi_part", "proof", "answer", "language",
    "answer_type",
]  # fmt: skip
AnswerKind = Literal["choice", "integer", "number", "expression", "list", "words"]


class QualityConfig(Settings):
    """The quality rules of preset `strict`, with options."""

    preset: Literal["strict"] = "strict"
    """The rules, which are for English and Chinese alike."""
    skip: tuple[QualityRule, ...] = ()
    """Rules that are left out."""
    languages: tuple[str, ...] | None = None
    """Languages to keep, detected from the script: en, zh, ja, ko, ru, ar, other. null: all."""
    answer_types: tuple[AnswerKind, ...] | None = None
    """Kinds of answer to keep. null: all that the grader can use."""
    max_answer_words: int = 30
    """A longer answer is dropped, since no rule can compare it."""


# --- duplicates -----------------------------------------------------------------------------------

Preference = Literal["answer", "solution", "source_order", "longest_solution", "shortest_solution"]


class NearConfig(Settings):
    """Nearly equal questions: MinHash candidates, confirmed by their n-grams."""

    min_overlap: float = Field(default=0.8, ge=0.6, le=1)
    """Minimum Jaccard similarity of the questions' n-grams; below 0.6 MinHash would miss too many.
    """
    width: int = Field(default=3, ge=1, le=8)
    """Number of tokens of an n-gram."""
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
    """Which questions count as duplicates, and which of them is kept."""

    exact: Literal["plain", "strict"] | None = "strict"
    """Normalisation before comparing. plain: NFKC, case, white space, order of options. strict:
    also LaTeX, punctuation and options written into the question. null: off."""
    near: NearConfig | None = NearConfig()
    """Near duplicates. null: off."""
    semantic: SemanticConfig | None = None
    """Questions of the same meaning. null: off."""
    keep: tuple[Preference, ...] = ("answer", "solution")
    """Which of the duplicates is kept, by the first of these in which they differ, else by id.
    answer, solution: one that has it. source_order: the one whose source is first in `sources`."""
    sources: tuple[str, ...] = ()
    """Names of sources, best first, for `source_order`; other sources are last."""


# --- contamination --------------------------------------------------------------------------------

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
    """Drop texts that overlap a test problem. Held-out problems are always test problems."""

    preset: Literal["s1", "strict"] = "strict"
    """s1: the texts share an n-gram of 8 words; only case and white space are normalised. strict: a
    share of either text is covered; LaTeX and Chinese are normalised too, and copies are
    distinguished from templates."""
    benchmarks: tuple[BenchmarkConfig, ...] = Field(default=(), max_length=MAX_BENCHMARKS)
    """Datasets to check against, besides the held-out problems: by name, or files. `max_problems`
    also limits them here: leave it out to check against all."""
    run_words: int = Field(default=8, ge=2)
    """s1: number of words of an n-gram."""
    cross_source: bool = False
    """s1: the kept problems of a source are test problems for the sources after it, as in s1's code
    (not its paper). Drops more from later sources."""
    source_order: tuple[str, ...] = ()
    """s1 with cross_source: the order of the sources. Others are last, sorted by name."""
    shingle_tokens: int = Field(default=4, ge=2)
    """strict: number of tokens of an n-gram."""
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


# --- domains --------------------------------------------------------------------------------------

DomainMethod = Literal["lexical", "embedding", "llm"]


class DomainsConfig(Settings):
    """Assign a domain to each problem; none is dropped."""

    methods: tuple[DomainMethod, ...] = Field(default=("lexical",), min_length=1, max_length=2)
    """The first method assigns; a second one measures agreement. lexical: by words, English and
    Chinese. embedding: nearest description, English only. llm: a model names the class."""
    taxonomy: str = "msc"
    """msc: the 61 classes of the Mathematics Subject Classification; or a YAML or JSONL file."""
    overwrite: bool = False
    """Also assign a domain to problems whose source gives one."""
    llm: PromptedModelConfig = PromptedModelConfig()
    """The model of method llm."""

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, methods: tuple[DomainMethod, ...]) -> tuple[DomainMethod, ...]:
        if len(set(methods)) < len(methods):
            raise ValueError("methods: both are equal; name two different ones")
        return methods


# --- the stages -----------------------------------------------------------------------------------


class FilterConfig(Settings):
    """Drop problems not worth learning from, each with its reason."""

    input: str | None = None
    """A file of problems, for a recipe without a pool stage."""
    quality: Literal["s1", "strict"] | QualityConfig | None = "s1"
    """Preset of quality rules, or `strict` with settings. null: off."""
    duplicates: Literal["exact"] | DuplicatesConfig | None = "exact"
    """exact: by normalised question; one with an answer is kept. null: off."""
    contamination: ContaminationConfig | None = None
    """Drop problems that overlap the held-out problems or benchmarks. null: off."""
    domains: DomainsConfig | None = None
    """Assign a domain to each problem. null: off."""
    difficulty: DifficultyConfig | None = None
    """Keep problems in a band of pass rates. null: off."""
