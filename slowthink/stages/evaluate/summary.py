"""Rows → all figures of an evaluation: per set and protocol, averages over sets, the headline.

{"sets": [{"benchmark": "heldout", "protocol": "greedy", "arms": [{"name": "base", "points": […]},
…], "comparisons": […], …}], "averages": […], "difference": 0.345, …}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.recipe import ArmConfig, ChatConfig, EvaluateConfig
from slowthink.recipe.protocols import describe, resolve
from slowthink.records import EvaluationRow
from slowthink.stages.evaluate import compare
from slowthink.stages.evaluate.cells import Groups, cell
from slowthink.stages.evaluate.compare import PointKey, Points, longest
from slowthink.stages.evaluate.sets import ProblemSet

STORED = "stored"
"""Protocol of stored samples whose own is not known."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a summary is made of."""

    config: EvaluateConfig
    sets: Sequence[ProblemSet]
    rows: Sequence[EvaluationRow]
    groups: Groups
    seed: int
    chat: ChatConfig
    """What an arm without its own has."""

    def arms_of(self, benchmark: str, protocol: str) -> dict[str, dict[PointKey, Any]]:
        """Rows by arm and point, arms in the recipe's order; arms without rows are left out."""
        members = [r for r in self.rows if (r.benchmark, r.protocol) == (benchmark, protocol)]
        found = {
            arm.name: by_point(row for row in members if row.arm == arm.name)
            for arm in self.config.arms
        }
        return {name: points for name, points in found.items() if points}


def by_point(rows: Iterable[EvaluationRow]) -> dict[PointKey, list[EvaluationRow]]:
    """Rows by cap, waits and forced; forced points first."""
    found: dict[PointKey, list[EvaluationRow]] = defaultdict(list)
    for row in rows:
        found[row.max_thinking_tokens, row.waits, row.forced].append(row)
    return dict(sorted(found.items(), key=lambda item: (not item[0][2], item[0])))


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """All figures; the headline's are those of the first set that the headline arm has."""
    names = _protocol_names(evaluation)
    sets = [
        _set(evaluation, one, protocol, arms)
        for one in evaluation.sets
        for protocol in names
        if (arms := evaluation.arms_of(one.name, protocol))
    ]
    return {
        "sets": sets,
        "averages": _averages(evaluation),
        "budget_violations": sum(bool(row.violations) for row in evaluation.rows),
        **_headline(evaluation, sets),
    }


def _set(
    evaluation: Evaluation, one: ProblemSet, protocol: str, arms: Mapping[str, Points]
) -> dict[str, Any]:
    options = {"num_resamples": evaluation.config.num_resamples, "seed": evaluation.seed}
    number = len(one.problems)
    stored = protocol == STORED
    words = STORED if stored else describe(_protocol(evaluation, protocol), num_problems=number)
    base, tuned = _roles(evaluation.config.arms)
    return {
        "benchmark": one.name,
        "protocol": protocol,
        "protocol_text": words,
        "domain": one.domain,
        "num_problems": number,
        "source": one.source,
        "arms": [_arm(evaluation, name, points, words) for name, points in arms.items()],
        "comparisons": compare.comparisons(arms, **options),
        "measures": compare.measures(arms, seed=evaluation.seed),
        "elicitation": compare.elicited(arms, base, tuned) if base else None,
    }


def _protocol_names(evaluation: Evaluation) -> list[str]:
    return [resolve(protocol).name for protocol in evaluation.config.protocols] + [STORED]


def _protocol(evaluation: Evaluation, name: str) -> Any:
    found = [resolve(protocol) for protocol in evaluation.config.protocols]
    return next(protocol for protocol in found if protocol.name == name)


def _arm(evaluation: Evaluation, name: str, points: Points, protocol: str) -> dict[str, Any]:
    arm = next(one for one in evaluation.config.arms if one.name == name)
    rows = next(iter(points.values()))
    cells = [
        cell(
            found,
            num_resamples=evaluation.config.num_resamples,
            seed=evaluation.seed,
            groups=evaluation.groups,
        )
        for found in points.values()
    ]
    return {
        "name": name,
        "model": rows[0].model,
        "format": (arm.chat or evaluation.chat).format if arm.samples is None else None,
        "num_problems": len({row.problem_id for row in rows}),
        "num_samples": cells[0]["num_samples"],
        "count_source": rows[0].count_source,
        "protocol": protocol,
        "points": cells,
    }


