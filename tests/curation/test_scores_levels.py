"""Levels of chains: bands of a score, and scores that are levels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from slowthink.curation.scores.levels import assign_levels
from slowthink.errors import DataError
from slowthink.recipe import LevelsConfig


def levels(values: list[float | None], *, name: str = "quality", **settings: Any) -> Any:
    scores = [{} if value is None else {name: value} for value in values]
    problems = ["p" if index % 2 else "q" for index in range(len(values))]
    return assign_levels(scores, problems, LevelsConfig(score=name, **settings))


def test_bands_have_equally_many_chains() -> None:
    assert Counter(levels([float(i) for i in range(100)])) == dict.fromkeys(range(1, 6), 20)
    assert Counter(levels([float(i) for i in range(7)], num_levels=3)) == {1: 2, 2: 3, 3: 2}


def test_the_worst_chain_is_level_1_whichever_way_the_score_goes() -> None:
    assert levels([0.1, 0.5, 0.9], num_levels=3) == [1, 2, 3]
    assert levels([0.1, 0.5, 0.9], name="step-redundancy", num_levels=3) == [3, 2, 1]


def test_equal_scores_have_the_same_level_and_missing_ones_have_none() -> None:
    assert levels([1.0, None, 1.0, 1.0]) == [3, None, 3, 3]


def test_levels_within_a_problem_compare_its_chains_only() -> None:
    values: list[float | None] = [1.0, 10.0, 2.0, 20.0]
    assert levels(values, num_levels=2, scope="problem") == [1, 1, 2, 2]
    assert levels(values, num_levels=2) == [1, 2, 1, 2]


def test_a_score_that_is_a_level_is_taken_as_it_is() -> None:
    assert levels([1.0, 4.6, 0.0, 9.0], name="rubric.level", cut="value") == [1, 5, 1, 5]


def test_a_score_that_no_chain_has_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no chain has a score `absent` \(there is quality\)"):
        assign_levels([{"quality": 1.0}], ["p"], LevelsConfig(score="absent"))
    assert assign_levels([], [], LevelsConfig(score="absent")) == []
