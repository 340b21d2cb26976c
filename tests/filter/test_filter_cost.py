"""The dry run of a filter: tested problems, questions to models, maximum number of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.plan_text import plan_text
from slowthink.cli.run import open_recipe
from slowthink.errors import ConfigError
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe.loading import parse_recipe
from slowthink.stages import filter as filter_stage

POOL = {"sources": [{"kind": "sandbox"}]}  # 400 problems to train on
ATTEMPT = {"max_thinking_tokens": 32, "answer_tokens": 12}
COARSE = {"name": "coarse", "num_attempts": 4, "max_correct": 0, "stop": "exact"} | ATTEMPT


def plan(**settings: Any) -> dict[str, Any]:
    recipe = parse_recipe({"name": "t", "pool": POOL, "filter": settings})
    return filter_stage.plan(recipe)


def test_attempts_of_a_single_step_are_those_at_max_problems() -> None:
    costs = plan(difficulty={"num_attempts": 2, "max_problems": 150} | ATTEMPT)
    assert (costs["num_problems"], costs["num_attempts"]) == (400, 300)
    assert costs["estimated_tokens"] == 300 * 44
    assert costs["difficulty"] == [
        "difficulty: 150 of 400 problems are tested (max_problems), the others are kept untested",
        "difficulty: smollm2-135m: about 300 attempts at 150 problems, 13,200 tokens "
        "(at most 300 attempts, 13,200 tokens)",
    ]


def test_without_a_limit_the_whole_pool_is_tested() -> None:
    costs = plan(difficulty={"num_attempts": 2, "max_problems": None} | ATTEMPT)
    assert costs["num_attempts"] == 800
    assert [line.split(", ")[0] for line in costs["difficulty"]] == [
        "difficulty: smollm2-135m: about 800 attempts at 400 problems"
    ]


def test_hours_count_the_part_of_the_pool_that_fits() -> None:
    """Up to the first success of 4 under a flat prior: 1 + 1/2 + 1/3 + 1/4 attempts per problem."""
    mean, seconds = 25 / 12, 100.0
    model = {"tokens_per_second": 44.0}
    costs = plan(difficulty={"hours": seconds / 3600, "steps": [COARSE | {"models": [model]}]})
    number = int(seconds / mean)
    assert number == 48
    assert (costs["num_problems"], costs["num_attempts"]) == (400, 4 * number)
    assert costs["estimated_tokens"] == 4 * number * 44
    assert costs["difficulty"][0] == (
        f"difficulty: {number} of 400 problems fit 0.0277778 hours and are tested, "
        "the others are dropped"
    )


def test_hours_that_fit_the_whole_pool_drop_nothing() -> None:
    model = {"tokens_per_second": 44.0}
    costs = plan(difficulty={"hours": 10, "steps": [COARSE | {"models": [model]}]})
    assert costs["num_attempts"] == 1600
    assert len(costs["difficulty"]) == 1


def test_hours_without_a_speed_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="tokens_per_second for smollm2-135m"):
        plan(difficulty={"hours": 1, "steps": [COARSE | {"models": [{"model": "smollm2-135m"}]}]})


def test_labels_of_a_model_are_counted_with_every_retry() -> None:
    costs = plan(domains={"methods": ["lexical", "llm"], "llm": {"max_tokens": 100}})
    assert costs["estimated_tokens"] == 400 * 2 * 100
    assert costs["asked"] == [
        "domains: at most 400 questions to smollm2-135m (800 replies and 80,000 tokens)"
    ]


def test_a_judge_of_paraphrases_is_asked_about_each_candidate() -> None:
    judge = {"model": "some/judge", "max_tokens": 10, "num_asks": 1}
    paraphrase = {"judge": judge, "max_candidates": 3}
    costs = plan(contamination={"paraphrase": paraphrase})
    assert costs["estimated_tokens"] == 400 * 3 * 10
    assert costs["asked"][0].startswith("paraphrases: at most 1,200 questions to some/judge")


def test_parts_add_up() -> None:
    settings: dict[str, Any] = {
        "contamination": {"paraphrase": {"judge": {"max_tokens": 10}}},
        "domains": {"methods": ["llm"], "llm": {"max_tokens": 20}},
        "difficulty": {"num_attempts": 1, "max_problems": 50} | ATTEMPT,
    }
    alone = [plan(**{name: value})["estimated_tokens"] for name, value in settings.items()]
    assert plan(**settings)["estimated_tokens"] == sum(alone) > 0


def test_without_a_model_nothing_is_estimated() -> None:
    costs = plan(domains={"methods": ["lexical", "embedding"]}, contamination={"paraphrase": {}})
    assert costs == {"num_problems": 400, "num_attempts": 0, "estimated_tokens": 0}


def test_the_dry_run_shows_the_part_that_fits_and_its_hours(tmp_path: Path) -> None:
    model = {"tokens_per_second": 44.0}
    difficulty = {"hours": 100 / 3600, "steps": [COARSE | {"models": [model]}]}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "t", "pool": POOL, "filter": {"difficulty": difficulty}}))
    estimates = plan_run(*open_recipe(str(path)))
    assert "48 of 400 problems fit" in plan_text(estimates)
    assert "0.028 hours" in plan_text(estimates)
