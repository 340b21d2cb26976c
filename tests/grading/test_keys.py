"""Reference answers as data sets write them, read alike by pools, benchmarks and the grader."""

from __future__ import annotations

import pytest

from slowthink.data.problems import Columns, Origin, make_problem
from slowthink.data.rows import SourceRow
from slowthink.data.stored.columns import reference_answer
from slowthink.grading import Grader
from slowthink.grading.keys import read_key, split_key
from slowthink.records import Problem, Verdict

KEYS = {
    "plain": ("24", "24"),
    "marked": ("48/2 = <<48/2=24>>24.\n#### 24", "24"),
    "marked-negative": ("It falls.\n#### -5\n", "-5"),
    "marked-in-one-line": ("48/2 = 24. #### 24", "24"),
    "marked-thousands": ("x\n####1,200", "1,200"),
    "heading-is-no-mark": ("#### Solution\nHalf of 48 is 24.", "#### Solution\nHalf of 48 is 24."),
    "box": (r"so $\boxed{24}$", "24"),
    "missing": ("notfound", None),
    "missing-note": ("See solution.", None),
    "missing-chinese": ("略", None),
    "missing-chinese-note": ("（见解析）", None),
    "missing-proof": ("proof", None),
    "empty": ("  ", None),
    "none": ("None", None),
    "no-solution-is-an-answer": ("no solution", "no solution"),
}


@pytest.mark.parametrize(("text", "key"), KEYS.values(), ids=KEYS.keys())
def test_the_key_is_read_out_of_its_column(text: str, key: str | None) -> None:
    assert read_key(text) == key
    assert reference_answer(text, ()) == key


def test_a_key_is_split_from_the_solution_before_it() -> None:
    assert split_key("48/2 = 24.\n#### 24") == ("24", "48/2 = 24.")
    assert split_key("24") == ("24", None)


def test_a_pool_reads_the_key_as_benchmarks_do() -> None:
    row = SourceRow(1, {"question": "How many?", "answer": "5 * 200 = 1000.\n#### 1,000"})
    problem = make_problem(row, Columns(), Origin(name="gsm8k"))
    assert (problem.answer, problem.solution) == ("1,000", "5 * 200 = 1000.")
    assert "answer after ####" in problem.meta
    row.values["answer"] = "not found"
    assert make_problem(row, Columns(), Origin(name="gsm8k")).answer is None


def test_the_grader_reads_the_key(grader: Grader) -> None:
    verdicts = []
    for answer in ("48/2 = <<48/2=24>>24.\n#### 24", "#### 25", "notfound"):
        problem = Problem(
            id="p", duplicate_key="d", question="?", answer=answer, source="x", source_row="1"
        )
        verdicts.append(grader.grade(problem, "\\boxed{24}").verdict)
    assert verdicts == [Verdict.CORRECT, Verdict.WRONG, Verdict.UNGRADABLE]
