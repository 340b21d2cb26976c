"""The steps of the filter, cheap ones first; each keeps rows and says why the others go."""

from __future__ import annotations

import functools
import json
from typing import Any

from slowthink.filter.difficulty import (
    STEP,
    Measure,
    difficulty_facts,
    drawn_to_test,
    measure,
    out_of_band,
)
from slowthink.filter.quality import QUALITY_RULES, first_objections
from slowthink.filter.state import FilterStep, Funnel
from slowthink.recipe import ChatConfig, DifficultyConfig, FilterConfig
from slowthink.records import Budget, Dropped, Problem, Sampling
from slowthink.rows import cut
from slowthink.runner import map_rows
from slowthink.runs import StageContext, write_atomic


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


def difficulty(funnel: Funnel, context: StageContext) -> None:
    """The model's attempts, then the band; untested problems stay and are counted."""
    config: DifficultyConfig | None = context.config.difficulty
    if config is None:
        return
    chosen = drawn_to_test(funnel.problems, config, seed=context.recipe.seed)
    tested = [problem for problem in funnel.problems if problem.id in chosen]
    if not tested:
        return
    context.say(f"filter: {config.num_attempts} attempts at each of {len(tested)} problems")
    measures, cost = _attempt(context, tested, config)
    domains = {problem.id: problem.domain for problem in tested}
    facts = difficulty_facts(measures, num_problems=len(funnel.problems), domains=domains)
    funnel.facts |= cost | {"difficulty": facts}
    rows = [json.dumps(found.row(), sort_keys=True) + "\n" for found in measures]
    write_atomic(context.folder / "difficulty.jsonl", "".join(rows))
    funnel.drop(STEP, out_of_band(measures, config))


def _attempt(
    context: StageContext, problems: list[Problem], config: DifficultyConfig
) -> tuple[list[Measure], dict[str, Any]]:
    """Measurements in order of id, and what they cost."""
    from slowthink.sampling import attempt

    budget = Budget(
        max_thinking_tokens=config.max_thinking_tokens, answer_tokens=config.answer_tokens
    )
    attempts = attempt(
        context, problems, chat=ChatConfig(format="plain"), budget=budget,
        sampling=Sampling(temperature=config.temperature), num_samples=config.num_attempts,
    )  # fmt: skip
    measures = [
        measure(id, [one.grade for one in found])
        for id, found in sorted(attempts.by_problem.items())
    ]
    return measures, dict(attempts.facts)


STEPS: tuple[FilterStep, ...] = (quality, duplicates, difficulty)
