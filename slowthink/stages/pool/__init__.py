"""pool: gather problems from files, hubs and generators; hold some out for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slowthink.data.column_names import guesses_text
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    Step,
    count_values,
    funnel_step,
)
from slowthink.pipeline.plan import planned_rows
from slowthink.recipe import PoolConfig, Recipe
from slowthink.records import Problem, Split
from slowthink.stages.pool.gather import gather, pool_facts

STAGE_VERSION = 2


def run(context: StageContext) -> StageResult:
    """Problems of both splits; unusable, unsampled and duplicate rows are dropped with a reason."""
    gathered = gather(context.config, seed=context.recipe.seed, progress=context.progress)
    problems = [item.problem for item in gathered.items]
    steps: list[Step] = []
    has_rules = any(drop.step == "rules" for drop in gathered.dropped)
    for name in ("read", *(("rules",) if has_rules else ()), "take", "equal questions"):
        num_in = steps[-1].num_out if steps else gathered.num_rows
        steps.append(funnel_step(name, num_in, gathered.dropped))
    num_train = sum(problem.split is Split.TRAIN for problem in problems)
    for notice in _notices(context.config, gathered.facts, problems):
        context.notify(f"pool: {notice}")
    context.notify(f"pool: {num_train} problems to train on, {len(problems) - num_train} held out")
    return StageResult(
        records=problems, record_type=Problem, dropped=gathered.dropped, steps=steps,
        facts=pool_facts(problems) | {"origins": gathered.facts},
    )  # fmt: skip


def _notices(
    config: PoolConfig, origins: Mapping[str, Any], problems: Sequence[Problem]
) -> Iterator[str]:
    """What was guessed about the sources: columns and languages."""
    for setting, facts in origins.items():
        if guessed := facts.get("guessed_columns"):
            role = next(iter(guessed))
            yield (
                f"{setting}: {guesses_text(guessed)}; to change it, e.g. "
                f"--set {setting}.{role}_field=COLUMN"
            )
    expected = {getattr(source, "language", None) for source in config.sources}
    counts = count_values(problem.language for problem in problems)
    noticed = {name: num for name, num in counts.items() if name not in expected | {"en"}}
    if noticed:
        shown = ", ".join(f"{num} in `{name}`" for name, num in noticed.items())
        yield (
            f"of {len(problems)} questions {shown}, by their script or their `language`; "
            "wait strings and answer cues of that language are used where the recipe has them"
        )


def plan(recipe: Recipe) -> dict[str, object]:
    """Estimated rows of each source, without reading them."""
    rows = planned_rows(recipe)
    plan: dict[str, object] = {"num_rows": sum(rows.values()), "sources": rows}
    if unknown := [setting for setting, num in rows.items() if not num]:
        plan["size_unknown"] = unknown
    return plan | {"estimated_tokens": 0}
