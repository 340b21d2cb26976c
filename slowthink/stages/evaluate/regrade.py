"""Grade stored answers again, with today's grader and today's keys; nothing is generated.

What a run says of its tokens and its tree searches stays; verdicts and all figures made of them are
new. Rows that a judge decided keep its verdict where the rules still leave them open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slowthink.errors import DataError
from slowthink.grading import GradeItem, Grader
from slowthink.grading.judge_prompt import is_undecided
from slowthink.records import EvaluationRow, Grade, Problem
from slowthink.sampling.sampler import is_truncated
from slowthink.stages.evaluate.opinions import with_grade
from slowthink.stages.evaluate.sets import ProblemSet


def regraded(
    rows: Sequence[EvaluationRow], sets: Sequence[ProblemSet], grader: Grader
) -> list[EvaluationRow]:
    """The rows with new verdicts. Raises DataError where a row's problem is in no set any more."""
    problems = {(one.name, p.id): p for one in sets for p in one.problems}
    again = {row.id: _item(row, problems) for row in rows if not _as_shown(row, problems)}
    grades = dict(zip(again, grader.grade_many(again.values()), strict=True))
    return [_with(row, grades[row.id]) if row.id in grades else row for row in rows]


def _as_shown(row: EvaluationRow, problems: Mapping[tuple[str, str], Problem]) -> bool:
    """Whether a row's letters may be of another order of options: samples made elsewhere keep the
    verdict that they got when the order was known."""
    problem = problems.get((row.benchmark, row.problem_id))
    return row.count_source != "ids" and problem is not None and bool(problem.choices)


def _item(row: EvaluationRow, problems: Mapping[tuple[str, str], Problem]) -> GradeItem:
    problem = problems.get((row.benchmark, row.problem_id))
    if problem is None:
        raise DataError(
            f"evaluate --regrade: {row.benchmark} has no problem {row.problem_id} any more "
            f"({row.question[:60]!r}); expected the problems that the rows were made for. Bring "
            "the file back, or evaluate again without --regrade."
        )
    truncated = is_truncated(row.answer, row.answer_end, forced='["closing"' in row.segments)
    return GradeItem(
        problem=problem, answer_text=row.answer, truncated=truncated, last_number=row.last_number
    )


def _with(row: EvaluationRow, grade: Grade) -> EvaluationRow:
    if row.method.startswith("judge") and is_undecided(grade):
        return row
    return with_grade(row, grade)
