"""A few problems as the teachers answer them, before a whole run is paid for. One of the chains:

{"teacher": "QwQ-32B", "problem_id": "p-0c1e…", "prompt": "<|im_start|>user…", "thinking": "Okay…",
 "response": "The answer is 42.", "verdict": "correct", "extracted": "42", "gold": "42",
 "tokens": 812, "cost": 0.0016, …}

Completions go into the ledger of the run, which does not ask for them again. No stage is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slowthink.data.tables import missing_stage
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.contract import StageContext, stage_inputs
from slowthink.pipeline.resolve import resolve_run
from slowthink.pipeline.run_folder import check_run_folder
from slowthink.recipe import Recipe
from slowthink.records import Problem, Split
from slowthink.stages.trace.sampled import TeacherChains, sample_teacher
from slowthink.stages.trace.spending import Spent
from slowthink.stages.trace.teachers import (
    Teacher,
    check_keys,
    check_teachers,
    order_problems,
    teachers_of,
)


def preview_chains(
    recipe: Recipe,
    root: Path,
    num_problems: int,
    *,
    notify: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The first chain of every teacher at the first problems of a run in `root`, as `chains`, and
    the figures of each teacher (length of a chain, speed, cost), as `teachers`.

    Raises ConfigError without a teacher, DataError if neither the filter nor the pool is finished.
    """
    check_run_folder(root)
    recipe = resolve_run(recipe, root, measure=False).recipe
    teachers = teachers_of(recipe)
    if not teachers:
        raise ConfigError(
            "trace --preview: the recipe has no teacher; expected a source that generates chains. "
            "Name one: --set 'trace.sources=[{kind: teacher, model: base}]'"
        )
    check_teachers(recipe)
    check_keys(recipe)
    context = replace(_context(recipe, root), notify=notify, progress=progress)
    problems = order_problems(_problems(context), seed=recipe.seed, limit=num_problems)
    results = [_ask(teacher, problems, context) for teacher in teachers]
    return {
        "chains": [
            row
            for teacher, result in zip(teachers, results, strict=True)
            for row in _rows(teacher, result)
        ],
        "teachers": [result.facts for result in results],
    }


def _context(recipe: Recipe, root: Path) -> StageContext:
    """The context of the stage, which writes nothing into it; without the stage's limits."""
    assert recipe.trace is not None
    config = recipe.trace.model_copy(update={"max_tokens": None, "max_cost": None})
    return StageContext(
        stage="trace", recipe=recipe.model_copy(update={"trace": config}), root=root,
        folder=root / "trace.partial", work_folder=root / "work" / "trace",
        inputs=stage_inputs(recipe, root, "trace"),
    )  # fmt: skip


def _problems(context: StageContext) -> list[Problem]:
    """Training problems of the filter if it is finished, else of the pool."""
    finished = [
        stage
        for stage in ("filter", "pool")
        if stage in context.inputs and (context.inputs[stage] / "manifest.json").exists()
    ]
    if not finished:
        raise missing_stage(context.root, "pool" if "pool" in context.inputs else "filter")
    problems = context.load(Problem, *finished)
    train = [problem for problem in problems if problem.split is Split.TRAIN]
    if not train:
        raise DataError(
            f"{context.inputs[finished[0]]}: no training problem; expected some for the teachers. "
            "Add problems to the pool."
        )
    return train


def _ask(teacher: Teacher, problems: Sequence[Problem], context: StageContext) -> TeacherChains:
    config = teacher.config.model_copy(update={"num_chains": 1, "max_problems": None})
    return sample_teacher(replace(teacher, config=config), problems, context)


def _rows(teacher: Teacher, result: TeacherChains) -> Iterator[dict[str, Any]]:
    for id, (sampled,) in result.chains.items():
        (grade,), problem, price = result.grades[id], sampled.chain.problem, teacher.config.price
        spent = Spent.of(sampled.use, price)
        yield {
            "teacher": teacher.name, "problem_id": problem.id, "question": problem.question,
            "prompt": sampled.prompt, "thinking": sampled.chain.thinking,
            "response": sampled.chain.response, "verdict": grade.verdict.value,
            "extracted": grade.extracted, "gold": grade.gold,
            "truncated": sampled.chain.truncated,
            "prompt_tokens": sampled.use.num_prompt_tokens, "tokens": spent.num_tokens,
            "cost": spent.cost if price else None,
            "provenance": dict(sampled.chain.provenance),
        }  # fmt: skip


def preview_text(preview: Mapping[str, Any]) -> str:
    """The previewed chains as text, and a line of figures for each teacher."""
    rows = preview["chains"]
    parts = []
    for number, row in enumerate(rows, 1):
        money = f", costs {row['cost']:.6f}" if row["cost"] is not None else ""
        parts.append(
            f"=== {number} of {len(rows)}: {row['teacher']} on {row['problem_id']}\n"
            f"--- prompt\n{row['prompt']}\n--- thinking\n{row['thinking']}\n"
            f"--- response\n{row['response']}\n"
            f"--- {row['verdict']}: read {row['extracted']!r}, the key is {row['gold']!r}; "
            f"{row['prompt_tokens']:,} + {row['tokens']:,} tokens{money}"
        )
    return "\n\n".join([*parts, "\n".join(map(_figures, preview["teachers"]))])


def _figures(facts: Mapping[str, Any]) -> str:
    """What a teacher did, with the figures that a dry run needs."""
    speed, cost = facts["tokens_per_second"], facts["cost"]
    return (
        f"{facts['teacher']}: {facts['num_right']} of {facts['num_requests']} right, "
        f"tokens_per_chain: {facts['tokens_per_chain']}"
        + (f", tokens_per_second: {speed:g}" if speed else "")
        + (f", costs {cost:.6f}" if cost is not None else "")
    )
