"""Equivalent answers are in one group."""

from __future__ import annotations

import time

import pytest

from slowthink.grading.cluster import group_answers


@pytest.mark.parametrize(
    ("answers", "group_ids"),
    [
        ([], []),
        ([None, ""], [None, None]),
        (["1/2", "0.5", None, r"\frac12", "7", r"\dfrac{1}{2}"], [0, 0, None, 0, 1, 0]),
        (["7", "3", "7.0", "3"], [0, 1, 0, 1]),
        (["(1,2)", "[1,2]", "(1, 2)"], [0, 1, 0]),
        ([r"x^2+2x+1", r"(x+1)^2", r"(x-1)^2"], [0, 0, 1]),
        (["no idea at all ((", "no idea at all ((", "}{"], [0, 0, 1]),
        (["6", "600", "0.06"], [0, 1, 2]),
    ],
)
def test_groups(grader, answers, group_ids) -> None:
    assert group_answers(answers, grader) == group_ids


def test_options_by_letter_and_by_text(grader) -> None:
    choices = ("blue", "green")
    assert group_answers(["A", "blue", "B", "(A)"], grader, choices=choices) == [0, 0, 1, 0]


def test_many_answers_take_seconds(grader) -> None:
    answers = [rf"\frac{{{i % 30}}}{{{i % 7 + 1}}} + {i % 3}\sqrt{{{i % 5}}}" for i in range(120)]
    started = time.monotonic()
    groups = group_answers(answers, grader)
    assert len(set(groups)) > 30
    assert time.monotonic() - started < 30
