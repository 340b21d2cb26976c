"""evaluate: models on held-out problems and benchmarks over thinking budgets, graded, each budget
checked.

`sets` says what is measured on, `arms` asks, `rows` and `cells` count, `compare` puts arms beside
one another, `review` looks at the keys, `summary` is all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.data.tables import read_records
from slowthink.errors import GraderError
from slowthink.grading import Grader, check_dependencies
from slowthink.pipeline.contract import StageContext, StageResult, Step, read_manifest
from slowthink.pipeline.plan import planned_heldout
from slowthink.recipe import ArmConfig, EvaluateConfig, Recipe
from slowthink.recipe.protocols import draws_for, resolve
from slowthink.records import Cost, Dropped, EvaluationRow, Verdict
from slowthink.sampling.judge import TAG as JUDGE_TAG
from slowthink.serialise import plain
from slowthink.stages.evaluate.arms import (
    AfterArm,
    ArmResult,
    EvaluationContext,
    measure_arm,
    points_of,
)
from slowthink.stages.evaluate.opinions import judged
from slowthink.stages.evaluate.regrade import regraded
from slowthink.stages.evaluate.review import doubted_keys, grouped
from slowthink.stages.evaluate.scaling import TAG as PARALLEL_TAG
from slowthink.stages.evaluate.scaling import check_parallel, parallel_curves, votes_again
from slowthink.stages.evaluate.sets import ProblemSet, problem_sets
from slowthink.stages.evaluate.summary import Evaluation, summarise

STAGE_VERSION = 2
MAX_GRADER_ERRORS = 0.01
"""Share of rows that the grader may fail on before the run fails."""

__all__ = ["STAGE_VERSION", "plan", "points_of", "regrade", "run"]


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What an evaluation came to before it is summed up."""

    arms: Mapping[str, ArmResult]
    judge: Mapping[str, Any] | None
    besides: Mapping[str, Mapping[str, int]]
    """Tokens that live parallel methods, scorers and the judge spent, by what they were for."""


def run(context: StageContext) -> StageResult:
    """All arms at all points. Raises DataError without problems, GraderError above 1 % failures."""
    config: EvaluateConfig = context.config
    check_dependencies()
    sets = problem_sets(context)
    check_parallel(config, {one.name: len(one.problems) for one in sets})
    with context.open_ledger() as ledger, Grader() as grader:
        bench = EvaluationContext(context=context, sets=sets, ledger=ledger, grader=grader)
        arms = {arm.name: measure_arm(bench, arm, then=_then(arm, bench)) for arm in config.arms}
        arms, judge = judged(bench, arms)
        besides = {tag: plain(ledger.spent(tag)[0]) for tag in (PARALLEL_TAG, JUDGE_TAG)}
        return _result(context, sets, Measurements(arms=arms, judge=judge, besides=besides), grader)


def _then(arm: ArmConfig, bench: EvaluationContext) -> AfterArm | None:
    """What the arm's open session is used for besides: parallel scaling."""
    parallel = bench.config.parallel
    return parallel_curves if parallel is not None and parallel.arm == arm.name else None


def regrade(context: StageContext) -> StageResult:
    """The same out of the finished evaluation's own answers: no model is run, nothing asked."""
    check_dependencies()
    folder = context.root / context.stage
    facts = read_manifest(folder)["facts"]
    sets = problem_sets(context)
    with Grader() as grader:
        rows = regraded(read_records(folder, EvaluationRow), sets, grader)
        arms = {
            name: ArmResult(rows=[row for row in rows if row.arm == name], facts=kept)
            for name, kept in facts["arms"].items()
        }
        arms = _vote_again(context, arms, facts["summary"]["parallel"], grader)
        judge, besides = facts["summary"]["judge"], facts["besides"]
        return _result(context, sets, Measurements(arms=arms, judge=judge, besides=besides), grader)


def _vote_again(
    context: StageContext,
    arms: Mapping[str, ArmResult],
    kept: Sequence[Mapping[str, Any]],
    grader: Grader,
) -> dict[str, ArmResult]:
    config: EvaluateConfig = context.config
    if config.parallel is None:
        return dict(arms)
    one = arms[config.parallel.arm]
    groups = grouped(one.rows, grader)
    curves = votes_again(config, kept, one.rows, groups, seed=context.recipe.seed)
    return {**arms, config.parallel.arm: replace(one, parallel=curves)}


