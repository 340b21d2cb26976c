"""Rows → all figures of an evaluation: per set and protocol, averages over sets, the headline.

{"sets": [{"benchmark": "heldout", "protocol": "greedy", "arms": [{"name": "base", "points": […]},
…], "comparisons": […], …}], "averages": […], "difference": 0.345, …}
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from slowthink.analysis.pairing import arm_elicitation, compare_arms, paired_figures
from slowthink.analysis.scaling import scaling_measures
from slowthink.analysis.scores import (
    AnswerGroups,
    PointKey,
    Points,
    averages,
    base_and_tuned,
    by_point,
    largest_budget,
    point_figures,
    point_key,
    problem_scores,
)
from slowthink.data.load import ProblemSet
from slowthink.data.registry import limo_ten
from slowthink.recipe import ChatConfig, EvaluateConfig
from slowthink.recipe.protocols import describe_protocol, resolve_protocol
from slowthink.records import group_by
from slowthink.stage_rows import EvaluationRow

STORED_PROTOCOL = "stored"
"""Protocol of stored samples that were generated under an unknown one."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Rows to summarise, with their sets and settings."""

    config: EvaluateConfig
    sets: Sequence[ProblemSet]
    rows: Sequence[EvaluationRow]
    groups: AnswerGroups
    seed: int
    chat: ChatConfig
    """Chat settings of arms without their own."""

    @property
    def bootstrap(self) -> dict[str, int]:
        """Arguments of every function that computes an interval."""
        return {"num_resamples": self.config.num_resamples, "seed": self.seed}

    @property
    def protocol_names(self) -> list[str]:
        """The recipe's protocols in order, then that of stored samples."""
        return [*(resolve_protocol(p).name for p in self.config.protocols), STORED_PROTOCOL]

    @property
    def headline_arms(self) -> tuple[str, str]:
        """Names of the baseline and of the arm that the headline is about; the same for one arm."""
        return base_and_tuned(
            {arm.name: "" if arm.samples else arm.model for arm in self.config.arms}
        )

    def protocol_text(self, name: str, *, num_problems: int) -> str:
        """Description of the protocol, for a set of `num_problems`."""
        if name == STORED_PROTOCOL:
            return STORED_PROTOCOL
        protocols = map(resolve_protocol, self.config.protocols)
        protocol = next(protocol for protocol in protocols if protocol.name == name)
        return describe_protocol(protocol, num_problems=num_problems)

    @cached_property
    def points(self) -> dict[tuple[str, str, str], dict[PointKey, list[EvaluationRow]]]:
        """Rows by arm, protocol and benchmark, in the order of the recipe, then by point."""
        rows_by_key = group_by(self.rows, lambda row: (row.arm, row.protocol, row.benchmark))
        arms = [arm.name for arm in self.config.arms]
        benchmarks = [problem_set.name for problem_set in self.sets]
        keys = itertools.product(arms, self.protocol_names, benchmarks)
        return {key: by_point(rows_by_key[key]) for key in keys if key in rows_by_key}

    def arms_on(self, benchmark: str, protocol: str) -> dict[str, Points]:
        """Points of the arms that have rows on the benchmark under the protocol."""
        return {
            arm: points
            for (arm, *keys), points in self.points.items()
            if keys == [protocol, benchmark]
        }


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """All figures; the headline is about the first set that the headline arm has rows on."""
    sets = [
        _set_figures(evaluation, problem_set, protocol, arms)
        for problem_set in evaluation.sets
        for protocol in evaluation.protocol_names
        if (arms := evaluation.arms_on(problem_set.name, protocol))
    ]
    return {
        "sets": sets,
        "averages": _averages(evaluation),
        "budget_violations": sum(bool(row.violations) for row in evaluation.rows),
        **_headline(evaluation, sets),
    }


def _set_figures(
    evaluation: Evaluation, problem_set: ProblemSet, protocol: str, arms: Mapping[str, Points]
) -> dict[str, Any]:
    num_problems = len(problem_set.problems)
    text = evaluation.protocol_text(protocol, num_problems=num_problems)
    return {
        "benchmark": problem_set.name,
        "protocol": protocol,
        "protocol_text": text,
        "domain": problem_set.domain,
        "num_problems": num_problems,
        "source": problem_set.source or None,
        "arms": [_arm_figures(evaluation, name, points, text) for name, points in arms.items()],
        "comparisons": compare_arms(arms, **evaluation.bootstrap),
        "measures": scaling_measures(arms, seed=evaluation.seed),
        "elicitation": arm_elicitation(arms, *evaluation.headline_arms),
    }


