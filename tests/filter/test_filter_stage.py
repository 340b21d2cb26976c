"""The filter as a stage, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.errors import DataError
from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem, Split, duplicate_key, problem_id
from slowthink.serialise import plain
from slowthink.stages import filter as filter_stage


def problem(question: str, *, split: Split = Split.TRAIN, answer: str | None = "1") -> Problem:
    return Problem(
        id=problem_id(question), duplicate_key=duplicate_key(question), question=question,
        answer=answer, source="test", source_row="1", split=split, domain="sums",
    )  # fmt: skip


def run(folder: Path, *problems: Problem, **settings: Any) -> StageResult:
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(plain(p)) + "\n" for p in problems))
    recipe = parse_recipe({"name": "test", "filter": {"input": str(path), **settings}})
    return filter_stage.run(
        make_context(recipe, folder / "run", "filter", notify=lambda text: None)
    )


def test_each_rule_is_a_step_with_its_count(tmp_path: Path) -> None:
    result = run(tmp_path, problem("a?"), problem("p1. b?"), problem("![Image] p2. c?"))
    assert [p.question for p in result.records] == ["a?"]
    reasons_by_step = {step.name: step.reasons for step in result.steps if step.reasons}
    assert reasons_by_step == {
        "quality: image": {"refers to an image": 1},
        "quality: multi_part": {"holds a part number such as p1.": 1},
    }
    assert [step.num_out for step in result.steps] == [3, 3, 3, 2, 1, 1, 1]


def test_of_equal_questions_one_with_an_answer_is_kept(tmp_path: Path) -> None:
    without, kept = problem("A?", answer=None), problem("a ?".replace(" ", ""))
    result = run(tmp_path, without, kept, quality=None)
    assert result.records == [kept]
    assert [(drop.id, drop.reason) for drop in result.dropped] == [
        (without.id, "duplicate question")
    ]


def test_the_same_row_twice_is_one_problem(tmp_path: Path) -> None:
    result = run(tmp_path, problem("a?"), problem("a?"), duplicates=None)
    assert len(result.records) == 1
    assert [drop.reason for drop in result.dropped] == ["the same question again"]


def test_heldout_problems_are_not_passed_on(tmp_path: Path) -> None:
    result = run(tmp_path, problem("a?"), problem("b?", split=Split.HELDOUT))
    assert [p.question for p in result.records] == ["a?"]


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    result = run(tmp_path, problem("p1. a?"), quality=None, duplicates=None)
    assert [p.question for p in result.records] == ["p1. a?"]
    assert [step.name for step in result.steps] == ["read"]


def test_nothing_left_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no training problem is left \(1 x refers to an image\)"):
        run(tmp_path, problem("![Image]"))


def test_domains_before_and_after_are_facts(tmp_path: Path) -> None:
    facts = run(tmp_path, problem("a?"), problem("p1. b?")).facts
    assert (facts["domains_before"], facts["domains"]) == ({"sums": 2}, {"sums": 1})
