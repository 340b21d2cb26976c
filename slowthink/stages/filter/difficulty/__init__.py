"""The filter by difficulty: models try the problems, and those outside the band go.

Steps run in their sequence, and the models of a step in theirs, each on what those before left
open; what a model decided is not asked of the next. `difficulty.jsonl` has a line for each problem
and model, `key_review.jsonl` one for each key in doubt.

    {"id": "p-…", "step": "difficulty: fine", "reason": "solved too often (above max_correct)",
     "evidence": "4 of 4 right, 95 % interval 0.51 to 1.00"}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from slowthink.data.rows import as_evidence
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.pipeline.run_folder import write_atomic
from slowthink.recipe import DifficultyConfig
from slowthink.records import Dropped, Problem
from slowthink.serialise import plain
from slowthink.stages.filter.difficulty.cost import (
    Estimate,
    drawn_to_test,
    estimates,
    num_tried,
    sub_pool,
)
from slowthink.stages.filter.difficulty.measure import difficulty_facts
from slowthink.stages.filter.difficulty.trial import StepContext, StepResult, run_trial
from slowthink.stages.filter.state import Funnel

__all__ = ["Estimate", "difficulty", "estimates", "num_tried"]

SUB_POOL = "difficulty: sub-pool"


def difficulty(funnel: Funnel, context: StageContext) -> None:
    """Attempts, then the bands; problems that nobody could try stay and are counted."""
    config: DifficultyConfig | None = context.config.difficulty
    if config is None:
        return
    tested = _drawn(funnel, context, config)
    if not tested:
        return
    for one in estimates(config, context.recipe, num_problems=len(tested)):
        context.notify(f"filter: {one.line()}")
    trials, before, steps = [], funnel.problems, config.in_sequence()
    with context.open_ledger() as ledger, Grader() as grader:
        for number, step in enumerate(steps, start=1):
            trial = run_trial(
                tested,
                step,
                tools=StepContext(context, ledger, grader),
                key_check=config.key_check,
                is_last=number == len(steps),
            )
            trials.append(trial)
            for name, dropped in trial.dropped.items():
                funnel.drop(name, dropped)
            gone = {drop.id for found in trial.dropped.values() for drop in found}
            tested = [problem for problem in tested if problem.id not in gone]
        cost, seconds = ledger.spent(context.stage)
    funnel.facts |= {"tokens": plain(cost), "sampling_seconds": seconds}
    _report(funnel, context, trials, problems=before)


def _drawn(funnel: Funnel, context: StageContext, config: DifficultyConfig) -> list[Problem]:
    """The problems that are tried; with `hours` the others are dropped."""
    if config.hours is None:
        chosen = drawn_to_test(funnel.problems, config, seed=context.recipe.seed)
    else:
        chosen = set(sub_pool(funnel.problems, config, context.recipe))
        reason = "not drawn into the part of the pool that fits the hours"
        funnel.drop(
            SUB_POOL,
            [
                Dropped(
                    id=problem.id,
                    step=SUB_POOL,
                    reason=reason,
                    evidence=as_evidence(problem.question),
                )
                for problem in funnel.problems
                if problem.id not in chosen
            ],
        )
    return [problem for problem in funnel.problems if problem.id in chosen]


def _report(
    funnel: Funnel, context: StageContext, trials: list[StepResult], *, problems: list[Problem]
) -> None:
    """Facts, and a line for each measurement and each doubt. Rates are the last model's."""
    domains = {problem.id: problem.domain for problem in problems}
    measured = [found for trial in trials for found in trial.measures]
    final = next((trial.measures for trial in reversed(trials) if trial.measures), [])
    shown = [one for one in final if one.model == final[-1].model]
    num_tried = len({found.id for found in measured})
    facts = difficulty_facts(shown, num_untested=len(problems) - num_tried, domains=domains)
    doubts = [doubt for trial in trials for doubt in trial.doubts]
    attempts = [row for trial in trials for row in trial.attempts]
    for line in _unanswered(attempts):
        context.notify(line)
    funnel.facts |= {
        "budget_violations": sum(row["budget_violations"] for row in attempts),
        "difficulty": facts | {"num_tested": num_tried, "num_keys_in_doubt": len(doubts)},
        "attempts": attempts,
    }
    server = [row["server"] for row in attempts if "server" in row]
    funnel.facts |= {"server": server[-1]} if server else {}
    lines: dict[str, list[dict[str, Any]]] = {"difficulty.jsonl": [
        {"step": trial.name} | found.row() for trial in trials for found in trial.measures
    ]}  # fmt: skip
    if doubts:
        lines["key_review.jsonl"] = [doubt.row() for doubt in doubts]
    for name, rows in lines.items():
        text = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(context.folder / name, text)


def _unanswered(attempts: list[dict[str, Any]]) -> Iterator[str]:
    """A warning for each model of which most attempts count as unsolved for want of an answer."""
    for row in attempts:
        number, total = row.get("num_no_answer", 0), row.get("num_attempts", 0)
        if number > total / 2:
            yield (
                f"filter: {row['step']}: {row['model']}: {number} of {total} attempts state no "
                "answer and count as unsolved; expected most to. Give them room (answer_tokens), "
                "or set last_number where recorded answers have no mark"
            )