def _result(
    context: StageContext, sets: Sequence[ProblemSet], found: Measurements, grader: Grader
) -> StageResult:
    rows = [row for arm in found.arms.values() for row in arm.rows]
    _check_grader(rows)
    groups = grouped(rows, grader)
    evaluation = Evaluation(
        config=context.config, sets=sets, rows=rows, groups=groups,
        seed=context.recipe.seed, chat=context.recipe.chat,
    )  # fmt: skip
    asked = _sum(arm.facts["tokens"] for arm in found.arms.values() if "tokens" in arm.facts)
    total = plain(asked + _sum(found.besides.values()))
    summary = summarise(evaluation) | {
        "parallel": [curves for arm in found.arms.values() for curves in arm.parallel],
        "key_review": doubted_keys(rows, groups),
        "judge": found.judge,
        "tokens": total,
        "sweep": _sweep(rows, asked),
    }
    if summary["budget_violations"]:
        context.notify(
            f"evaluate: {summary['budget_violations']} BUDGET VIOLATIONS; see the report"
        )
    facts = {name: arm.facts for name, arm in found.arms.items()}
    gradable = sum(row.verdict.counts for row in rows)
    return StageResult(
        records=rows,
        record_type=EvaluationRow,
        dropped=_dropped(sets, found.arms.values()),
        steps=[Step(name="graded", num_in=len(rows), num_out=gradable)],
        facts={"summary": summary, "tokens": total, "arms": facts, "besides": found.besides},
    )


def _dropped(sets: Iterable[ProblemSet], arms: Iterable[ArmResult]) -> list[Dropped]:
    """Broken and repeated rows of sets and of stored samples."""
    found = [drop for one in sets for drop in one.dropped]
    return found + [drop for arm in arms for drop in arm.dropped]


def _sum(costs: Iterable[Mapping[str, int]]) -> Cost:
    return sum((Cost(**cost) for cost in costs), Cost())


def plan(recipe: Recipe) -> dict[str, object]:
    """Points, problems, and about the most tokens that the arms may decode."""
    config = recipe.evaluate
    assert config is not None
    held_out = planned_heldout(recipe)
    sizes = [min(held_out, config.max_problems or held_out)] if held_out else []
    sizes += [benchmark.max_problems or 500 for benchmark in config.benchmarks]
    arms = [arm for arm in config.arms if arm.samples is None]
    samples = sum(size * _samples(config, size) for size in sizes)
    return {
        "num_points": sum(len(points_of(arm)) for arm in arms),
        "num_problems": sum(sizes),
        "estimated_tokens": samples * sum(map(_tokens_of, arms)),
    }


def _samples(config: EvaluateConfig, size: int) -> int:
    """Samples of one problem of a set of this size, over all protocols."""
    draws = [draws_for(resolve(one), num_problems=size) for one in config.protocols]
    return sum(d.num_samples if t else 1 for d in draws for t in d.temperatures)


def _tokens_of(arm: ArmConfig) -> int:
    """About the most tokens of one sample."""
    waits = max(arm.waits, default=0) * 40  # about what a refused end costs
    return max(arm.caps) + waits + 8 * len(points_of(arm))


def _check_grader(rows: Sequence[EvaluationRow]) -> None:
    failed = [row for row in rows if row.verdict is Verdict.GRADER_ERROR]
    if len(failed) > MAX_GRADER_ERRORS * len(rows):
        raise GraderError(
            f"evaluate: the grader failed on {len(failed)} of {len(rows)} answers (first: "
            f"{failed[0].id}, {failed[0].method}); expected at most 1 %. No figure is given; "
            "look at those answers, or simplify their keys."
        )


def _sweep(rows: Iterable[EvaluationRow], total: Cost) -> dict[str, int]:
    """What the points cost as one sweep, and what runs of their own would have decoded."""
    made = [row for row in rows if row.count_source == "ids"]
    separate = sum(row.num_thinking_tokens + row.num_answer_tokens for row in made)
    return {"spent_tokens": total.decoded, "separate_tokens": separate}
