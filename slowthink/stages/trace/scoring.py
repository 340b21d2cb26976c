"""Grade, measure and score chains, all of them, before any is dropped for what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slowthink.curation.scores import SCORES
from slowthink.curation.scores.levels import assign_levels
from slowthink.curation.scores.score import ChainText, ScoreContext, Values
from slowthink.errors import GraderError
from slowthink.grading import GradeItem, Grader
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.runner import map_rows
from slowthink.recipe import LevelsConfig, ModelScore, Recipe, RubricScore
from slowthink.records import Grade, Verdict
from slowthink.stages.trace.chains import ScoredChain, SourceChain

MAX_ERROR_SHARE = 0.01
"""The stage fails if the grader itself fails on more than this share of the responses."""


def grade_chains(chains: Sequence[SourceChain], *, runner: str = "local") -> list[Grade]:
    """A grade for each chain. Raises GraderError if the grader fails on more than 1 %."""
    items = [
        GradeItem(problem=chain.problem, answer_text=chain.response, truncated=chain.truncated)
        for chain in chains
    ]
    grades = map_rows(grade_batch, items, runner=runner)
    num_failed = sum(grade.verdict is Verdict.GRADER_ERROR for grade in grades)
    if num_failed > MAX_ERROR_SHARE * len(grades):
        raise GraderError(
            f"trace: the grader failed on {num_failed} of {len(grades)} chains; expected at most "
            f"{MAX_ERROR_SHARE:.0%}. Run `slowthink doctor`, and check these problems' answers."
        )
    return grades


def grade_batch(items: Sequence[GradeItem]) -> list[Grade]:
    """A grade for each item, by a new grader; called in the runner's worker processes."""
    with Grader() as grader:
        return grader.grade_many(items)


def score_chains(
    chains: Sequence[SourceChain], grades: Sequence[Grade], tokenizer: Any, context: StageContext
) -> tuple[list[ScoredChain], dict[str, Any]]:
    """Each chain with its grade, its lengths by this tokenizer, and its scores; and facts for the
    manifest."""
    measured = [
        ScoredChain(
            chain=chain, grade=grade,
            num_thinking_tokens=_num_tokens(tokenizer, chain.thinking),
            num_response_tokens=_num_tokens(tokenizer, chain.response),
        )
        for chain, grade in zip(chains, grades, strict=True)
    ]  # fmt: skip
    texts = [_scored_text(chain) for chain in measured]
    values: list[Values] = [{} for _ in measured]
    facts: dict[str, Any] = {}
    for config in context.config.scores:
        score = SCORES[config.kind](config)
        score_context = ScoreContext(
            recipe=context.recipe, open_ledger=context.open_ledger, tag=context.stage,
            notify=context.notify, progress=context.progress,
        )  # fmt: skip
        new_values = score.score(texts, score_context)
        for all_values, new in zip(values, new_values, strict=True):
            all_values |= new
        counts = {"version": score.version, "num_scored": sum(map(bool, new_values))}
        facts[score.name] = counts | score_context.facts
    scored = [replace(chain, scores=new) for chain, new in zip(measured, values, strict=True)]
    return scored, {"scores": facts} if facts else {}


def model_score_lines(recipe: Recipe) -> list[str]:
    """One line for each score by a model: which one it loads, and how it uses it."""
    lines = []
    for config in recipe.trace.scores if recipe.trace else ():
        if isinstance(config, ModelScore):
            name, _ = recipe.named_model(config.model)
            use = "rates" if isinstance(config, RubricScore) else "reads"
            lines.append(f"{config.kind}: {name} {use} each chain once")
    return lines


def _scored_text(scored: ScoredChain) -> ChainText:
    chain = scored.chain
    return ChainText(
        problem=chain.problem, thinking=chain.thinking, response=chain.response,
        num_thinking_tokens=scored.num_thinking_tokens,
    )  # fmt: skip


def _num_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def level_chains(
    chains: Sequence[ScoredChain], config: LevelsConfig | None
) -> Sequence[ScoredChain]:
    """The chains with their levels, cut from a score; unchanged without settings."""
    if config is None:
        return chains
    levels = assign_levels(
        [chain.scores for chain in chains], [chain.chain.problem.id for chain in chains], config
    )
    return [replace(chain, level=level) for chain, level in zip(chains, levels, strict=True)]
