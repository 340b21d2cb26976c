"""Estimated cost of the teachers before any is asked: requests, tokens, time and money.

planned_teachers(recipe, num_problems=1000)
{"num_requests": 4000, "estimated_tokens": 20480000, "estimated_cost": 41.2, "teachers": ["QwQ-32B:
 at most 4,000 chains for 1,000 problems, about 20,480,000 tokens, 1.6 hours, costs 41.20"]}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slowthink.recipe import Recipe
from slowthink.stages.trace.spending import Limits, Spent
from slowthink.stages.trace.teachers import Teacher, check_teachers, teachers_of

PROMPT_TOKENS = 200
"""Assumed mean length of a prompt."""


@dataclass(frozen=True, kw_only=True)
class TeacherPlan:
    """What a teacher is asked at most, and what that costs."""

    teacher: Teacher
    num_problems: int
    num_requests: int
    num_tokens: int | None
    """None: unknown, since neither the length of a chain nor a limit is given."""

    @property
    def hours(self) -> float | None:
        """Time to generate them; None if the speed is unknown."""
        speed = self.teacher.config.tokens_per_second
        return self.num_tokens / speed / 3600 if speed and self.num_tokens is not None else None

    @property
    def cost(self) -> float | None:
        """Money; None if there is no price, or the number of tokens is unknown."""
        price = self.teacher.config.price
        if price is None or self.num_tokens is None:
            return None
        prompts = self.num_requests * PROMPT_TOKENS
        return (prompts * price.input + self.num_tokens * price.output) / 1e6

    def line(self) -> str:
        """The plan in one line."""
        parts = [
            f"{self.teacher.name}: at most {self.num_requests:,} chains for "
            f"{self.num_problems:,} problems"
        ]
        if self.num_tokens is None:
            parts.append(f"tokens unknown (set {self.teacher.setting}.tokens_per_chain)")
        else:
            about = "about" if self.teacher.config.tokens_per_chain else "at most"
            parts.append(f"{about} {self.num_tokens:,} tokens")
        parts += [f"{self.hours:.2g} hours"] if self.hours is not None else []
        parts += [f"costs {self.cost:,.2f}"] if self.cost is not None else []
        return ", ".join(parts)


def planned_teachers(recipe: Recipe, *, num_problems: int) -> dict[str, Any]:
    """Totals for all teachers, within the limits, and a line for each; empty without a teacher.

    Raises ConfigError for settings with which a teacher could not run.
    """
    check_teachers(recipe)
    plans = [_plan(teacher, num_problems) for teacher in teachers_of(recipe)]
    if not plans or recipe.trace is None:
        return {}
    num_tokens = sum(plan.num_tokens or 0 for plan in plans)
    costs = [plan.cost for plan in plans if plan.cost is not None]
    share = Limits.from_config(recipe.trace).share(Spent(num_tokens, sum(costs)))
    lines = [plan.line() for plan in plans]
    if share > 1:
        num_tokens, costs = round(num_tokens / share), [cost / share for cost in costs]
        lines.append(f"within the limits: about {num_tokens:,} tokens, {1 / share:.0%} of all")
    return {
        "num_requests": sum(plan.num_requests for plan in plans),
        "estimated_tokens": num_tokens,
        "estimated_cost": round(sum(costs), 4) if costs else None,
        "teachers": lines,
    }


def _plan(teacher: Teacher, num_problems: int) -> TeacherPlan:
    config = teacher.config
    num_problems = min(num_problems, config.max_problems or num_problems)
    num_requests = num_problems * teacher.config.num_attempts
    limit = config.budget.max_thinking_tokens
    most = limit + config.budget.answer_tokens if limit is not None else None
    mean = config.tokens_per_chain or most
    return TeacherPlan(
        teacher=teacher, num_problems=num_problems, num_requests=num_requests,
        num_tokens=None if mean is None else num_requests * mean,
    )  # fmt: skip
