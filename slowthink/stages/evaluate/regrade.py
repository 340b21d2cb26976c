"""Grade stored answers again, with the current grader and reference answers; nothing is generated.

Token counts and live tree searches are kept; verdicts and all figures computed from them are new.
Rows decided by a judge keep its verdict if the rules still cannot decide them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slowthink.data.load import ProblemSet
from slowthink.errors import DataError
from slowthink.grading import GradeItem, Grader
from slowthink.grading.judge_prompt import is_undecided
from slowthink.records import Grade, Problem
from slowthink.sampling.sampler import is_truncated
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.judge import with_grade
from slowthink.stages.evaluate.sets import problems_by_id


def regrade_rows(
    rows: Sequence[EvaluationRow], sets: Sequence[ProblemSet], grader: Grader
) -> list[EvaluationRow]:
    """The rows with new verdicts. Raises DataError if a row's problem is no longer in a set."""
    problems = problems_by_id(sets)
    items = {row.id: _item(row, problems) for row in rows if not _keeps_verdict(row, problems)}
    grades = dict(zip(items, grader.grade_many(items.values()), strict=True))
    return [_regraded(row, grades[row.id]) if row.id in grades else row for row in rows]


def _keeps_verdict(row: EvaluationRow, problems: Mapping[tuple[str, str], Problem]) -> bool:
    """Whether the row is an imported answer to a multiple-choice problem: its letter refers to an
    order of the options that is no longer known."""
    problem = problems.get((row.benchmark, row.problem_id))
    return row.count_source != "ids" and problem is not None and bool(problem.choices)


def _item(row: EvaluationRow, problems: Mapping[tuple[str, str], Problem]) -> GradeItem:
    problem = problems.get((row.benchmark, row.problem_id))
    if problem is None:
        raise DataError(
            f"evaluate --regrade: {row.benchmark} no longer contains problem {row.problem_id} "
            f"({row.question[:60]!r}); expected the problems that were evaluated. Restore the "
            "file, or evaluate again without --regrade."
        )
    truncated = is_truncated(row.answer, row.answer_end, forced='["closing"' in row.segments)
    return GradeItem(
        problem=problem, answer_text=row.answer, truncated=truncated, last_number=row.last_number
    )


def _regraded(row: EvaluationRow, grade: Grade) -> EvaluationRow:
    if row.method.startswith("judge") and is_undecided(grade):
        return row
    return with_grade(row, grade)
