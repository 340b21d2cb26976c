"""Stopping early gives the same disputed answers as all attempts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_filter_difficulty_stage import SHARED, lines, run, samples

from slowthink.data.tables import read_records
from slowthink.grading import Grader
from slowthink.recipe import KeyCheckConfig
from slowthink.records import Dropped, Grade, Problem, Verdict
from slowthink.stages.filter.difficulty.band import BandDecision
from slowthink.stages.filter.difficulty.key_check import KeyCheck, find_dispute

CONFIG = KeyCheckConfig(min_votes=3, min_share=0.7)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def grades(letters: str) -> list[Grade]:
    """`=`: correct; `-`: no answer; a digit: that wrong answer."""
    verdicts = {"=": Verdict.CORRECT, "-": Verdict.NO_ANSWER}
    return [
        Grade(
            verdict=verdicts.get(letter, Verdict.WRONG),
            extracted=letter if letter.isdigit() else None,
        )
        for letter in letters
    ]


def test_settled_if_every_continuation_agrees(make_problem, grader: Grader) -> None:
    """Against all ends of up to 3 more attempts, of this model or the next."""
    problem, rng = make_problem("What is it?", "0"), random.Random(0)
    ends = [""]
    for end in ends:
        ends += [end + letter for letter in "=-78"] if len(end) < 3 else []
    num_settled = 0
    for _ in range(60):
        seen = "".join(rng.choices("==-777889", k=rng.randrange(7)))
        num_before, num_left = rng.randrange(len(seen) + 1), rng.randrange(4)
        num_later = 3 - num_left
        check = KeyCheck(
            config=CONFIG, decisions=frozenset(BandDecision), num_later_votes=num_later,
            earlier_votes={problem.id: grades(seen[:num_before])},
        )  # fmt: skip
        is_settled = check.is_settled(
            grades(seen[num_before:]), num_left, problem=problem, grader=grader
        )
        all_ends = {
            find_dispute(problem, grades(seen + end), grader, config=CONFIG) is not None
            for end in ends
        }
        assert is_settled is (len(all_ends) == 1), (seen, num_left)
        num_settled += is_settled
    assert 10 < num_settled < 50


SETTINGS: dict[str, dict[str, Any]] = {
    "pass rate": {"max_pass_rate": 0.5},
    "band": {"min_correct": 2, "max_correct": 3},
    "coarse": {"max_correct": 0},
    "majority": {"measure": "majority", "max_pass_rate": 0.5},
    "in waves": {"max_pass_rate": 0.5, "wave_size": 3},
    "cut off do not count": {"max_pass_rate": 0.5, "truncated": "uncounted"},
}


@pytest.mark.parametrize("num_models", [1, 2])
@pytest.mark.parametrize("rule", ["any", "all"])
@pytest.mark.parametrize("band", SETTINGS.values(), ids=SETTINGS.keys())
def test_exact_drops_what_all_attempts_would_and_for_the_same_reason(
    tmp_path: Path, make_problem, band: dict[str, Any], rule: str, num_models: int
) -> None:
    problems = [make_problem(f"What is {n} + {n}?", str(2 * n)) for n in range(24)]
    rng = random.Random(7)
    models = []
    for number in range(num_models):
        answers = {
            n: rng.choices([str(2 * n), "999", "998", "cut"], [rng.random(), 2, 0.3, 0.1], k=6)
            for n in range(24)
        }
        answers[0] = list("123456")  # never solved, and no two agree
        models.append({"samples": samples(tmp_path / f"{number}.jsonl", problems, answers)})
    settings = {"models": models, "num_attempts": 6, "max_problems": None, "rule": rule} | band
    drops, numbers = [], []
    for stop in ("never", "exact"):
        manifest = run(tmp_path, problems, stop=stop, **settings)
        dropped = read_records(tmp_path / "run/filter/dropped.parquet", Dropped)
        drops.append({(drop.id, drop.step, drop.reason) for drop in dropped})
        numbers.append(sum(row["num_attempts"] for row in manifest["facts"]["attempts"]))
    assert drops[0] == drops[1]
    assert any(step.endswith("key in doubt") for _, step, _ in drops[0])
    assert numbers[1] < numbers[0]


def test_attempts_that_cannot_dispute_the_answer_are_not_made(tmp_path: Path, make_problem) -> None:
    """Two wrong of four decide the band; a dispute needs four that agree."""
    problems: list[Problem] = [make_problem(f"What is {n} + {n}?", str(2 * n)) for n in range(2)]
    path = samples(tmp_path / "s.jsonl", problems, {0: ["7", "8", "9", "0"], 1: ["7"] * 4})
    settings = {"models": [{"samples": path}], "num_attempts": 4, "max_problems": None}
    run(tmp_path, problems, stop="exact", **settings)
    num_counted = {row["id"]: row["num_counted"] for row in lines(tmp_path, "difficulty.jsonl")}
    assert [num_counted[p.id] for p in problems] == [2, 4]


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_real_samples_give_the_same_decisions_early_and_late(tmp_path: Path, make_problem) -> None:
    path = SHARED / "math500_o1journey_12models.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    keys = {row["question"]: row["answer"] for row in rows if row["answer"]}
    problems = [make_problem(question, answer) for question, answer in keys.items()]
    settings = {"models": [{"samples": str(path)}], "num_attempts": 6, "max_problems": None}
    drops = []
    for stop in ("never", "exact"):
        run(tmp_path, problems, stop=stop, min_correct=1, max_correct=3, **settings)
        dropped = read_records(tmp_path / "run/filter/dropped.parquet", Dropped)
        drops.append({(drop.id, drop.step, drop.reason) for drop in dropped})
    assert drops[0] == drops[1]
    doubts = [drop for drop in drops[1] if drop[1].endswith("key in doubt")]
    assert len(doubts) == pytest.approx(5, abs=2)
