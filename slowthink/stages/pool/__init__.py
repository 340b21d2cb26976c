"""pool: gather problems from files, hubs and generators; hold some out for evaluation."""

from __future__ import annotations

from slowthink.pipeline.contract import StageContext, StageResult, Step, funnel_step
from slowthink.pipeline.plan import planned_rows
from slowthink.recipe import Recipe
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
    context.notify(f"pool: {num_train} problems to train on, {len(problems) - num_train} held out")
    return StageResult(
        records=problems, record_type=Problem, dropped=gathered.dropped, steps=steps,
        facts=pool_facts(problems) | {"origins": gathered.facts},
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Estimated rows of each source, without reading them."""
    rows = planned_rows(recipe)
    plan: dict[str, object] = {"num_rows": sum(rows.values()), "sources": rows}
    if unknown := [setting for setting, num in rows.items() if not num]:
        plan["size_unknown"] = unknown
    return plan | {"estimated_tokens": 0}
