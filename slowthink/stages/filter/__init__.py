"""filter: drop problems not worth learning from, each with its step, reason and evidence."""

from __future__ import annotations

from slowthink.data.load import registered_benchmark
from slowthink.errors import DataError
from slowthink.pipeline.contract import StageContext, StageResult, count_values
from slowthink.pipeline.plan import planned_problems
from slowthink.recipe import Recipe
from slowthink.records import Problem, Split
from slowthink.stages.filter.contamination import drop_contaminated
from slowthink.stages.filter.cost import planned_cost
from slowthink.stages.filter.difficulty import drop_by_difficulty
from slowthink.stages.filter.domains import assign_domains
from slowthink.stages.filter.duplicates import drop_duplicates
from slowthink.stages.filter.funnel import FilterStep, Funnel, start_funnel
from slowthink.stages.filter.quality import drop_low_quality

STAGE_VERSION = 3

STEPS: tuple[FilterStep, ...] = (
    drop_low_quality, drop_duplicates, drop_contaminated, assign_domains, drop_by_difficulty,
)  # fmt: skip
"""The steps in order, cheap ones first."""


def run(context: StageContext) -> StageResult:
    """Run the steps and return the problems that remain. Raises DataError if none does."""
    pool = context.load(Problem, "pool")
    funnel = start_funnel([problem for problem in pool if problem.split is Split.TRAIN])
    before = count_values(problem.domain for problem in funnel.problems)
    for step in STEPS:
        step(funnel, context)
    if not funnel.problems:
        raise DataError(_empty_result_message(funnel))
    context.notify(f"filter: {len(funnel.problems):,} of {sum(before.values()):,} problems remain")
    after = count_values(problem.domain for problem in funnel.problems)
    return StageResult(
        records=funnel.problems, record_type=Problem, dropped=funnel.dropped, steps=funnel.steps,
        facts=funnel.facts | {"domains_before": before, "domains": after},
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Maximum number of problems, attempts and generated tokens. Raises ConfigError for a benchmark
    that is neither known nor a file, and as `planned_cost`."""
    contamination = recipe.filter.contamination if recipe.filter else None
    for index, benchmark in enumerate(contamination.benchmarks if contamination else ()):
        registered_benchmark(benchmark, setting=f"filter.contamination.benchmarks.{index}")
    num_problems = planned_problems(recipe)
    return {"num_problems": num_problems} | planned_cost(recipe, num_problems=num_problems)


def _empty_result_message(funnel: Funnel) -> str:
    reasons = count_values(drop.reason for drop in funnel.dropped)
    listed = "; ".join(f"{num} x {reason}" for reason, num in reasons.items())
    return (
        f"filter: no training problem is left ({listed or 'the pool has none'}); expected some. "
        "Loosen a rule, e.g. --set filter.quality=null or --set filter.difficulty.max_pass_rate=1"
    )
