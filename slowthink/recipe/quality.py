"""Settings of the filter's quality rules."""

from __future__ import annotations

from typing import Literal

from slowthink.recipe.base import Settings

QualityRule = Literal[
    "encoding", "image", "drawing", "link", "multi_part", "proof", "answer", "language",
    "answer_type",
]  # fmt: skip
AnswerKind = Literal["choice", "integer", "number", "expression", "list", "words"]


class QualityConfig(Settings):
    """The rules of preset `strict`, with their options."""

    preset: Literal["strict"] = "strict"
    """Rules for English and Chinese alike."""
    skip: tuple[QualityRule, ...] = ()
    """Rules that are left out."""
    languages: tuple[str, ...] | None = None
    """Languages to keep, detected from the script: en, zh, ja, ko, ru, ar, other. null: all."""
    answer_types: tuple[AnswerKind, ...] | None = None
    """Kinds of answer to keep. null: all that the grader can use."""
    max_answer_words: int = 30
    """A longer answer is dropped, since no rule can compare it."""
