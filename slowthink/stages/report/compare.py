"""Any two runs, or two arms of one, beside one another on the questions that both answered.

    {"a": {"run": "runs/one", "arm": "tuned", …}, "b": {…}, "sets": [{"benchmark": "heldout",
     "protocol": "greedy", "points": [{"max_thinking_tokens": 96, "n": 200, "difference": 0.05,
     "ci95": [0.0, 0.1], "won": [{"problem_id": "p-…", "a": 0.0, "b": 1.0, …}], …}]}], …}

Rows are paired by benchmark, protocol, point and problem; a problem's samples are averaged first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slowthink.analysis.statistics import NUM_RESAMPLES, accuracy_ci, paired_figures, problem_scores
from slowthink.errors import DataError
from slowthink.records import Verdict
from slowthink.stages.report.pairing import (
    ComparedArms,
    Row,
    left_out,
    nothing_shared,
    place,
    shared_sets,
)
from slowthink.stages.report.sets import SetKey, largest_cap_point
from slowthink.stages.report.text import budget_label, detectable_difference, finite, p_value


def compare(
    pair: ComparedArms, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Every point that both sides have, on the problems that both answered there.

    Raises DataError where they share no set, protocol, point or problem.
    """
    keys = shared_sets(pair)
    sets = [_compare_set(pair, key, num_resamples=num_resamples, seed=seed) for key in keys]
    sets = [one for one in sets if one["points"]]
    if not sets:
        raise DataError(nothing_shared(pair, keys))
    found = {
        "a": pair.a.about,
        "b": pair.b.about,
        "sets": sets,
        "left_out": left_out(pair, keys),
    }
    cleaned: dict[str, Any] = finite(found)
    return cleaned


def in_words(one: Mapping[str, Any]) -> str:
    """One set's difference at its largest shared point, on one line."""
    main = largest_cap_point(one["points"])
    low, high = main["ci95"]
    return (
        f"{one['benchmark']}, {one['protocol_text']}, {budget_label(main)}: "
        f"{main['a']['accuracy']:.1%} -> {main['b']['accuracy']:.1%} ({main['difference']:+.1%}, "
        f"95 % interval {low:+.1%} to {high:+.1%}, exact p {p_value(main['p_exact'])}), "
        f"{len(main['won'])} won, {len(main['lost'])} lost. {detectable_difference(main)}"
    )


# --- one set --------------------------------------------------------------------------------------


def _compare_set(
    pair: ComparedArms, key: SetKey, *, num_resamples: int, seed: int
) -> dict[str, Any]:
    a, b = pair.a.points[key], pair.b.points[key]
    shared = sorted(set(a) & set(b), key=lambda point: (not point[2], point))
    points = [
        place(point) | compare_rows(a[point], b[point], num_resamples=num_resamples, seed=seed)
        for point in shared
    ]
    return {
        "benchmark": key[0],
        "protocol": key[1],
        "protocol_text": pair.a.texts.get(key, key[1]),
        "protocol_text_b": pair.b.texts.get(key, key[1]),
        "points": [point for point in points if point["n"]],
        "num_points_only_a": len(set(a) - set(b)),
        "num_points_only_b": len(set(b) - set(a)),
    }


def compare_rows(
    a: Sequence[Row], b: Sequence[Row], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """b against a at one point; with n = 0 and no figures where they share no problem."""
    scores_a, scores_b = scores(a), scores(b)
    options = {"num_resamples": num_resamples, "seed": seed}
    paired = paired_figures(scores_a, scores_b, **options)
    num_shared = paired["n"] if paired else 0
    counts = {
        "n": num_shared,
        "num_only_a": len(scores_a) - num_shared,
        "num_only_b": len(scores_b) - num_shared,
    }
    if paired is None:
        return counts
    return (
        counts
        | paired
        | {
            "a": _figures([r for r in a if r["problem_id"] in scores_b], scores_a, **options),
            "b": _figures([r for r in b if r["problem_id"] in scores_a], scores_b, **options),
            **_changed(_by_problem(a), _by_problem(b), scores_a, scores_b),
        }
    )


def scores(rows: Iterable[Row]) -> dict[str, float]:
    """A problem's share of right samples: the mean over temperatures of the mean over samples.

    What cannot be graded is left out, not counted as wrong.
    """
    return problem_scores(
        (row["problem_id"], float(row.get("temperature") or 0.0), _right(row))
        for row in rows
        if Verdict(row["verdict"]).counts
    )


def _right(row: Row) -> bool:
    return bool(row["verdict"] == Verdict.CORRECT.value)


def _by_problem(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that count, by problem, in order of sample."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["sample"], row["id"])):
        if Verdict(row["verdict"]).counts:
            found[row["problem_id"]].append(row)
    return found


def _figures(
    rows: Sequence[Row], known: Mapping[str, float], *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """One side's own figures on the shared problems."""
    groups = _by_problem(rows)
    values = [known[problem] for problem in groups]
    interval = accuracy_ci(
        values,
        num_answers=sum(map(len, groups.values())),
        num_resamples=num_resamples,
        seed=seed,
    )
    return {
        "accuracy": sum(values) / len(values),
        "ci95": [interval.low, interval.high],
        "num_samples": max(map(len, groups.values())),
        "mean_thinking_tokens": sum(row["num_thinking_tokens"] for row in rows) / len(rows),
        "mean_answer_tokens": sum(row["num_answer_tokens"] for row in rows) / len(rows),
    }


def _changed(
    a: Mapping[str, Sequence[Row]],
    b: Mapping[str, Sequence[Row]],
    scores_a: Mapping[str, float],
    scores_b: Mapping[str, float],
) -> dict[str, list[dict[str, Any]]]:
    """Problems that b solves more often (won) or less often (lost), with a row of each side.

    The rows are the first that show it: of the better side a right one, of the other a wrong one.
    """
    found: dict[str, list[dict[str, Any]]] = {"won": [], "lost": []}
    for problem in sorted(scores_a.keys() & scores_b.keys()):
        gain = scores_b[problem] - scores_a[problem]
        if gain:
            found["won" if gain > 0 else "lost"].append(
                {
                    "problem_id": problem,
                    "a": scores_a[problem],
                    "b": scores_b[problem],
                    "a_id": next(row["id"] for row in a[problem] if _right(row) == (gain < 0)),
                    "b_id": next(row["id"] for row in b[problem] if _right(row) == (gain > 0)),
                }
            )
    return found
