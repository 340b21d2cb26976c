"""What a filter may ask of language models, before any is loaded: labels, opinions, attempts.

planned(recipe, num_problems=59000)
{"num_attempts": 2400, "estimated_tokens": 518400, "difficulty": ["difficulty: 600 of 59000 problems
 fit 0.6 hours and are tried, the others are dropped", "difficulty: smollm2-135m tries 600 …"]}

Questions themselves are not counted, only what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slowthink.recipe import AskedModel, DifficultyConfig, FilterConfig, Recipe
from slowthink.stages.filter.difficulty import Estimate, estimates, num_tried


@dataclass(frozen=True, kw_only=True)
class PlannedRequests:
    """What one part asks of a language model, at most: every reply at its limit, none readable."""

    part: str
    model: str
    num_questions: int
    num_replies: int
    num_tokens: int

    def line(self) -> str:
        """In a line, for people."""
        return (
            f"{self.part}: {self.model} is asked {self.num_questions} questions at most "
            f"(at most {self.num_replies} replies and {self.num_tokens} tokens)"
        )


def planned(recipe: Recipe, *, num_problems: int) -> dict[str, Any]:
    """Attempts and tokens at most, and a line for each part; only the parts that there are.

    Raises ConfigError where the difficulty's hours cannot be told for want of a speed.
    """
    config = recipe.filter or FilterConfig()
    asked = asked_of_models(config, recipe, num_problems=num_problems)
    tried: list[Estimate] = []
    lines = {"asked": [one.line() for one in asked]}
    if config.difficulty is not None:
        number = num_tried(config.difficulty, recipe, num_problems=num_problems)
        tried = estimates(config.difficulty, recipe, num_problems=number)
        left_out = _left_out(config.difficulty, number, num_problems)
        lines["difficulty"] = left_out + [one.line() for one in tried]
    tokens = sum(one.num_tokens for one in asked) + sum(one.max_tokens for one in tried)
    totals = {"num_attempts": sum(one.max_attempts for one in tried), "estimated_tokens": tokens}
    return totals | {name: texts for name, texts in lines.items() if texts}


def asked_of_models(
    config: FilterConfig, recipe: Recipe, *, num_problems: int
) -> list[PlannedRequests]:
    """Parts that ask a model one question a problem or a candidate, in the filter's order."""
    paraphrase = config.contamination.paraphrase if config.contamination else None
    domains, found = config.domains, []
    if paraphrase is not None and paraphrase.judge is not None:
        number = num_problems * paraphrase.max_candidates
        found.append(_asked("paraphrases", paraphrase.judge, recipe, num_questions=number))
    if domains is not None and "llm" in domains.methods:
        found.append(_asked("domains", domains.llm, recipe, num_questions=num_problems))
    return found


def _asked(part: str, model: AskedModel, recipe: Recipe, *, num_questions: int) -> PlannedRequests:
    num_replies = num_questions * model.num_asks
    return PlannedRequests(
        part=part, model=recipe.model if model.model == "base" else model.model,
        num_questions=num_questions, num_replies=num_replies,
        num_tokens=num_replies * model.max_tokens,
    )  # fmt: skip


def _left_out(config: DifficultyConfig, num_tried: int, num_problems: int) -> list[str]:
    """Of the problems that nobody tries, what becomes of them."""
    if num_tried == num_problems:
        return []
    what = f"difficulty: {num_tried} of {num_problems} problems"
    if config.hours is not None:
        return [f"{what} fit {config.hours:g} hours and are tried, the others are dropped"]
    return [f"{what} are tried (max_problems), the others pass untested"]
