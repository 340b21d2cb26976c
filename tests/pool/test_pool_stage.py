"""The pool as a stage: sources joined, equal questions, the funnel, real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.pipeline.contract import StageResult, read_manifest
from slowthink.pipeline.run_folder import execute, make_context
from slowthink.recipe import Recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem, Split
from slowthink.stages import pool

SHARED = Path("/work/shared/data/pool")


def recipe_of(*sources: dict[str, Any]) -> Recipe:
    return parse_recipe({"name": "test", "pool": {"sources": list(sources)}})


def run(root: Path, *sources: dict[str, Any]) -> StageResult:
    return pool.run(make_context(recipe_of(*sources), root, "pool", notify=lambda text: None))


def file(folder: Path, name: str, *questions: str, **settings: Any) -> dict[str, Any]:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in questions))
    return {"kind": "file", "path": str(path), **settings}


def test_training_problem_equal_to_a_heldout_one_is_dropped(tmp_path: Path) -> None:
    train = file(tmp_path, "train", "A b?", "c?")
    heldout = file(tmp_path, "held", "a  B?", split="heldout")
    result = run(tmp_path / "run", train, heldout)
    assert [(p.question, p.split) for p in result.records] == [
        ("a  B?", Split.HELDOUT),
        ("c?", Split.TRAIN),
    ]
    (dropped,) = result.dropped
    assert (dropped.id, dropped.reason) == ("train.jsonl:1", "equal to a held-out problem")
    assert dropped.evidence == "held.jsonl:1 is kept: A b?"


def test_guessed_columns_and_languages_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text(json.dumps({"题目": "求 3 的两倍。", "答案": "6"}) + "\n")
    recipe, notices = recipe_of({"kind": "file", "path": str(path)}), list[str]()
    pool.run(make_context(recipe, tmp_path / "run", "pool", notify=notices.append))
    assert any(
        "pool.sources.0: question is read from column `题目`, answer is read from column `答案`"
        in text
        and "--set pool.sources.0.question_field=COLUMN" in text
        for text in notices
    )
    assert any("of 1 questions 1 in `zh`" in text for text in notices)


def test_first_of_equal_questions_is_kept(tmp_path: Path) -> None:
    first, second = file(tmp_path, "one", "a?", "b?"), file(tmp_path, "two", "B?", "c?")
    result = run(tmp_path / "run", first, second)
    assert [problem.question for problem in result.records] == ["a?", "b?", "c?"]
    assert [drop.reason for drop in result.dropped] == ["duplicate question"]


def test_funnel_adds_up(tmp_path: Path) -> None:
    first, second = file(tmp_path, "one", "a?", "b?", ""), file(tmp_path, "two", "b?", "c?")
    steps = run(tmp_path / "run", first, second).steps
    assert [(step.name, step.num_in, step.num_out) for step in steps] == [
        ("read", 5, 4),
        ("take", 4, 4),
        ("equal questions", 4, 3),
    ]
    assert steps[0].reasons == {"`question` is missing or empty": 1}


def test_sandbox_and_files_are_joined(tmp_path: Path) -> None:
    sandbox = {"kind": "sandbox", "num_problems": 18, "num_heldout": 9}
    facts = run(tmp_path / "run", sandbox, file(tmp_path, "one", "a?")).facts
    assert facts["splits"] == {"train": 19, "heldout": 9}
    assert facts["sources"] == {"sandbox": 27, "one": 1}
    assert sum(facts["sandbox"]["chain_shares"].values()) == pytest.approx(1, abs=1e-3)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    recipe = recipe_of({"kind": "sandbox"})
    for name in ("one", "two"):
        context = make_context(recipe, tmp_path / name, "pool", notify=lambda text: None)
        execute(context, pool.run, version=1)
    data = [(tmp_path / name / "pool" / "data.parquet").read_bytes() for name in ("one", "two")]
    assert data[0] == data[1]
    assert read_manifest(tmp_path / "one" / "pool")["num_records"] == 600


def test_plan_counts_rows_without_reading_them(tmp_path: Path) -> None:
    recipe = recipe_of({"kind": "sandbox"}, file(tmp_path, "one", "a?", "b?"))
    assert pool.plan(recipe)["sources"] == {"pool.sources.0": 600, "pool.sources.1": 2}


def test_plan_of_a_missing_file_leaves_its_size_unknown(tmp_path: Path) -> None:
    recipe = recipe_of({"kind": "file", "path": str(tmp_path / "none.jsonl")})
    assert pool.plan(recipe)["size_unknown"] == ["pool.sources.0"]


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")
def test_gsm8k_is_read_whole(tmp_path: Path) -> None:
    source = {"kind": "file", "path": str(SHARED / "gsm8k_train.jsonl"), "num_heldout": 100}
    result = run(tmp_path / "run", source)
    problems: list[Problem] = list(result.records)
    assert (len(problems), len(result.dropped)) == (7473, 0)
    assert all(problem.answer and problem.solution for problem in problems)
    assert result.facts["splits"] == {"train": 7373, "heldout": 100}
