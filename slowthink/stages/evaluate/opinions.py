"""The judge's second opinions on rows that the rules left open.

{"model": "judge", "num_asked": 12, "num_decided": 9, "audited": 50, "agreement": 0.9, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slowthink.records import EvaluationRow, Grade, Problem
from slowthink.sampling.judge import GradedAnswer, judge_undecided, open_judge
from slowthink.stages.evaluate.arms import ArmResult, EvaluationContext


def judged(
    bench: EvaluationContext, measured: Mapping[str, ArmResult]
) -> tuple[dict[str, ArmResult], dict[str, Any] | None]:
    """The arms with rows that the judge decided, and its report; None where none is configured."""
    config, context = bench.config.judge, bench.context
    if config is None:
        return dict(measured), None
    problems = {(one.name, p.id): p for one in bench.sets for p in one.problems}
    asked = [_row(row, problems) for arm in measured.values() for row in arm.rows]
    context.notify(f"evaluate: judge {config.model}")
    recipe, progress = context.recipe, context.progress
    with open_judge(
        config, recipe, ledger=bench.ledger, notify=context.notify, progress=progress
    ) as judge:
        decided, report = judge_undecided(judge, asked, seed=recipe.seed)
    found = {
        name: replace(arm, rows=[with_grade(row, decided.get(row.id)) for row in arm.rows])
        for name, arm in measured.items()
    }
    return found, report


def with_grade(row: EvaluationRow, grade: Grade | None) -> EvaluationRow:
    """The row with another verdict; the same for None."""
    if grade is None:
        return row
    return replace(
        row,
        verdict=grade.verdict,
        extracted=grade.extracted,
        gold=grade.gold,
        method=grade.method,
    )


def _row(row: EvaluationRow, problems: Mapping[tuple[str, str], Problem]) -> GradedAnswer:
    grade = Grade(verdict=row.verdict, extracted=row.extracted, gold=row.gold, method=row.method)
    problem = problems[row.benchmark, row.problem_id]
    return GradedAnswer(id=row.id, problem=problem, answer=row.answer, grade=grade)
