"""Estimated cost of the filter's language models before any is loaded: attempts, judges, labels.

planned_cost(recipe, num_problems=59000)
{"num_attempts": 2400, "estimated_tokens": 518400, "difficulty": ["difficulty: 600 of 59,000
 problems fit 0.6 hours and are tested, the others are dropped", "difficulty: smollm2-135m …"]}

Prompt tokens are not counted, only generated ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slowthink.recipe import DifficultyConfig, FilterConfig, PromptedModelConfig, Recipe
from slowthink.stages.filter.difficulty.cost import CostEstimate, estimate_costs, num_tested


@dataclass(frozen=True, kw_only=True)
class PlannedRequests:
    """Upper bound on the cost of one step's questions to a language model: each is retried as often
    as allowed, and every reply reaches its token limit."""

    line: str
    """The bound in one line, for the user."""
    num_tokens: int


def planned_cost(recipe: Recipe, *, num_problems: int) -> dict[str, Any]:
    """Maximum number of attempts and tokens, and lines for each step that uses a model.

    Raises ConfigError if difficulty's hours are given without a model's speed.
    """
    config = recipe.filter or FilterConfig()
    requests = planned_requests(config, recipe, num_problems=num_problems)
    attempts: list[CostEstimate] = []
    lines = {"asked": [request.line for request in requests]}
    if config.difficulty is not None:
        num_problems_tested = num_tested(config.difficulty, recipe, num_problems=num_problems)
        attempts = estimate_costs(config.difficulty, recipe, num_problems=num_problems_tested)
        untested = _untested_lines(config.difficulty, num_problems_tested, num_problems)
        lines["difficulty"] = untested + [estimate.line() for estimate in attempts]
    num_tokens = sum(request.num_tokens for request in requests)
    totals = {
        "num_attempts": sum(estimate.max_attempts for estimate in attempts),
        "estimated_tokens": num_tokens + sum(estimate.max_tokens for estimate in attempts),
    }
    return totals | {name: texts for name, texts in lines.items() if texts}


def planned_requests(
    config: FilterConfig, recipe: Recipe, *, num_problems: int
) -> list[PlannedRequests]:
    """The bounds for the steps that ask a model about each problem or candidate, in their order."""
    paraphrase = config.contamination.paraphrase if config.contamination else None
    planned = []
    if paraphrase is not None and paraphrase.judge is not None:
        num_pairs = num_problems * paraphrase.max_candidates
        planned.append(_plan_step("paraphrases", paraphrase.judge, recipe, num_questions=num_pairs))
    if config.domains is not None and "llm" in config.domains.methods:
        model = config.domains.llm
        planned.append(_plan_step("domains", model, recipe, num_questions=num_problems))
    return planned


def _plan_step(
    step: str, model: PromptedModelConfig, recipe: Recipe, *, num_questions: int
) -> PlannedRequests:
    name, _ = recipe.named_model(model.model)
    num_replies = num_questions * model.num_asks
    num_tokens = num_replies * model.max_tokens
    line = (
        f"{step}: at most {num_questions:,} questions to {name} ({num_replies:,} replies and "
        f"{num_tokens:,} tokens)"
    )
    return PlannedRequests(line=line, num_tokens=num_tokens)


def _untested_lines(config: DifficultyConfig, num_tested: int, num_problems: int) -> list[str]:
    """A line on the problems that are not tested, if there are any."""
    if num_tested == num_problems:
        return []
    share = f"difficulty: {num_tested:,} of {num_problems:,} problems"
    if config.hours is not None:
        return [f"{share} fit {config.hours:g} hours and are tested, the others are dropped"]
    return [f"{share} are tested (max_problems), the others are kept untested"]
