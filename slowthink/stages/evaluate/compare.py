"""Arms beside one another on the same problems: paired differences, s1's measures, LIMO's
hypothesis, averages over sets.

{"a": "base", "b": "tuned", "n": 200, "difference": 0.345, "ci95": [0.275, 0.415], …}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slowthink.analysis.statistics import (
    Interval,
    control,
    elicitation,
    macro_mean_ci,
    paired_figures,
    performance,
    performance_ci,
    scaling,
    scaling_ci,
)
from slowthink.data.registry import limo_ten
from slowthink.recipe import ArmConfig
from slowthink.records import EvaluationRow, Verdict
from slowthink.stages.evaluate.cells import by_problem, scores

PointKey = tuple[int, int, bool]
"""Cap, waits, forced."""
Points = Mapping[PointKey, Sequence[EvaluationRow]]
"""One arm's rows by point."""


def longest(points: Points) -> PointKey:
    """The largest cap, forced, no wait: fixed beforehand, not the best of the curve. An arm of
    stored samples has one point only."""
    forced = [key for key in points if key[2] and not key[1]]
    return max(forced or points)


def comparisons(
    arms: Mapping[str, Points], *, num_resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Each two arms at their longest points."""
    found = []
    for a, b in itertools.combinations(arms, 2):
        point_a, point_b = longest(arms[a]), longest(arms[b])
        one = compare_rows(
            arms[a][point_a], arms[b][point_b], num_resamples=num_resamples, seed=seed
        )
        if one is not None:
            places = {"a": a, "a_point": _point(point_a), "b": b, "b_point": _point(point_b)}
            found.append(places | one)
    return found


def compare_rows(
    a: Sequence[EvaluationRow], b: Sequence[EvaluationRow], *, num_resamples: int, seed: int
) -> dict[str, Any] | None:
    """b against a on the problems that both have; None where there is none."""
    return paired_figures(scores(a), scores(b), num_resamples=num_resamples, seed=seed)


def _point(key: PointKey) -> dict[str, Any]:
    return dict(zip(("max_thinking_tokens", "waits", "forced"), key, strict=True))


# --- s1's measures --------------------------------------------------------------------------------


def measures(arms: Mapping[str, Points], *, seed: int) -> list[dict[str, Any]]:
    """Control, Scaling and Performance of each arm over its forced points (s1, equations 1 to 3).

    Arms without two such points have no curve and are left out.
    """
    found = []
    for name, points in arms.items():
        forced = {key: rows for key, rows in points.items() if key[2]}
        if len(forced) > 1:
            found.append({"arm": name, "num_points": len(forced), **_measures(forced, seed=seed)})
    return found


def _measures(points: Points, *, seed: int) -> dict[str, Any]:
    accuracy = [scores(rows) for rows in points.values()]
    shared = sorted(set.intersection(*(set(one) for one in accuracy)))
    if not shared:
        return {}
    accuracy_PQ = np.array([[one[problem] for problem in shared] for one in accuracy])
    tokens_PQ = np.array([_tokens(rows, shared) for rows in points.values()])
    caps = [cap for cap, _, _ in points]
    curve = [
        (float(t), float(f)) for t, f in zip(tokens_PQ.mean(1), accuracy_PQ.mean(1), strict=True)
    ]
    by_sample = [(row.num_thinking_tokens, key[0]) for key, rows in points.items() for row in rows]
    return {
        "control": control([tokens for tokens, _ in curve], high=caps),
        "control_per_sample": control([t for t, _ in by_sample], high=[c for _, c in by_sample]),
        "scaling_per_token": _finite(scaling(_positive(curve))),
        "scaling_per_doubling": _finite(scaling(_positive(curve), per="doubling")),
        "scaling_per_doubling_ci95": _scaling_interval(tokens_PQ, accuracy_PQ, seed=seed),
        "performance": performance(curve),
        "performance_ci95": _pair(performance_ci(accuracy_PQ, seed=seed)),
    }


def _tokens(rows: Sequence[EvaluationRow], problems: Sequence[str]) -> list[float]:
    """Mean thinking tokens of each problem."""
    grouped = by_problem(rows)
    return [float(np.mean([row.num_thinking_tokens for row in grouped[p]])) for p in problems]


def _positive(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points with thinking: a doubling from nothing is not defined."""
    return [point for point in curve if point[0] > 0]


def _scaling_interval(tokens_PQ: Any, accuracy_PQ: Any, *, seed: int) -> list[float] | None:
    thinking = (tokens_PQ > 0).all(axis=1)  # so that no resample has a point without thinking
    if thinking.sum() < 2:
        return None
    return _pair(scaling_ci(tokens_PQ[thinking], accuracy_PQ[thinking], seed=seed))


# --- LIMO's hypothesis ----------------------------------------------------------------------------


def elicited(
    arms: Mapping[str, Points], base: ArmConfig, tuned: ArmConfig
) -> dict[str, Any] | None:
    """Base pass@k against tuned pass@1; None where the base was not sampled several times."""
    if base.name not in arms or tuned.name not in arms:
        return None
    base_rows = by_problem(
        row for row in arms[base.name][longest(arms[base.name])] if row.verdict.counts
    )
    tuned_scores = scores(arms[tuned.name][longest(arms[tuned.name])])
    shared = sorted(base_rows.keys() & tuned_scores.keys())
    counts = [len(base_rows[problem]) for problem in shared]
    if not shared or min(counts) < 2:
        return None
    right = [sum(row.verdict is Verdict.CORRECT for row in base_rows[p]) for p in shared]
    found = elicitation(right, counts, [tuned_scores[p] for p in shared], k=min(counts))
    return {
        "base": base.name,
        "tuned": tuned.name,
        "k": min(counts),
        "n": len(shared),
        "base_pass_at_k": found.base_pass_at_k,
        "tuned_pass_at_1": found.tuned_pass_at_1,
        "num_gains": found.num_gains,
        "gain": found.gain,
        "gain_within_base_coverage": _finite(found.within_coverage),
        "ci95": _pair(found.ci95),
    }


# --- averages over sets ---------------------------------------------------------------------------


def averages(
    cells: Mapping[tuple[str, str, str], Sequence[EvaluationRow]],
    domains: Mapping[str, str | None],
    *,
    num_resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Mean over sets, each weighing the same, by arm and protocol: in domain, out of domain, LIMO's
    ten, all. `cells` holds the rows of (arm, protocol, set) at the arm's longest point."""
    found = []
    for arm, protocol in dict.fromkeys((arm, protocol) for arm, protocol, _ in cells):
        own = {
            name: scores(rows)
            for (one, way, name), rows in cells.items()
            if (one, way) == (arm, protocol)
        }
        for group, names in _groups(own, domains).items():
            values = [list(own[name].values()) for name in names]
            interval = macro_mean_ci(values, num_resamples=num_resamples, seed=seed)
            found.append(
                {
                    "arm": arm,
                    "protocol": protocol,
                    "group": group,
                    "benchmarks": names,
                    "accuracy": float(np.mean([np.mean(one) for one in values])),
                    "ci95": _pair(interval),
                }
            )
    return found


def _groups(own: Mapping[str, Any], domains: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Groups that have two sets at least; LIMO's ten only where all ten were measured."""
    names, ten = [name for name, values in own.items() if values], limo_ten()
    groups = {
        "in": [name for name in names if domains.get(name) == "in"],
        "out": [name for name in names if domains.get(name) == "out"],
        "ten": [name for name in names if name in ten] if ten <= set(names) else [],
        "all": names,
    }
    return {group: chosen for group, chosen in groups.items() if len(chosen) > 1}


def _pair(interval: Interval) -> list[float] | None:
    """Both ends; None where there is no interval."""
    return None if math.isnan(interval.low) else [interval.low, interval.high]


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
