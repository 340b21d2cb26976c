"""Ordinary right answers that rules against wrong ones must not harm, and their neighbours."""

from __future__ import annotations

import re

import pytest

from slowthink.grading.extract import extract
from slowthink.grading.grader import GradeItem, Grader
from slowthink.grading.sentinels import says_nothing
from slowthink.records import Verdict
from slowthink.stages.trace.formats import split_thinking, without_wrapper

EQUAL = [
    (r"2\vec{a}", r"2\cdot\vec{a}"),
    (r"\vec{F}=1.2\times10^{-3}\vec{i}", r"\vec{F}=0.0012\vec{i}"),
    (r"\vec{a}\cdot\vec{b}=6", r"\vec{a}\cdot\vec{b}=2\times3=6"),
    ("The final answer is 4", "The correct answer is 4"),
    ("the largest value is 4", "the greatest value is 4"),
    ("The cost of a pen is 5", "The cost of one pen is 5"),
    ("1", r"1 \text{ for all } n"),
    ("A, B and D", "D, B and A"),
    ("A、C、D", "D、C、A"),
    ("ABD", "Answer: A, B, D"),
    ("5", r"5 \text{ is the answer}"),
    ("3:4", r"\text{The ratio is: }3:4"),
    ("5 kPa", "5千帕"),
]
UNEQUAL = [
    (r"\mathbf{a}\cdot\mathbf{b}", r"\mathbf{a}\times\mathbf{b}"),
    ("1 for all n", "1 for all n>2"),
    (r"0 for all x \ne 1", "0"),
    (r"x=k\pi, k\in\mathbb{Q}", r"x=k\pi, k\in\mathbb{Z}"),
    ("BDAC", "ABCD"),
    ("the tens digit is 4", "the units digit is 4"),
    ("x=1", r"x=1 \text{ is not a solution}"),
]


@pytest.mark.parametrize(
    ("gold", "answer", "is_equal"),
    [(*pair, True) for pair in EQUAL] + [(*pair, False) for pair in UNEQUAL],
)
def test_an_answer_is_compared(gold, answer, is_equal, grader: Grader, make_problem) -> None:
    problem = make_problem(answer=gold)
    (grade,) = grader.grade_many([GradeItem(problem=problem, answer_text=rf"\boxed{{{answer}}}")])
    assert (grade.verdict is Verdict.CORRECT) == is_equal


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</think>\nSo \\boxed{4}\n<reflection>fine</reflection>",
        "## \\boxed{4}\n<reflection>ok</reflection>",
        "The answer is 4.\n<analysis>\nI checked.",
        "The options are [COT] or [SIN]. The answer is \\boxed{4}.",
        "The interval is [ANALYSIS]. \\boxed{4}",
        "Data type <reason> is used. \\boxed{4}",
        "<analysis>2+2=5? No.</analysis>The answer is 4.",
    ],
)
def test_a_heading_inside_a_response_is_no_delimiter(text: str) -> None:
    assert extract(text) == "4"


@pytest.mark.parametrize(
    "key", ["error in the third step", "no response", "no result", "结果", "数据", "分析", "过程"]
)
def test_what_may_be_asked_for_is_a_key(key: str) -> None:
    assert not says_nothing(key)


@pytest.mark.parametrize("text", ["<p>Let x be 2.</p> So x = 2", "<div>a</div>\nThe answer is 5."])
def test_html_is_no_thinking_that_nobody_knows(text: str) -> None:
    assert split_thinking(text).thinking == text


def test_two_answers_in_tags_are_not_one() -> None:
    assert without_wrapper("<Answer>4</Answer>") == "4"
    both = "<answer>4</answer> and <answer>5</answer>"
    assert without_wrapper(both) == both


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes, there are 12 of them.", "12"),
        ("No, he has 5 apples left.", "5"),
        ("Yes: 7.", "7"),
        ("No, because the sum would have to be odd.", "No"),
        ("**Yes**, since it is prime.", "Yes"),
    ],
)
def test_yes_or_no_is_the_answer_only_where_no_value_is_stated(text: str, answer: str) -> None:
    assert re.findall(r"\d+|Yes|No", extract(text) or "")[0] == answer
