"""The filter by difficulty: models attempt the problems, and those outside the band are dropped.

Steps run in order, and so do the models of a step, each on the problems that are still open; a
problem decided by one model is not attempted by the next. `difficulty.jsonl` has a line for each
problem and model, `key_review.jsonl` one for each disputed reference answer, `attempts.parquet` one
for each attempt of a model, with its text: chains for `trace` (source `attempts`).

    {"id": "p-…", "step": "difficulty: fine", "reason": "solved too often (above max_correct)",
     "evidence": "4 of 4 right, 95 % interval 0.51 to 1.00"}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slowthink.data.rows import as_evidence
from slowthink.data.tables import ATTEMPTS_TABLE, RecordWriter
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import DifficultyConfig
from slowthink.records import Dropped, Problem
from slowthink.serialise import plain, write_atomic
from slowthink.stage_rows import Attempt
from slowthink.stages.filter.difficulty.cost import estimate_costs, ids_to_test
from slowthink.stages.filter.difficulty.pass_rates import difficulty_facts
from slowthink.stages.filter.difficulty.step import StepContext, StepResult, run_step
from slowthink.stages.filter.funnel import Funnel

SUB_POOL = "difficulty: sub-pool"


def drop_by_difficulty(funnel: Funnel, context: StageContext) -> None:
    """Drop the problems outside the bands. Problems without any attempt are kept and counted."""
    config: DifficultyConfig | None = context.config.difficulty
    if config is None:
        return
    tested = _select_tested(funnel, context, config)
    if not tested:
        return
    for estimate in estimate_costs(config, context.recipe, num_problems=len(tested)):
        context.notify(f"filter: {estimate.line()}")
    problems, steps, all_tested = funnel.problems, config.resolved_steps(), tested
    results: list[StepResult] = []
    table = RecordWriter(context.folder / ATTEMPTS_TABLE, Attempt)
    with context.open_ledger() as ledger, Grader() as grader, table:
        for step in steps:
            step_context = StepContext(
                step=step, key_check=config.key_check, is_last=step is steps[-1],
                tested=all_tested, stage=context, ledger=ledger, grader=grader, table=table,
            )  # fmt: skip
            result = run_step(tested, step_context)
            results.append(result)
            for name, dropped in result.dropped.items():
                funnel.drop(name, dropped)
            dropped_ids = {drop.id for dropped in result.dropped.values() for drop in dropped}
            tested = [problem for problem in tested if problem.id not in dropped_ids]
        cost, seconds = ledger.spent(context.stage)
    funnel.facts |= {"tokens": plain(cost), "sampling_seconds": seconds}
    _write_report(funnel, context, results, problems=problems)


def _select_tested(
    funnel: Funnel, context: StageContext, config: DifficultyConfig
) -> list[Problem]:
    """The problems to test; with `hours` the others are dropped."""
    ids = ids_to_test(funnel.problems, config, context.recipe)
    if config.hours is not None:
        reason = "not drawn into the part of the pool that fits the hours"
        dropped = [
            Dropped(id=p.id, step=SUB_POOL, reason=reason, evidence=as_evidence(p.question))
            for p in funnel.problems
            if p.id not in ids
        ]
        funnel.drop(SUB_POOL, dropped)
    return [problem for problem in funnel.problems if problem.id in ids]


def _write_report(
    funnel: Funnel, context: StageContext, results: list[StepResult], *, problems: list[Problem]
) -> None:
    """Add the facts, and write a line for each pass rate and each disputed answer. The facts show
    the pass rates of the last model of the last step."""
    estimates = [(result.name, estimate) for result in results for estimate in result.estimates]
    last_model = [
        estimate
        for name, estimate in estimates
        if (name, estimate.model) == (estimates[-1][0], estimates[-1][1].model)
    ]
    num_tested = len({estimate.id for _, estimate in estimates})
    domains = {problem.id: problem.domain for problem in problems}
    facts = difficulty_facts(last_model, num_untested=len(problems) - num_tested, domains=domains)
    disputed = [answer for result in results for answer in result.disputed]
    attempts = [row for result in results for row in result.attempts]
    warnings = list(_no_answer_warnings(attempts))
    for warning in warnings:
        context.notify(f"filter: {warning}")
    funnel.facts |= {
        "warnings": [*funnel.facts.get("warnings", ()), *warnings],
        "budget_violations": sum(row["budget_violations"] for row in attempts),
        "difficulty": facts | {"num_tested": num_tested, "num_keys_in_doubt": len(disputed)},
        "attempts": attempts,
    }
    servers = [row["server"] for row in attempts if "server" in row]
    funnel.facts |= {"server": servers[-1]} if servers else {}
    rows = [{"step": name} | estimate.row() for name, estimate in estimates]
    _write_lines(context.folder / "difficulty.jsonl", rows)
    if disputed:
        _write_lines(context.folder / "key_review.jsonl", [answer.row() for answer in disputed])


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows]
    write_atomic(path, "".join(lines))


def _no_answer_warnings(attempts: list[dict[str, Any]]) -> Iterator[str]:
    """A warning for each model whose attempts mostly count as unsolved for lack of an answer."""
    for row in attempts:
        num_attempts, num_unanswered = row.get("num_attempts", 0), row.get("num_no_answer", 0)
        if num_unanswered > num_attempts / 2:
            yield (
                f"{row['step']}: {row['model']}: {num_unanswered:,} of {num_attempts:,} "
                "attempts give no answer and count as unsolved; expected an answer in most. Raise "
                "answer_tokens, or set last_number if recorded answers are not marked"
            )
