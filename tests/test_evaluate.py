"""Figures of an evaluation against figures worked out by hand."""

from __future__ import annotations

import pytest

from slowthink.evaluate import points
from slowthink.evaluate.summary import cell, summarise
from slowthink.recipe import ArmConfig
from slowthink.records import AnswerEnd, EvaluationRow, ThinkingEnd, Verdict
from slowthink.stats import paired_bootstrap, wilson

RIGHT, WRONG, UNGRADABLE = Verdict.CORRECT, Verdict.WRONG, Verdict.UNGRADABLE


def make_row(arm="tuned", problem="a", verdict=RIGHT, cap=8, waits=0, forced=True, **more):
    fields = {
        "id": f"{arm}|{problem}|{cap}|{waits}|{forced}|{more.get('sample', 0)}",
        "arm": arm, "model": arm, "problem_id": problem, "question": "q", "domain": "d",
        "source": "s", "sample": 0, "max_thinking_tokens": cap, "waits": waits, "forced": forced,
        "num_prompt_tokens": 5, "num_thinking_tokens": cap, "num_answer_tokens": 2,
        "num_forced_tokens": 1, "thinking_end": ThinkingEnd.NATURAL, "answer_end": AnswerEnd.STOP,
        "num_waits_used": 0, "verdict": verdict, "extracted": "1", "gold": "1", "method": "m",
        "violations": (), "segments": "[]",
    }  # fmt: skip
    return EvaluationRow(**(fields | more))


def test_accuracy_of_one_sample_has_wilsons_interval() -> None:
    rows = [
        make_row(problem=p, verdict=v)
        for p, v in zip("abcd", (RIGHT, WRONG, RIGHT, RIGHT), strict=True)
    ]
    found = cell(rows, num_resamples=100, seed=0)
    expected = wilson(3, 4)
    assert found["accuracy"] == 0.75
    assert found["ci95"] == [expected.low, expected.high]
    assert found["n"] == 4


def test_what_cannot_be_graded_leaves_the_denominator_and_is_counted() -> None:
    rows = [make_row(problem="a"), make_row(problem="b", verdict=UNGRADABLE)]
    found = cell(rows, num_resamples=100, seed=0)
    assert (found["accuracy"], found["n"], found["num_ungradable"]) == (1.0, 1, 1)


def test_truncated_and_missing_answers_count_as_unsolved() -> None:
    verdicts = (RIGHT, Verdict.TRUNCATED, Verdict.NO_ANSWER, WRONG)
    rows = [make_row(problem=str(i), verdict=v) for i, v in enumerate(verdicts)]
    found = cell(rows, num_resamples=100, seed=0)
    assert (found["accuracy"], found["truncated_rate"], found["no_answer_rate"]) == (
        0.25,
        0.25,
        0.25,
    )


def test_several_samples_weigh_each_problem_the_same() -> None:
    rows = [make_row(problem="a", sample=i, verdict=RIGHT) for i in range(3)]
    rows += [make_row(problem="b", verdict=WRONG)]
    assert cell(rows, num_resamples=100, seed=0)["accuracy"] == 0.5


ARMS = (
    ArmConfig(name="base", model="base", caps=(8,), free=True),
    ArmConfig(name="tuned", caps=(0, 8), waits=(1,)),
)


def made_rows() -> list[EvaluationRow]:
    rows = []
    for i in range(10):
        problem = f"p{i}"
        rows += [
            make_row("base", problem, RIGHT if i < 1 else WRONG),
            make_row("base", problem, RIGHT if i < 3 else WRONG, forced=False),
            make_row("tuned", problem, RIGHT if i < 2 else WRONG, cap=0),
            make_row("tuned", problem, RIGHT if i < 8 else WRONG),
            make_row(
                "tuned", problem, RIGHT if i < 9 else WRONG, waits=1, violations=("x",) * (i == 0)
            ),
        ]
    return rows


def test_difference_is_against_the_better_of_the_bases_ways() -> None:
    found = summarise(made_rows(), ARMS, num_resamples=1000, seed=0)
    expected = paired_bootstrap(
        [float(i < 3) for i in range(10)], [float(i < 8) for i in range(10)], num_resamples=1000, seed=0
    )  # fmt: skip
    assert found["base_accuracy"] == 0.3
    assert found["base_point"]["forced"] is False
    assert found["tuned_accuracy"] == 0.8  # the longest without waits, not the best
    assert found["difference"] == pytest.approx(0.5)
    assert found["difference_ci95"] == [expected.ci95.low, expected.ci95.high]


def test_curve_waits_and_violations() -> None:
    found = summarise(made_rows(), ARMS, num_resamples=100, seed=0)
    assert [(c["max_thinking_tokens"], c["accuracy"]) for c in found["curve"]] == [
        (0, 0.2),
        (8, 0.8),
    ]
    assert [(c["waits"], c["accuracy"]) for c in found["waits"]] == [(0, 0.8), (1, 0.9)]
    assert found["budget_violations"] == 1


def test_one_arm_has_no_difference() -> None:
    rows = [row for row in made_rows() if row.arm == "tuned"]
    found = summarise(rows, ARMS[1:], num_resamples=100, seed=0)
    assert (found["difference"], found["base_accuracy"]) == (None, None)
    assert found["tuned_accuracy"] == 0.8


def test_points_of_an_arm() -> None:
    assert [(p.cap, p.waits, p.forced) for p in points(ARMS[0])] == [(8, 0, False), (8, 0, True)]
    assert [(p.cap, p.waits) for p in points(ARMS[1])] == [(0, 0), (8, 0), (8, 1)]
