"""The grading cases that were made after other projects' public reports; never copied here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.grading import Grader
from slowthink.records import Problem, Verdict

CASES = Path(__file__).resolve().parents[3] / "shared/data/field/failing.jsonl"

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not CASES.exists(), reason="no shared data beside the project"),
]


def read_cases() -> list[dict[str, Any]]:
    if not CASES.exists():
        return []
    lines = CASES.read_text(encoding="utf-8").split("\n")
    return [case for line in lines if line and (case := json.loads(line))["area"] == "grading"]


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case["kind"])
def test_a_case_from_a_report_is_graded_right(grader: Grader, case: dict[str, Any]) -> None:
    problem = Problem(
        id="p", duplicate_key="d", question="?", answer=case["gold"],
        choices=tuple(case["choices"]), source="field", source_row="1",
    )  # fmt: skip
    grade = grader.grade(problem, case["response"])
    assert (grade.verdict is Verdict.CORRECT) == (case["right"] == "correct"), grade
