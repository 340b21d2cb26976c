"""Chains and settings for the tests of scores."""

from __future__ import annotations

from typing import Any

from slowthink.curation.scores import SCORES
from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.recipe import Recipe
from slowthink.records import Problem

QUESTION = "What is 6 * 7?"


def chain(thinking: str, *, question: str = QUESTION, num_tokens: int | None = None) -> ChainText:
    """A chain; its tokens are words if they are not given."""
    problem = Problem(
        id=question, duplicate_key=question, question=question, source="test", source_row="1"
    )
    return ChainText(
        problem=problem, thinking=thinking, response="",
        num_thinking_tokens=len(thinking.split()) if num_tokens is None else num_tokens,
    )  # fmt: skip


def score(config: Any, *chains: ChainText) -> list[Values]:
    """The values of each chain."""
    return SCORES[config.kind](config).score(chains, CONTEXT)


def value_names(config: Any) -> set[str]:
    """Names of all values of a score, by its settings."""
    return {config.kind, *(f"{config.kind}.{part}" for part in config.parts)}


def _no_ledger() -> Any:
    raise AssertionError("a score without a model opens no ledger")


CONTEXT = ScoreContext(
    recipe=Recipe.model_validate({"name": "scores", "model": "base", "trace": {"sources": []}}),
    open_ledger=_no_ledger, tag="trace", notify=print, progress=lambda done, total: None,
)  # fmt: skip
