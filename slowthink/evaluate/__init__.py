"""evaluate: models on held-out problems over thinking budgets, graded, each budget checked.

All points of an arm come out of one chain per sample: the longest thinking once, and a short answer
at each cap and wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowthink.engines import open_session
from slowthink.engines.base import Point, Session
from slowthink.errors import ConfigError, DataError, GraderError
from slowthink.evaluate.rows import make_row
from slowthink.evaluate.summary import summarise
from slowthink.funnel import planned_heldout
from slowthink.grading import Grader, check_dependencies
from slowthink.ledger import Ledger
from slowthink.plain import plain
from slowthink.recipe import ArmConfig, EvaluateConfig, Recipe
from slowthink.records import Completion, Cost, EvaluationRow, Problem, Split, Verdict, item_seed
from slowthink.runs import StageContext, StageResult, Step
from slowthink.sampling import Sampler, Task, grade_completion, make_tasks
from slowthink.thinking.formats import compile_format, get_format

STAGE_VERSION = 1
MAX_GRADER_ERRORS = 0.01
"""Share of rows that the grader may fail on before the run fails."""


def run(context: StageContext) -> StageResult:
    """All arms at all points. Raises DataError without problems, GraderError above 1 % failures."""
    config: EvaluateConfig = context.config
    check_dependencies()
    problems = held_out(context)
    rows: list[EvaluationRow] = []
    costs: dict[str, Any] = {}
    with Ledger(context.ledger_path) as ledger, Grader() as grader:
        for arm in config.arms:
            found, cost = _run_arm(context, arm, problems, ledger, grader)
            rows += found
            costs[arm.name] = cost
    _check_grader(rows)
    summary = summarise(
        rows,
        config.arms,
        num_resamples=config.num_resamples,
        seed=context.recipe.seed,
        chat=context.recipe.chat,
    )
    total = sum((Cost(**one["tokens"]) for one in costs.values()), Cost())
    summary |= {"tokens": plain(total), "sweep": _sweep(rows, total)}
    if summary["budget_violations"]:
        context.say(f"evaluate: {summary['budget_violations']} BUDGET VIOLATIONS; see the report")
    gradable = sum(row.verdict.counts for row in rows)
    return StageResult(
        records=rows,
        record_type=EvaluationRow,
        steps=[Step(name="graded", num_in=len(rows), num_out=gradable)],
        facts={"summary": summary, "tokens": plain(total), "arms": costs},
    )


def plan(recipe: Recipe) -> dict[str, object]:
    """Points, problems, and about the most tokens that the arms may decode."""
    config = recipe.evaluate
    assert config is not None
    per_problem = 0
    for arm in config.arms:
        waits = max(arm.waits, default=0) * 40  # about what a refused end costs
        answers = 8 * len(points(arm))
        per_problem += arm.num_samples * (max(arm.caps) + waits + answers)
    number = planned_heldout(recipe)
    number = min(number, config.max_problems or number)
    return {
        "num_points": sum(len(points(arm)) for arm in config.arms),
        "num_problems": number,
        "estimated_tokens": number * per_problem,
    }


def held_out(context: StageContext) -> list[Problem]:
    """The problems to evaluate on: the pool's held-out ones, or the section's own file."""
    config: EvaluateConfig = context.config
    if config.input is not None:
        from slowthink.runs import read_records

        problems = read_records(Path(config.input), Problem)
    else:
        problems = context.load(Problem, "pool")
        problems = [problem for problem in problems if problem.split is Split.HELDOUT]
    if not problems:
        raise DataError(
            "evaluate: the pool holds no held-out problem; expected some to measure on. "
            "Set num_heldout on a source, or split: heldout, or name a file: "
            "--set evaluate.input=PATH"
        )
    problems.sort(key=lambda problem: item_seed(context.recipe.seed, "evaluate", problem.id))
    chosen = problems[: config.max_problems]
    return sorted(chosen, key=lambda problem: problem.id)


def points(arm: ArmConfig) -> list[Point]:
    """The points of an arm: each cap, each number of waits at the largest cap, and the free one."""
    top = max(arm.caps)
    found = [Point(cap) for cap in arm.caps]
    found += [Point(top, waits) for waits in arm.waits]
    found += [Point(top, 0, False)] if arm.free else []
    return sorted(set(found))


def _run_arm(
    context: StageContext,
    arm: ArmConfig,
    problems: Sequence[Problem],
    ledger: Ledger,
    grader: Grader,
) -> tuple[list[EvaluationRow], dict[str, Any]]:
    recipe = context.recipe
    name, revision = model_of(context, arm)
    context.say(f"evaluate: {arm.name} ({name}) on {len(problems)} problems at "
                f"{len(points(arm))} points")  # fmt: skip
    tag = f"evaluate/{arm.name}"
    session = open_session(name, recipe.engine, revision=revision, say=context.say)
    with session:
        tasks = make_tasks(
            session,
            problems,
            recipe=recipe,
            chat=arm.chat or recipe.chat,
            budget=arm.forcing.budget(max(arm.caps), max(arm.waits, default=0)),
            sampling=arm.sampling.record(),
            points=points(arm),
            num_samples=arm.num_samples,
        )
        sampler = Sampler(session, ledger, tag=tag, progress=context.progress)
        completions = sampler.complete(tasks)
        rows = _grade(context, arm, session, tasks, completions, grader)
    cost, seconds = ledger.spent(tag)
    facts = {"tokens": plain(cost), "sampling_seconds": round(seconds, 1)}
    return rows, facts | {"model": name, "fingerprint": session.fingerprint}


def model_of(context: StageContext, arm: ArmConfig) -> tuple[str, str | None]:
    """Name and revision of an arm's model."""
    if arm.model == "base":
        return context.recipe.model, context.recipe.revision
    if arm.model != "tuned":
        return arm.model, None
    if "train" not in context.inputs:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` wants the tuned model, but the recipe has no train "
            "stage. Name a model folder or hub id in its `model`, or `base`."
        )
    return str(context.inputs["train"] / "model"), None


def _grade(
    context: StageContext,
    arm: ArmConfig,
    session: Session,
    tasks: Sequence[Task],
    completions: Sequence[Sequence[Completion]],
    grader: Grader,
) -> list[EvaluationRow]:
    chat = arm.chat or context.recipe.chat
    format = get_format(chat.format, context.recipe.formats)
    decode = compile_format(format, session.tokenizer, eos_ids=session.eos_ids).decode
    rows = []
    for task, found in zip(tasks, completions, strict=True):
        for point, completion in zip(task.points, found, strict=True):
            last_number = arm.last_number and not point.forced
            grade = grade_completion(grader, task.problem, completion, last_number=last_number)
            rows.append(
                make_row(
                    task.problem,
                    completion,
                    grade,
                    arm=arm.name,
                    model=arm.model,
                    sample=task.request.sample,
                    point=point,
                    decode=decode,
                )
            )
    return rows


def _check_grader(rows: Sequence[EvaluationRow]) -> None:
    failed = [row for row in rows if row.verdict is Verdict.GRADER_ERROR]
    if len(failed) > MAX_GRADER_ERRORS * len(rows):
        raise GraderError(
            f"evaluate: the grader failed on {len(failed)} of {len(rows)} answers (first: "
            f"{failed[0].id}, {failed[0].method}); expected at most 1 %. No figure is given; "
            "look at those answers, or simplify their keys."
        )


def _sweep(rows: Sequence[EvaluationRow], total: Cost) -> dict[str, int]:
    """What the points cost as one sweep, and what runs of their own would have decoded."""
    separate = sum(row.num_thinking_tokens + row.num_answer_tokens for row in rows)
    return {"spent_tokens": total.decoded, "separate_tokens": separate}
