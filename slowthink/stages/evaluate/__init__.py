"""evaluate: grade models on held-out problems and benchmarks over thinking budgets.

`sets` loads the problems, `arms` samples and grades, `parallel` adds curves of parallel scaling,
`judge` second opinions, `disputed` doubtful reference answers; `summary` is all the figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slowthink.data.load import ProblemSet, registered_benchmark
from slowthink.data.tables import read_records
from slowthink.errors import GraderError
from slowthink.grading import Grader, check_dependencies
from slowthink.pipeline.contract import StageContext, StageResult, Step, read_manifest
from slowthink.pipeline.plan import file_rows, planned_heldout
from slowthink.recipe import ArmConfig, BenchmarkConfig, EvaluateConfig, Recipe
from slowthink.recipe.protocols import draws_for, resolve_protocol
from slowthink.records import Cost, Verdict
from slowthink.sampling.judge import TAG as JUDGE_TAG
from slowthink.serialise import plain
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.arms import check_models, measure_arm
from slowthink.stages.evaluate.batches import ArmResult, EvaluationContext, arm_points
from slowthink.stages.evaluate.disputed import answer_groups, disputed_references
from slowthink.stages.evaluate.judge import apply_judge
from slowthink.stages.evaluate.parallel import TAG as PARALLEL_TAG, check_parallel, recount_votes
from slowthink.stages.evaluate.regrade import regrade_rows
from slowthink.stages.evaluate.sets import problem_sets
from slowthink.stages.evaluate.summary import Evaluation, summarise

STAGE_VERSION = 2
MAX_GRADER_ERRORS = 0.01
"""Share of rows that the grader may fail on before the run fails."""

__all__ = ["STAGE_VERSION", "plan", "regrade", "run"]


def run(context: StageContext) -> StageResult:
    """All arms at all points. Raises DataError without problems, GraderError above 1 % errors."""
    config: EvaluateConfig = context.config
    check_dependencies()
    sets = problem_sets(context)
    check_parallel(config, {problem_set.name: len(problem_set.problems) for problem_set in sets})
    check_models(context)
    with context.open_ledger() as ledger, Grader() as grader:
        evaluation = EvaluationContext(stage=context, sets=sets, ledger=ledger, grader=grader)
        arms = {arm.name: measure_arm(evaluation, arm) for arm in config.arms}
        arms, judge = apply_judge(evaluation, arms)
        spent = {tag: ledger.spent(tag) for tag in (PARALLEL_TAG, JUDGE_TAG)}
        seconds = [arm.facts.get("sampling_seconds", 0.0) for arm in arms.values()]
        return _result(
            context, sets, grader, arms, judge=judge,
            extra_tokens={tag: plain(cost) for tag, (cost, _) in spent.items()},
            sampling_seconds=round(sum(seconds) + sum(s for _, s in spent.values()), 1),
        )  # fmt: skip


def regrade(context: StageContext) -> StageResult:
    """Grade the finished evaluation's stored answers again. No model is run."""
    check_dependencies()
    folder = context.root / context.stage
    facts = read_manifest(folder)["facts"]
    sets = problem_sets(context)
    with Grader() as grader:
        rows = regrade_rows(read_records(folder, EvaluationRow), sets, grader)
        arms = {
            name: ArmResult(rows=[row for row in rows if row.arm == name], facts=arm_facts)
            for name, arm_facts in facts["arms"].items()
        }
        if parallel := context.config.parallel:
            curves = facts["summary"]["parallel"]
            arms[parallel.arm] = recount_votes(context, arms[parallel.arm], curves, grader)
        return _result(
            context, sets, grader, arms, judge=facts["summary"]["judge"],
            extra_tokens=facts["besides"], sampling_seconds=facts.get("sampling_seconds"),
        )  # fmt: skip


