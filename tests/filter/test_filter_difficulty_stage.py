"""The difficulty filter as part of the stage: replayed models, recorded samples, disputed answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.tables import read_records
from slowthink.errors import ConfigError
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem
from slowthink.serialise import plain
from slowthink.stages import filter as filter_stage

SHARED = Path(__file__).resolve().parents[2].parent / "shared/data/samples"


@pytest.fixture
def problems(make_problem) -> list[Problem]:
    return [make_problem(f"What is {n} + {n}?", str(2 * n), source="test") for n in range(8)]


def scripts(path: Path, problems: list[Problem], *, right: set[int], other: str = "-1") -> str:
    rows = [
        {
            "question": p.question,
            "thinking": ["so"],
            "answer": p.answer if n in right else other,
        }
        for n, p in enumerate(problems)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def samples(path: Path, problems: list[Problem], answers: dict[int, list[str]]) -> str:
    rows = [
        {"question": problems[n].question, "answer": problems[n].answer, "sample": sample,
         "response": f"\\boxed{{{text}}}", "model": "m", "truncated": text == "cut"}
        for n, texts in answers.items() for sample, text in enumerate(texts)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def model(path: str) -> dict[str, Any]:
    engine = {"kind": "replay", "replay": path}
    return {"model": Path(path).stem, "engine": engine, "max_thinking_tokens": 16,
            "answer_tokens": 40}  # fmt: skip


def run(
    folder: Path,
    problems: list[Problem],
    *,
    notify: Callable[[str], None] = lambda text: None,
    **difficulty: Any,
) -> dict[str, Any]:
    """Run the stage; returns its manifest."""
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(plain(p)) + "\n" for p in problems))
    settings = {"input": str(path), "quality": None, "duplicates": None, "difficulty": difficulty}
    recipe = parse_recipe({"name": "test", "filter": settings})
    context = make_context(recipe, folder / "run", "filter", notify=notify)
    return execute(context, filter_stage.run, version=filter_stage.STAGE_VERSION)


def kept(folder: Path) -> list[int]:
    problems = read_records(folder / "run/filter", Problem)
    return sorted(int(p.question.split()[2]) for p in problems)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run/filter" / name).read_text().splitlines()]


@pytest.mark.parametrize(("rule", "expected"), [("any", [4, 5, 6, 7]), ("all", [0, 1, 4, 5, 6, 7])])
def test_s1_drops_what_either_or_both_of_two_models_solve(
    tmp_path: Path, problems: list[Problem], rule: str, expected: list[int]
) -> None:
    small = scripts(tmp_path / "small.jsonl", problems, right={0, 2})
    strong = scripts(tmp_path / "strong.jsonl", problems, right={1, 2, 3})
    if rule == "all":
        strong = scripts(tmp_path / "strong.jsonl", problems, right={2, 3})
        small = scripts(tmp_path / "small.jsonl", problems, right={0, 2, 3})
    manifest = run(tmp_path, problems, preset="s1", rule=rule, models=[model(small), model(strong)])
    assert kept(tmp_path) == expected
    tried = [row["num_problems"] for row in manifest["facts"]["attempts"]]
    assert tried == ([8, 6] if rule == "any" else [8, 3])


def test_limo_v2_runs_coarse_then_fine_and_stops_early(
    tmp_path: Path, problems: list[Problem]
) -> None:
    small = scripts(tmp_path / "small.jsonl", problems, right={0, 1})
    fine = {n: [str(2 * n)] * right + ["x"] * (32 - right)
            for n, right in ((2, 0), (3, 1), (4, 3), (5, 4), (6, 32))}  # fmt: skip
    strong = samples(tmp_path / "strong.jsonl", problems, fine)
    manifest = run(
        tmp_path, problems, preset="limo-v2", models=[model(small), {"samples": strong}],
        key_check=None,
    )  # fmt: skip
    assert kept(tmp_path) == [3, 4, 7]  # the last has no samples: it is kept and counted
    steps = {step["name"]: step["reasons"] for step in manifest["steps"]}
    assert steps["difficulty: coarse"] == {"solved too often (above max_correct)": 2}
    assert steps["difficulty: fine"] == {
        "solved too often (above max_correct)": 2,
        "solved too rarely (below min_correct)": 1,
    }
    coarse, last = manifest["facts"]["attempts"]
    assert coarse["num_attempts"] == 2 * 1 + 6 * 4
    assert (last["num_untested"], last["num_attempts"]) == (1, 32 + 30 + 32 + 4 + 4)


def test_the_same_ledger_needs_no_new_tokens(tmp_path: Path, problems: list[Problem]) -> None:
    small = scripts(tmp_path / "small.jsonl", problems, right={0, 1})
    settings = {
        "models": [model(small)],
        "num_attempts": 4,
        "stop": "exact",
        "max_correct": 0,
        "key_check": None,
    }
    first = run(tmp_path, problems, **settings)
    digests = [_digest(tmp_path / "run/filter" / name) for name in FILES]
    again = run(tmp_path, problems[::-1], **settings)
    assert again["facts"]["attempts"][0]["tokens"]["decoded"] == 0
    assert again["facts"]["tokens"] == first["facts"]["tokens"]
    assert [_digest(tmp_path / "run/filter" / name) for name in FILES] == digests


FILES = ("data.parquet", "dropped.parquet", "difficulty.jsonl")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_disputed_answers_are_dropped_for_review_and_not_as_hard(
    tmp_path: Path, problems: list[Problem]
) -> None:
    answers = {0: ["7"] * 7 + ["0"], 1: ["8", "9", "x", "y", "z", "5", "6", "7"], 2: ["7"] * 8}
    answers[3] = ["6", "6", *"12345", "x"]
    path = samples(tmp_path / "s.jsonl", problems, answers)
    manifest = run(
        tmp_path, problems[:4], models=[{"samples": path}], num_attempts=8, min_correct=1,
        max_correct=3, max_problems=None, stop="exact",
    )  # fmt: skip
    reasons = {step["name"]: step["reasons"] for step in manifest["steps"]}
    assert reasons["difficulty: key in doubt"] == {
        "the models agree on another answer than the key": 2
    }
    assert reasons["difficulty"] == {"solved too rarely (below min_correct)": 1}
    assert kept(tmp_path) == [3]
    rows = {row["question"]: row for row in lines(tmp_path, "key_review.jsonl")}
    row = rows["What is 0 + 0?"]
    assert (row["models_answer"], row["key"], row["votes"], row["num_correct"]) == ("7", "0", 7, 1)


@pytest.mark.parametrize(("truncated", "expected"), [("unsolved", [0]), ("uncounted", [])])
def test_truncated_attempts_count_as_set_and_are_listed_separately(
    tmp_path: Path, problems: list[Problem], truncated: str, expected: list[int]
) -> None:
    path = samples(tmp_path / "s.jsonl", problems, {0: ["0", "cut", "cut", "cut"], 1: ["5"] * 4})
    settings = {"models": [{"samples": path}], "num_attempts": 4, "max_problems": None}
    run(tmp_path, problems[:2], truncated=truncated, key_check=None, **settings)
    assert kept(tmp_path) == [*expected, 1]
    (row,) = [row for row in lines(tmp_path, "difficulty.jsonl") if row["num_correct"]]
    assert row["verdicts"] == {"truncated": 3, "correct": 1}
    assert row["num_counted"] == (4 if truncated == "unsolved" else 1)


def test_problems_without_recorded_samples_are_kept_and_counted(
    tmp_path: Path, problems: list[Problem]
) -> None:
    path = samples(tmp_path / "s.jsonl", problems, {7: ["1", "2"]})
    manifest = run(tmp_path, problems[:4], models=[{"samples": path}])
    facts = manifest["facts"]["difficulty"]
    assert (facts["num_tested"], facts["num_untested"], facts["pass_rate"]) == (0, 4, None)
    assert len(kept(tmp_path)) == 4


def test_hours_drop_problems_that_are_not_drawn(tmp_path: Path, problems: list[Problem]) -> None:
    small = model(scripts(tmp_path / "small.jsonl", problems, right=set()))
    small |= {"tokens_per_second": 56.0}  # 2 attempts of 56 tokens: 2 seconds a problem
    manifest = run(tmp_path, problems, models=[small], hours=6 / 3600)
    reasons = {step["name"]: step["reasons"] for step in manifest["steps"]}
    assert sum(reasons["difficulty: sub-pool"].values()) == 5
    assert len(kept(tmp_path)) == 3


def test_hours_without_a_speed_are_refused(tmp_path: Path, problems: list[Problem]) -> None:
    small = model(scripts(tmp_path / "small.jsonl", problems, right=set()))
    with pytest.raises(ConfigError, match="tokens_per_second"):
        run(tmp_path, problems, models=[small], hours=1)


@pytest.mark.parametrize(("last_number", "expected"), [(False, [0, 1]), (True, [1])])
def test_unmarked_recorded_answers_count_with_last_number(
    tmp_path: Path, problems: list[Problem], last_number: bool, expected: list[int]
) -> None:
    """A number that nothing states as the answer."""
    rows = [
        {"question": p.question, "answer": p.answer, "sample": 0, "response": f"Is it {text}?"}
        for p, text in zip(problems, ["0", "7"], strict=False)
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recorded = {"samples": str(path), "last_number": last_number}
    messages: list[str] = []
    run(
        tmp_path,
        problems[:2],
        models=[recorded],
        num_attempts=1,
        max_correct=0,
        notify=messages.append,
    )
    assert kept(tmp_path) == expected
    assert any("2 of 2 attempts give no answer" in line for line in messages) is not last_number


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_real_samples_filter_their_own_problems(tmp_path: Path, make_problem) -> None:
    path = SHARED / "math100_qwen_n8_rm.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    problems = list(
        {row["question"]: make_problem(row["question"], row["answer"]) for row in rows}.values()
    )
    settings = {"models": [{"samples": str(path)}], "num_attempts": 8, "max_problems": None}
    manifest = run(tmp_path, problems, stop="exact", min_correct=1, max_correct=4, **settings)
    steps = {step["name"]: step["reasons"] for step in manifest["steps"]}
    assert steps["difficulty"]["solved too often (above max_correct)"] == pytest.approx(89, abs=3)
    (facts,) = manifest["facts"]["attempts"]
    assert facts["num_attempts"] < 0.75 * facts["num_possible"]
