"""Second opinions of the judge model on rows that the grader's rules cannot decide.

{"model": "judge", "num_asked": 12, "num_decided": 9, "audited": 50, "agreement": 0.9, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from slowthink.records import Grade
from slowthink.sampling.judge import GradedAnswer, judge_undecided, open_judge
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.batches import ArmResult, EvaluationContext
from slowthink.stages.evaluate.sets import problems_by_id


def apply_judge(
    context: EvaluationContext, arms: Mapping[str, ArmResult]
) -> tuple[dict[str, ArmResult], dict[str, Any] | None]:
    """The arms with the judge's verdicts, and its report, None if no judge is configured."""
    config, stage = context.config.judge, context.stage
    if config is None:
        return dict(arms), None
    problems = problems_by_id(context.sets)
    rows = [
        GradedAnswer(
            id=row.id,
            problem=problems[row.benchmark, row.problem_id],
            answer=row.answer,
            grade=Grade(
                verdict=row.verdict, extracted=row.extracted, gold=row.gold, method=row.method
            ),
        )
        for arm in arms.values()
        for row in arm.rows
    ]
    stage.notify(f"evaluate: judge {config.model}")
    recipe, progress = stage.recipe, stage.progress
    with open_judge(
        config, recipe, ledger=context.ledger, notify=stage.notify, progress=progress
    ) as judge:
        grades, report = judge_undecided(judge, rows, seed=recipe.seed)
    judged = {
        name: replace(arm, rows=[with_grade(row, grades.get(row.id)) for row in arm.rows])
        for name, arm in arms.items()
    }
    return judged, report


def with_grade(row: EvaluationRow, grade: Grade | None) -> EvaluationRow:
    """The row with another verdict; unchanged for None."""
    return row if grade is None else replace(row, **asdict(grade))