def _result(
    context: StageContext,
    sets: Sequence[ProblemSet],
    grader: Grader,
    arms: Mapping[str, ArmResult],
    *,
    judge: Mapping[str, Any] | None,
    extra_tokens: Mapping[str, Mapping[str, int]],
    sampling_seconds: float | None,
) -> StageResult:
    """All figures and records. `extra_tokens`: of live parallel methods, scorers and the judge, by
    ledger tag. `sampling_seconds`: of all tokens; None in evaluations of older versions."""
    rows = [row for arm in arms.values() for row in arm.rows]
    _check_grader(rows)
    groups = answer_groups(rows, grader)
    evaluation = Evaluation(
        config=context.config, sets=sets, rows=rows, groups=groups,
        seed=context.recipe.seed, chat=context.recipe.chat,
    )  # fmt: skip
    facts = {name: arm.facts for name, arm in arms.items()}
    arm_cost = _sum_costs(arm["tokens"] for arm in facts.values() if "tokens" in arm)
    total = plain(arm_cost + _sum_costs(extra_tokens.values()))
    summary = summarise(evaluation) | {
        "parallel": [curves for arm in arms.values() for curves in arm.parallel],
        "key_review": disputed_references(rows, groups),
        "judge": judge,
        "tokens": total,
        "sweep": _sweep_figures(rows, arm_cost),
    }
    if summary["budget_violations"]:
        context.notify(
            f"evaluate: {summary['budget_violations']} BUDGET VIOLATIONS; see the report"
        )
    num_gradable = sum(row.verdict.is_counted for row in rows)
    return StageResult(
        records=rows,
        record_type=EvaluationRow,
        dropped=[
            *(drop for problem_set in sets for drop in problem_set.dropped),
            *(drop for arm in arms.values() for drop in arm.dropped),
        ],
        steps=[Step(name="graded", num_in=len(rows), num_out=num_gradable)],
        facts={
            "summary": summary, "tokens": total, "sampling_seconds": sampling_seconds,
            "arms": facts, "besides": extra_tokens,
        },
    )  # fmt: skip


def _sum_costs(costs: Iterable[Mapping[str, int]]) -> Cost:
    return sum((Cost(**cost) for cost in costs), Cost())


def plan(recipe: Recipe) -> dict[str, object]:
    """Number of points and problems, and roughly the most tokens that the arms may decode."""
    config = recipe.evaluate
    assert config is not None
    held_out = planned_heldout(recipe)
    sizes = [min(held_out, config.max_problems or held_out)] if held_out else []
    sizes += [
        _benchmark_size(benchmark, f"evaluate.benchmarks.{index}")
        for index, benchmark in enumerate(config.benchmarks)
    ]
    arms = [arm for arm in config.arms if arm.samples is None]
    num_samples = sum(size * _samples_per_problem(config, size) for size in sizes)
    return {
        "num_points": sum(len(arm_points(arm)) for arm in arms),
        "num_problems": sum(sizes),
        "estimated_tokens": num_samples * sum(map(_max_tokens, arms)),
    }


def _benchmark_size(benchmark: BenchmarkConfig, setting: str) -> int:
    """Problems of a benchmark: those of its file, else the registry's number. Raises ConfigError
    as `registered_benchmark`."""
    dataset = registered_benchmark(benchmark, setting=setting)
    if benchmark.path is not None:
        return file_rows(benchmark.path, setting=f"{setting}.path", limit=benchmark.max_problems)
    sizes = (dataset.num_problems if dataset else 0, benchmark.max_problems)
    return min((size for size in sizes if size), default=0)


def _samples_per_problem(config: EvaluateConfig, num_problems: int) -> int:
    """Samples of one problem of a set of `num_problems`, over all protocols."""
    protocols = map(resolve_protocol, config.protocols)
    draws = [draws_for(protocol, num_problems=num_problems) for protocol in protocols]
    return sum(d.num_samples if t else 1 for d in draws for t in d.temperatures)


def _max_tokens(arm: ArmConfig) -> int:
    """Roughly the most tokens of one sample."""
    waits = max(arm.waits, default=0) * 40  # typical thinking after a refused end
    return max(arm.caps) + waits + 8 * len(arm_points(arm))


def _check_grader(rows: Sequence[EvaluationRow]) -> None:
    failed = [row for row in rows if row.verdict is Verdict.GRADER_ERROR]
    if len(failed) > MAX_GRADER_ERRORS * len(rows):
        raise GraderError(
            f"evaluate: the grader failed on {len(failed)} of {len(rows)} answers (first: "
            f"{failed[0].id}, {failed[0].method}); expected at most 1 %. No figures are reported. "
            "Check those answers, or simplify their reference answers."
        )


def _sweep_figures(rows: Iterable[EvaluationRow], spent: Cost) -> dict[str, int]:
    """Tokens that the points cost as one sweep, and that separate runs would have decoded."""
    sampled = [row for row in rows if row.count_source == "ids"]
    separate = sum(row.num_thinking_tokens + row.num_answer_tokens for row in sampled)
    return {"spent_tokens": spent.decoded, "separate_tokens": separate}