def _averages(evaluation: Evaluation) -> list[dict[str, Any]]:
    found: dict[tuple[str, str, str], list[EvaluationRow]] = defaultdict(list)
    for row in evaluation.rows:
        found[row.arm, row.protocol, row.benchmark].append(row)
    arms = [arm.name for arm in evaluation.config.arms]
    sets = [one.name for one in evaluation.sets]
    names = _protocol_names(evaluation)

    def place(item: tuple[tuple[str, str, str], Any]) -> tuple[int, int, int]:
        arm, protocol, benchmark = item[0]
        return arms.index(arm), names.index(protocol), sets.index(benchmark)

    cells = {}
    for key, rows in sorted(found.items(), key=place):
        points = by_point(rows)
        cells[key] = points[longest(points)]
    domains = {one.name: one.domain for one in evaluation.sets}
    options = {"num_resamples": evaluation.config.num_resamples, "seed": evaluation.seed}
    return compare.averages(cells, domains, **options)


# --- headline -------------------------------------------------------------------------------------


def _roles(arms: Sequence[ArmConfig]) -> tuple[ArmConfig | None, ArmConfig]:
    """The arm that is measured against, and the one that the headline is about."""
    headline = next((arm for arm in arms if arm.model == "tuned" and not arm.samples), arms[-1])
    baseline = next((arm for arm in arms if arm.model == "base" and not arm.samples), arms[0])
    return (baseline if baseline is not headline else None), headline


def _headline(evaluation: Evaluation, sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    baseline, headline = _roles(evaluation.config.arms)
    first = next(
        (one for one in sets if headline.name in [arm["name"] for arm in one["arms"]]), None
    )
    if first is None:
        return {}
    rows = evaluation.arms_of(first["benchmark"], first["protocol"])
    cells = _cells(first, headline.name)
    tuned_key = longest(rows[headline.name])
    tuned = cells[tuned_key]
    found = {
        "tuned_accuracy": tuned["accuracy"],
        "tuned_point": tuned,
        "curve": [c for (_, waits, forced), c in cells.items() if forced and not waits],
        "waits": [c for (cap, _, forced), c in cells.items() if forced and cap == tuned_key[0]],
        "thinking_natural_rate": tuned["thinking_natural_rate"],
        "answer_eos_rate": tuned["answer_eos_rate"],
    }
    if baseline is None or baseline.name not in rows or tuned["accuracy"] is None:
        nothing = ("base_accuracy", "base_point", "difference", "difference_ci95", "difference_n")
        return found | dict.fromkeys(nothing)
    own = _cells(first, baseline.name)
    best = max(own, key=lambda key: (own[key]["accuracy"] or 0.0, key))
    return found | _difference(
        evaluation, rows[baseline.name][best], rows[headline.name][tuned_key], own[best]
    )


def _difference(
    evaluation: Evaluation,
    base: Sequence[EvaluationRow],
    tuned: Sequence[EvaluationRow],
    base_cell: Mapping[str, Any],
) -> dict[str, Any]:
    """The headline's longest point against the best that the baseline shows anywhere."""
    paired = compare.compare_rows(
        base, tuned, num_resamples=evaluation.config.num_resamples, seed=evaluation.seed
    )
    return {
        "base_accuracy": base_cell["accuracy"],
        "base_point": base_cell,
        "difference": paired and paired["difference"],
        "difference_ci95": paired and paired["ci95"],
        "difference_n": paired and paired["n"],
    }


def _cells(one: Mapping[str, Any], arm: str) -> dict[PointKey, Any]:
    points = next(found["points"] for found in one["arms"] if found["name"] == arm)
    return {(c["max_thinking_tokens"], c["waits"], c["forced"]): c for c in points}
