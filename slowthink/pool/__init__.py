"""pool: gather problems from files and the sandbox, and split off what is only for evaluation."""

from __future__ import annotations

from slowthink.funnel import step_of
from slowthink.pool.gather import gather, pool_facts
from slowthink.recipe import FileSource, Recipe
from slowthink.records import Problem, Split
from slowthink.rows import estimated_rows
from slowthink.runs import StageContext, StageResult, Step

STAGE_VERSION = 1


def run(context: StageContext) -> StageResult:
    """Problems of both splits; broken, undrawn and equal rows are dropped with their reasons."""
    gathered = gather(context.config, seed=context.recipe.seed)
    steps: list[Step] = []
    for name in ("read", "take", "equal questions"):
        num_in = steps[-1].num_out if steps else gathered.num_rows
        steps.append(step_of(name, num_in, gathered.dropped))
    train = sum(problem.split is Split.TRAIN for problem in gathered.problems)
    context.say(f"pool: {train} problems to train on, {len(gathered.problems) - train} held out")
    return StageResult(
        records=gathered.problems, record_type=Problem, dropped=gathered.dropped, steps=steps,
        facts=pool_facts(gathered.problems),
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Rows of each source, estimated without reading them."""
    rows: dict[str, int] = {}
    sources = recipe.pool.sources if recipe.pool else ()
    for number, source in enumerate(sources):
        setting = f"pool.sources.{number}"
        if isinstance(source, FileSource):
            rows[setting] = estimated_rows(source.path, setting=f"{setting}.path")
        else:
            rows[setting] = source.num_problems + source.num_heldout
    return {"num_rows": sum(rows.values()), "sources": rows, "estimated_tokens": 0}
