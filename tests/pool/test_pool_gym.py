"""reasoning-gym as a source: exact answers, disjoint splits, errors."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from slowthink.data.problems import SourceProblems
from slowthink.errors import ConfigError
from slowthink.recipe import GymSource
from slowthink.records import Split
from slowthink.stages.pool.gym import TASKS, gym_problems

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="the extra gym is not here"),
]


def draw(seed: int = 0, **settings: Any) -> SourceProblems:
    return gym_problems(GymSource(**settings), seed=seed, setting="pool.sources.0")


def test_problems_are_exact_seeded_and_disjoint() -> None:
    tasks = {"chain_sum": {}, "gcd": {"weight": 3}}
    source = draw(tasks=tasks, num_problems=40, num_heldout=20)
    again = draw(tasks=tasks, num_problems=20, num_heldout=20)
    problems = [item.problem for item in source.items]
    assert len({problem.duplicate_key for problem in problems}) == 60
    held = [problem for problem in problems if problem.split is Split.HELDOUT]
    assert held == [item.problem for item in again.items][:20]
    assert sum(problem.domain == "gcd" for problem in problems) == 45
    assert {problem.answer_type for problem in problems} == {"integer"}
    sums = [problem for problem in problems if problem.domain == "chain sum"]
    for problem in sums:
        expression = problem.question.split(": ")[-1].removesuffix(" =").split("\n")[0]
        assert eval(expression.replace("= ?", "").strip(" =")) == int(problem.answer or "")
    lineage = json.loads(problems[0].meta)["lineage"]
    assert lineage["origin"] == "reasoning-gym/chain_sum" and lineage["revision"]


def test_all_tasks_of_the_table_give_problems() -> None:
    source = draw(num_problems=2 * len(TASKS))
    assert {item.problem.domain for item in source.items} == {
        name.replace("_", " ") for name in TASKS
    }
    assert source.dropped == []


def test_task_with_several_answers_is_taken_only_by_name_and_marked() -> None:
    (problem,) = draw(tasks={"countdown": {}}, num_problems=1).items
    assert json.loads(problem.problem.meta)["lineage"]["changes"] == [
        "its key is one of several right answers"
    ]


def test_wrong_names_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="has no task `sums`"):
        draw(tasks={"sums": {}})
    with pytest.raises(ConfigError, match=r"tasks\.chain_sum\.options"):
        draw(tasks={"chain_sum": {"options": {"min_terms": -1}}})
    with pytest.raises(ConfigError, match="distinct problems"):
        draw(tasks={"coin_flip": {"options": {"min_trials": 3, "max_trials": 3}}}, num_problems=500)