def _arm_figures(
    evaluation: Evaluation, name: str, points: Points, protocol_text: str
) -> dict[str, Any]:
    arm = next(arm for arm in evaluation.config.arms if arm.name == name)
    first_rows = next(iter(points.values()))
    figures = [
        point_figures(rows, groups=evaluation.groups, **evaluation.bootstrap)
        for rows in points.values()
    ]
    return {
        "name": name,
        "model": first_rows[0].model,
        "format": (arm.chat or evaluation.chat).format if arm.samples is None else None,
        "num_problems": len({row.problem_id for row in first_rows}),
        "num_samples": figures[0]["num_samples"],
        "count_source": first_rows[0].count_source,
        "protocol": protocol_text,
        "points": figures,
    }


def _averages(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Averages over sets, ordered by arm, then protocol, as in the recipe."""
    rows = {key: points[largest_budget(points)] for key, points in evaluation.points.items()}
    domains = {problem_set.name: problem_set.domain for problem_set in evaluation.sets}
    return averages(rows, domains, limo_benchmarks=limo_ten(), **evaluation.bootstrap)


def _headline(evaluation: Evaluation, sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    base, tuned = evaluation.headline_arms
    points_of_sets = ((set_figures, _figures_by_point(set_figures, tuned)) for set_figures in sets)
    headline_set, tuned_points = next((pair for pair in points_of_sets if pair[1]), (None, {}))
    if headline_set is None:
        return {}
    tuned_key = largest_budget(tuned_points)
    tuned_point = tuned_points[tuned_key]
    headline = {
        "tuned_accuracy": tuned_point["accuracy"],
        "tuned_point": tuned_point,
        "curve": [p for (_, waits, forced), p in tuned_points.items() if forced and not waits],
        "waits": [
            p
            for key, p in tuned_points.items()
            if key.forced and key.max_thinking_tokens == tuned_key.max_thinking_tokens
        ],
        "thinking_gain": _thinking_gain(evaluation, headline_set, tuned),
        "thinking_natural_rate": tuned_point["thinking_natural_rate"],
        "answer_eos_rate": tuned_point["answer_eos_rate"],
    }
    base_points = _figures_by_point(headline_set, base) if base != tuned else {}
    if not base_points or tuned_point["accuracy"] is None:
        missing = ("base_accuracy", "base_point", "difference", "difference_ci95", "difference_n")
        return headline | dict.fromkeys(missing)
    best = max(base_points, key=lambda key: (base_points[key]["accuracy"] or 0.0, key))
    arms = evaluation.arms_on(headline_set["benchmark"], headline_set["protocol"])
    paired = paired_figures(
        problem_scores(arms[base][best]),
        problem_scores(arms[tuned][tuned_key]),
        **evaluation.bootstrap,
    )
    return headline | {
        "base_accuracy": base_points[best]["accuracy"],
        "base_point": base_points[best],
        "difference": paired and paired["difference"],
        "difference_ci95": paired and paired["ci95"],
        "difference_n": paired and paired["n"],
    }


def _thinking_gain(
    evaluation: Evaluation, eval_set: Mapping[str, Any], arm: str
) -> dict[str, Any] | None:
    """Paired figures of an arm's largest cap against its smallest, without waits; None for one."""
    points = evaluation.arms_on(eval_set["benchmark"], eval_set["protocol"])[arm]
    keys = [key for key in points if key.forced and not key.waits]
    if len(keys) < 2:
        return None
    smallest, largest = problem_scores(points[keys[0]]), problem_scores(points[keys[-1]])
    return paired_figures(smallest, largest, **evaluation.bootstrap)


def _figures_by_point(set_figures: Mapping[str, Any], arm: str) -> dict[PointKey, Any]:
    """Figures of an arm on a set by point; empty if it was not measured."""
    return {
        point_key(point): point
        for arm_figures in set_figures["arms"]
        if arm_figures["name"] == arm
        for point in arm_figures["points"]
    }
