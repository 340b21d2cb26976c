"""The steps of the filter, cheap ones first; each keeps rows and says why the others go."""

from __future__ import annotations

import functools

from slowthink.filter.difficulty import difficulty
from slowthink.filter.quality import QUALITY_RULES, first_objections
from slowthink.filter.state import FilterStep, Funnel
from slowthink.recipe import FilterConfig
from slowthink.records import Dropped, Problem
from slowthink.rows import cut
from slowthink.runner import map_rows
from slowthink.runs import StageContext


def quality(funnel: Funnel, context: StageContext) -> None:
    """One step for each rule of the preset."""
    config: FilterConfig = context.config
    if config.quality is None:
        return
    judge = functools.partial(first_objections, config.quality)
    objections = map_rows(judge, funnel.problems, runner=context.recipe.runner)
    found = [(p, one) for p, one in zip(funnel.problems, objections, strict=True) if one]
    for name in QUALITY_RULES[config.quality]:
        step = f"quality: {name}"
        dropped = [
            Dropped(id=problem.id, step=step, reason=one.reason, evidence=cut(problem.question))
            for problem, one in found
            if one.rule == name
        ]
        funnel.drop(step, dropped)


def duplicates(funnel: Funnel, context: StageContext) -> None:
    """Of equal questions the one with an answer stays, then the one with the lowest id."""
    if context.config.duplicates is None:
        return
    step = "duplicates: exact"
    best: dict[str, Problem] = {}
    found = []
    for problem in sorted(funnel.problems, key=lambda one: (one.answer is None, one.id)):
        kept = best.setdefault(problem.duplicate_key, problem)
        if kept is not problem:
            evidence = cut(f"{kept.id} is kept: {problem.question}")
            found.append(
                Dropped(id=problem.id, step=step, reason="duplicate question", evidence=evidence)
            )
    funnel.drop(step, found)


STEPS: tuple[FilterStep, ...] = (quality, duplicates, difficulty)
