"""The decision on difficulty, from attempts that we make up."""

from __future__ import annotations

import pytest

from slowthink.filter.difficulty import (
    decide,
    difficulty_facts,
    drawn_to_test,
    measure,
    out_of_band,
)
from slowthink.recipe import DifficultyConfig
from slowthink.records import Grade, Problem, Verdict

LETTERS = {
    "c": Verdict.CORRECT, "w": Verdict.WRONG, "n": Verdict.NO_ANSWER, "t": Verdict.TRUNCATED,
    "u": Verdict.UNGRADABLE, "e": Verdict.GRADER_ERROR,
}  # fmt: skip


def grades(letters: str) -> list[Grade]:
    return [Grade(verdict=LETTERS[letter]) for letter in letters]


def problem(number: int) -> Problem:
    return Problem(
        id=f"p-{number}", duplicate_key=str(number), question=str(number), source="test",
        source_row="1",
    )  # fmt: skip


RATES = {
    "all right": ("cc", 2, 2, 1.0),
    "none right": ("ww", 0, 2, 0.0),
    "cut off counts as unsolved": ("ct", 1, 2, 0.5),
    "no answer counts as unsolved": ("cn", 1, 2, 0.5),
    "ungradable leaves the denominator": ("cuu", 1, 1, 1.0),
    "grader error leaves the denominator": ("we", 0, 1, 0.0),
    "nothing counts": ("uu", 0, 0, None),
}


@pytest.mark.parametrize("letters, correct, counted, rate", RATES.values(), ids=RATES.keys())
def test_pass_rate_of(letters: str, correct: int, counted: int, rate: float | None) -> None:
    found = measure("p", grades(letters))
    assert (found.num_correct, found.num_counted, found.pass_rate) == (correct, counted, rate)


def test_interval_is_wilsons() -> None:
    found = measure("p", grades("cw"))
    assert found.low == pytest.approx(0.0945, abs=1e-4)
    assert found.high == pytest.approx(0.9055, abs=1e-4)


def test_kinds_of_failure_are_counted_apart() -> None:
    assert measure("p", grades("ctnwt")).verdicts == {
        "truncated": 2,
        "correct": 1,
        "no_answer": 1,
        "wrong": 1,
    }


BANDS = {
    "at the upper end": ("cw", 0.0, 0.5, None),
    "above": ("ccw", 0.0, 0.5, "solved too often (above max_pass_rate)"),
    "at the lower end": ("cwww", 0.25, 1.0, None),
    "below": ("wwww", 0.25, 1.0, "solved too rarely (below min_pass_rate)"),
    "unsolved is kept by default": ("ww", 0.0, 0.5, None),
    "not measurable": ("u", 0.0, 1.0, "no attempt can be graded"),
}


@pytest.mark.parametrize(("letters", "low", "high", "reason"), BANDS.values(), ids=BANDS.keys())
def test_band_keeps_or_drops(letters: str, low: float, high: float, reason: str | None) -> None:
    config = DifficultyConfig(min_pass_rate=low, max_pass_rate=high)
    assert decide(measure("p", grades(letters)), config) == reason


def test_drop_carries_the_measurement() -> None:
    (dropped,) = out_of_band([measure("p", grades("cc"))], DifficultyConfig())
    assert dropped.evidence == "2 of 2 right, 95 % interval 0.34 to 1.00"


def test_tested_problems_do_not_depend_on_order_and_change_with_the_seed() -> None:
    problems, config = [problem(number) for number in range(100)], DifficultyConfig(max_problems=10)
    first = drawn_to_test(problems, config, seed=0)
    assert len(first) == 10
    assert drawn_to_test(problems[::-1], config, seed=0) == first
    assert drawn_to_test(problems, config, seed=1) != first


def test_without_a_limit_all_are_tested() -> None:
    config = DifficultyConfig(max_problems=None)
    assert drawn_to_test([problem(1), problem(2)], config, seed=0) == {"p-1", "p-2"}


def test_facts_have_histogram_interval_and_domains() -> None:
    measures = [measure("a", grades("cc")), measure("b", grades("cw")), measure("c", grades("wt"))]
    facts = difficulty_facts(measures, num_problems=10, domains={"a": "x", "b": "x", "c": None})
    assert facts["pass_rates"] == {"0 of 2": 1, "1 of 2": 1, "2 of 2": 1}
    assert (facts["num_tested"], facts["num_untested"], facts["pass_rate"]) == (3, 7, 0.5)
    assert facts["verdicts"] == {"correct": 3, "truncated": 1, "wrong": 2}
    assert facts["pass_rate_by_domain"] == {"unknown": 0.0, "x": 0.75}
    assert facts["pass_rate_ci95"] == pytest.approx([0.1876, 0.8124], abs=1e-4)
