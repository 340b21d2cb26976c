"""Levels of chains, from 1 (worst), cut from a score.

    assign_levels([{"length": 9.0}, {"length": 1.0}], ["p", "p"], LevelsConfig(score="length"))
    # [4, 2]

The paper cuts five bands of its score over all chains (LIMO v2); `rubric.level` is a level already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slowthink.analysis.statistics import average_ranks
from slowthink.curation.scores.preference import higher_is_better
from slowthink.errors import DataError
from slowthink.recipe import LevelsConfig
from slowthink.records import group_by


def assign_levels(
    scores: Sequence[Mapping[str, float]], problem_ids: Sequence[str], config: LevelsConfig
) -> list[int | None]:
    """The level of each chain; None if it lacks the score. Equal scores have the same level.

    Raises DataError if all chains lack the score.
    """
    scored = [index for index, values in enumerate(scores) if config.score in values]
    if scores and not scored:
        known = ", ".join(sorted({name for values in scores for name in values})) or "none"
        raise DataError(
            f"levels: no chain has a score `{config.score}` (there is {known}); expected it for at "
            "least one. Add it to trace.scores, or take another: --set trace.levels.score=length"
        )
    levels: list[int | None] = [None] * len(scores)
    groups = {"": scored}
    if config.scope == "problem" and config.cut == "equal":
        groups = group_by(scored, lambda index: problem_ids[index])
    for indices in groups.values():
        values = [scores[index][config.score] for index in indices]
        for index, level in zip(indices, _levels(values, config), strict=True):
            levels[index] = level
    return levels


def _levels(values: Sequence[float], config: LevelsConfig) -> list[int]:
    """A level for each value of chains that share bands."""
    if config.cut == "value":
        return [min(config.num_levels, max(1, round(value))) for value in values]
    sign = 1 if higher_is_better(config.score) else -1
    ranks = average_ranks([sign * value for value in values])
    return [1 + int((rank - 0.5) * config.num_levels / len(values)) for rank in ranks]
