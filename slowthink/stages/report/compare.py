"""Two runs, or two arms of one run, on the questions that both answered.

    {"a": {"run": "runs/one", "arm": "tuned", …}, "b": {…}, "sets": [{"benchmark": "heldout",
     "protocol": "greedy", "points": [{"max_thinking_tokens": 96, "n": 200, "difference": 0.05,
     "ci95": [0.0, 0.1], "won": [{"problem_id": "p-…", "a": 0.0, "b": 1.0, …}], …}]}], …}

Rows are paired by benchmark, protocol, point and problem; a problem's samples are averaged first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slowthink.analysis.pairing import compare_rows
from slowthink.analysis.scores import point_fields, point_order
from slowthink.analysis.statistics import NUM_RESAMPLES
from slowthink.errors import DataError
from slowthink.stages.report.pairing import (
    ComparedArms,
    left_out,
    nothing_shared,
    shared_sets,
)
from slowthink.stages.report.sets import SetKey, largest_cap_point
from slowthink.stages.report.text import budget_label, detectable_difference, finite, p_value


def compare(
    pair: ComparedArms, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Every point that both sides have, on the problems that both answered at it.

    Raises DataError where they share no set, protocol, point or problem.
    """
    keys = shared_sets(pair)
    sets = [_compare_set(pair, key, num_resamples=num_resamples, seed=seed) for key in keys]
    sets = [compared_set for compared_set in sets if compared_set["points"]]
    if not sets:
        raise DataError(nothing_shared(pair, keys))
    comparison: dict[str, Any] = finite(
        {
            "a": pair.a.about,
            "b": pair.b.about,
            "sets": sets,
            "left_out": left_out(pair, keys),
        }
    )
    return comparison


def in_words(compared_set: Mapping[str, Any]) -> str:
    """One set's difference at its largest shared point, on one line."""
    main = largest_cap_point(compared_set["points"])
    low, high = main["ci95"]
    return (
        f"{compared_set['benchmark']}, {compared_set['protocol_text']}, {budget_label(main)}: "
        f"{main['a']['accuracy']:.1%} -> {main['b']['accuracy']:.1%} ({main['difference']:+.1%}, "
        f"95 % interval {low:+.1%} to {high:+.1%}, exact p {p_value(main['p_exact'])}), "
        f"{len(main['won'])} won, {len(main['lost'])} lost. {detectable_difference(main)}"
    )


def _compare_set(
    pair: ComparedArms, key: SetKey, *, num_resamples: int, seed: int
) -> dict[str, Any]:
    a, b = pair.a.points[key], pair.b.points[key]
    points = [
        point_fields(point)
        | compare_rows(a[point], b[point], num_resamples=num_resamples, seed=seed)
        for point in sorted(a.keys() & b.keys(), key=point_order)
    ]
    return {
        "benchmark": key[0],
        "protocol": key[1],
        "protocol_text": pair.a.texts.get(key, key[1]),
        "protocol_text_b": pair.b.texts.get(key, key[1]),
        "points": [point for point in points if point["n"]],
        "num_points_only_a": len(a.keys() - b.keys()),
        "num_points_only_b": len(b.keys() - a.keys()),
    }
