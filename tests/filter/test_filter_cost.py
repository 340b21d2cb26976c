"""What the dry run says of a filter: problems tried, questions asked, tokens at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.run import open_recipe, plan_run, plan_text
from slowthink.errors import ConfigError
from slowthink.recipe.loading import parse_recipe
from slowthink.stages import filter as filter_stage

POOL = {"sources": [{"kind": "sandbox"}]}  # 400 problems to train on
ATTEMPT = {"max_thinking_tokens": 32, "answer_tokens": 12}
COARSE = {"name": "coarse", "num_attempts": 4, "max_correct": 0, "stop": "exact"} | ATTEMPT


def plan(**settings: Any) -> dict[str, Any]:
    recipe = parse_recipe({"name": "t", "pool": POOL, "filter": settings})
    return filter_stage.plan(recipe)


def test_attempts_of_a_single_step_are_those_at_max_problems() -> None:
    found = plan(difficulty={"num_attempts": 2, "max_problems": 150} | ATTEMPT)
    assert (found["num_problems"], found["num_attempts"]) == (400, 300)
    assert found["estimated_tokens"] == 300 * 44
    assert found["difficulty"] == [
        "difficulty: 150 of 400 problems are tested (max_problems), the others are kept untested",
        "difficulty: smollm2-135m: about 300 attempts at 150 problems, 13,200 tokens "
        "(at most 300 attempts, 13,200 tokens)",
    ]


def test_without_a_limit_the_whole_pool_is_tried_and_nothing_said_of_others() -> None:
    found = plan(difficulty={"num_attempts": 2, "max_problems": None} | ATTEMPT)
    assert found["num_attempts"] == 800
    assert [line.split(", ")[0] for line in found["difficulty"]] == [
        "difficulty: smollm2-135m: about 800 attempts at 400 problems"
    ]


def test_hours_count_the_part_of_the_pool_that_fits() -> None:
    """Up to the first success of 4 under a flat prior: 1 + 1/2 + 1/3 + 1/4 attempts a problem."""
    mean, seconds = 25 / 12, 100.0
    model = {"tokens_per_second": 44.0}
    found = plan(difficulty={"hours": seconds / 3600, "steps": [COARSE | {"models": [model]}]})
    number = int(seconds / mean)
    assert number == 48
    assert (found["num_problems"], found["num_attempts"]) == (400, 4 * number)
    assert found["estimated_tokens"] == 4 * number * 44
    assert found["difficulty"][0] == (
        f"difficulty: {number} of 400 problems fit 0.0277778 hours and are tested, "
        "the others are dropped"
    )


def test_hours_that_hold_the_whole_pool_leave_nothing_out() -> None:
    model = {"tokens_per_second": 44.0}
    found = plan(difficulty={"hours": 10, "steps": [COARSE | {"models": [model]}]})
    assert found["num_attempts"] == 1600
    assert len(found["difficulty"]) == 1


def test_hours_without_a_speed_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="tokens_per_second for smollm2-135m"):
        plan(difficulty={"hours": 1, "steps": [COARSE | {"models": [{"model": "smollm2-135m"}]}]})


def test_labels_of_a_model_are_counted_with_every_reply_asked_again() -> None:
    found = plan(domains={"methods": ["lexical", "llm"], "llm": {"max_tokens": 100}})
    assert found["estimated_tokens"] == 400 * 2 * 100
    assert found["asked"] == [
        "domains: at most 400 questions to smollm2-135m (800 replies and 80,000 tokens)"
    ]


def test_a_judge_of_paraphrases_is_asked_about_each_candidate() -> None:
    judge = {"model": "some/judge", "max_tokens": 10, "num_asks": 1}
    paraphrase = {"judge": judge, "max_candidates": 3}
    found = plan(contamination={"paraphrase": paraphrase})
    assert found["estimated_tokens"] == 400 * 3 * 10
    assert found["asked"][0].startswith("paraphrases: at most 1,200 questions to some/judge")


def test_parts_add_up() -> None:
    settings: dict[str, Any] = {
        "contamination": {"paraphrase": {"judge": {"max_tokens": 10}}},
        "domains": {"methods": ["llm"], "llm": {"max_tokens": 20}},
        "difficulty": {"num_attempts": 1, "max_problems": 50} | ATTEMPT,
    }
    alone = [plan(**{name: value})["estimated_tokens"] for name, value in settings.items()]
    assert plan(**settings)["estimated_tokens"] == sum(alone) > 0


def test_without_a_model_nothing_is_estimated() -> None:
    found = plan(domains={"methods": ["lexical", "embedding"]}, contamination={"paraphrase": {}})
    assert found == {"num_problems": 400, "num_attempts": 0, "estimated_tokens": 0}


def test_the_dry_run_tells_the_part_that_fits_and_its_minutes(tmp_path: Path) -> None:
    model = {"tokens_per_second": 44.0}
    difficulty = {"hours": 100 / 3600, "steps": [COARSE | {"models": [model]}]}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "t", "pool": POOL, "filter": {"difficulty": difficulty}}))
    estimates = plan_run(*open_recipe(str(path)))
    assert "48 of 400 problems fit" in plan_text(estimates)
    assert estimates["estimated_minutes"] == pytest.approx(4 * 48 * 44 / 280 / 60)
