"""The checkpoint rule `dev`: graded accuracy on problems that were drawn from the training problems
and are not trained on chooses among the models that training saved. Answers are in the ledger, so a
killed run measures only what is missing.

facts["dev"] = {"num_problems": 40, "cap": 128, "chosen": 38, "last": 114, "checkpoints": [
    {"step": 38, "epoch": 1.0, "accuracy": 0.3, "ci95": [0.18, 0.45], "num_correct": 12,
     "num_graded": 40, "natural_ends": 0.95, "mean_thinking_tokens": 61.2}, …], …}
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.engines import open_session
from slowthink.engines.session import Point
from slowthink.errors import DataError
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import DevConfig, TrainConfig
from slowthink.records import (
    Completion,
    Grade,
    Problem,
    Sampling,
    ThinkingEnd,
    Trace,
    Verdict,
    item_seed,
)
from slowthink.sampling.sampler import Sampler, grade_completion, make_tasks
from slowthink.serialise import plain
from slowthink.stages.train.checkpoint import candidates
from slowthink.stages.train.schedule import PlannedStep

TAG = "train/dev"
LAST_FOLDER = "last"
"""Folder of the last model, where another one is chosen."""
Figures = dict[str, Any]


def split_dev(
    traces: Sequence[Trace], config: TrainConfig, *, seed: int
) -> tuple[list[Trace], list[Problem]]:
    """The traces to train on, and the development problems, of which no chain is trained on.

    Raises DataError if too few problems have an answer, or none would be left to train on.
    """
    if config.checkpoint != "dev":
        return list(traces), []
    problems = {trace.problem.id: trace.problem for trace in traces}
    usable = [id for id, problem in problems.items() if problem.answer]
    number = config.dev.num_problems
    if len(usable) < number or len(problems) <= number:
        raise DataError(
            f"train.dev.num_problems: {number} of {len(problems)} training problems, of which "
            f"{len(usable)} have an answer; expected as many with an answer, and others to train "
            "on. Select more problems, lower it, or --set train.checkpoint=last"
        )
    drawn = set(sorted(usable, key=lambda id: item_seed(seed, "dev", id))[:number])
    kept = [trace for trace in traces if trace.problem.id not in drawn]
    return kept, [problems[id] for id in sorted(drawn)]


def choose_model(
    context: StageContext, problems: Sequence[Problem], schedule: Sequence[PlannedStep]
) -> Figures:
    """Measure the saved models and the last one; the best becomes `model/`. Returns the facts."""
    from slowthink.stages.train.candidates import candidate_steps

    _free_memory()
    last_step, steps_per_epoch = len(schedule), sum(step.epoch == 0 for step in schedule)
    steps = candidate_steps(schedule, context.config)
    saved = {s: model for s, model in candidates(context.work_folder).items() if s in steps}
    models = saved | {last_step: context.folder / "model"}
    measured = []
    with context.open_ledger() as ledger, Grader() as grader:
        for step, folder in models.items():
            epoch = round(step / steps_per_epoch, 2)
            rows = _sample(context, folder, problems, ledger, grader)
            measured.append({"step": step, "epoch": epoch} | figures(rows))
            context.notify(f"train: {_describe(measured[-1])}")
        tokens = plain(ledger.spent(TAG)[0])
    chosen = best_step(measured)
    if chosen != last_step:
        _put_first(context.folder, models[chosen])
    config: DevConfig = context.config.dev
    return {
        "num_problems": len(problems), "cap": config.cap, "chosen": chosen, "last": last_step,
        "checkpoints": measured, "tokens": tokens,
    }  # fmt: skip


def best_step(measured: Sequence[Mapping[str, Any]]) -> int:
    """The step with the highest accuracy; ties: more natural ends, then the last."""
    order = ("accuracy", "natural_ends", "step")
    return int(max(measured, key=lambda figures: [figures[name] for name in order])["step"])


def figures(rows: Sequence[tuple[Completion, Grade]]) -> Figures:
    """Accuracy with Wilson's interval, and apart from it the share of chains that ended."""
    graded = [grade for _, grade in rows if grade.verdict.is_counted]
    num_correct = sum(grade.verdict is Verdict.CORRECT for grade in graded)
    ended = sum(completion.thinking_end is ThinkingEnd.NATURAL for completion, _ in rows)
    interval = wilson(num_correct, len(graded))
    num_tokens = sum(completion.num_thinking_tokens for completion, _ in rows)
    return {
        "accuracy": num_correct / max(1, len(graded)),
        "ci95": [round(interval.low, 4), round(interval.high, 4)],
        "num_correct": num_correct,
        "num_graded": len(graded),
        "natural_ends": ended / len(rows),
        "mean_thinking_tokens": round(num_tokens / len(rows), 1),
    }


def _sample(
    context: StageContext, folder: Path, problems: Sequence[Problem], ledger: Any, grader: Grader
) -> list[tuple[Completion, Grade]]:
    """Each problem's answer by this model, graded."""
    recipe, config = context.recipe, context.config.dev
    with open_session(str(folder), recipe.engine, notify=context.notify) as session:
        tasks = make_tasks(
            session, problems, recipe=recipe, chat=recipe.chat,
            budget=lambda p: config.forcing.budget(config.cap, 0, language=p.language),
            sampling=Sampling(), points=[Point(config.cap)],
        )  # fmt: skip
        sampler = Sampler(session, ledger, tag=TAG, progress=context.progress)
        return [
            (completion, grade_completion(grader, task.problem, completion))
            for task, (completion,) in zip(tasks, sampler.complete(tasks), strict=True)
        ]


def _describe(measured: Mapping[str, Any]) -> str:
    return (
        f"step {measured['step']}, epoch {measured['epoch']:g}: {measured['num_correct']} of "
        f"{measured['num_graded']} development problems right, {measured['natural_ends']:.0%} of "
        "the chains ended by themselves"
    )


def _put_first(folder: Path, chosen: Path) -> None:
    """Move the last model, and its adapter if it has one, to `last/`, and copy the chosen one here:
    it stays in the work folder, for the next attempt if this one is killed."""
    for name in ("model", "adapter"):
        if (folder / name).exists():
            (folder / LAST_FOLDER).mkdir(exist_ok=True)
            shutil.move(folder / name, folder / LAST_FOLDER / name)
        if chosen.with_name(name).exists():
            shutil.copytree(chosen.with_name(name), folder / name)


def _free_memory() -> None:
    """Let go of the trained model, which another is to be loaded beside."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
