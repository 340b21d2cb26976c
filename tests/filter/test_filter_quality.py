"""s1's quality rules, by examples that they drop or keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slowthink.records import Problem, duplicate_key, problem_id
from slowthink.stages.filter.quality import QUALITY_RULES


def problem(question: str, *, answer: str | None = "1", source: str = "test") -> Problem:
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, source=source, source_row="1",
    )  # fmt: skip


def rules_that_drop(candidate: Problem) -> list[str]:
    return [name for name, rule in QUALITY_RULES["s1"].items() if rule(candidate) is not None]


CASES = {
    "plain": ("What is 1 + 1?", []),
    "asy": ("[asy] draw(A--B); [/asy] Find AB.", ["drawing"]),
    "image": ("See ![Image](a.png).", ["image"]),
    "lower-case image": ("See ![image](a.png).", []),
    "first part": ("p1. Find x. p2. Find y.", ["multi_part"]),
    "part 999": ("p999. Find x.", ["multi_part"]),
    "part 1000": ("p1000. Find x.", []),
    "part 0": ("p0. Find x.", []),
    "part in a word": ("The top7. They win.", ["multi_part"]),
    "bold before digit": ("**Problem** 7 asks", ["bold_number"]),
    "bold digit": ("**7** asks", ["bold_number"]),
    "bold without digit": ("**Find** x", []),
    "bold, digit on the next line": ("**Find** x\n7", []),
    "bold with space": ("**Find this** 7", []),
    "asy and part": ("[asy] p3.", ["drawing", "multi_part"]),
}


@pytest.mark.parametrize(("question", "expected"), CASES.values(), ids=CASES.keys())
def test_question_is_dropped_by(question: str, expected: list[str]) -> None:
    assert rules_that_drop(problem(question)) == expected


def test_aime_keeps_its_drawings() -> None:
    assert rules_that_drop(problem("[asy] x [/asy]", source="aime_1983")) == []


def test_problem_needs_an_answer_or_a_solution() -> None:
    bare = problem("Prove it.", answer=None)
    assert rules_that_drop(bare) == ["no_reference"]
    assert rules_that_drop(replace(bare, solution="By induction.")) == []
