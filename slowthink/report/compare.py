"""Any two runs, or two arms of one, beside one another on the questions that both answered.

    {"a": {"run": "runs/one", "arm": "tuned", …}, "b": {…}, "sets": [{"benchmark": "heldout",
     "protocol": "greedy", "points": [{"max_thinking_tokens": 96, "n": 200, "difference": 0.05,
     "ci95": [0.0, 0.1], "won": [{"problem_id": "p-…", "a": 0.0, "b": 1.0, …}], …}]}], …}

Rows are paired by benchmark, protocol, point and problem; a problem's samples are averaged first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, DataError
from slowthink.records import Verdict
from slowthink.report.data import open_run
from slowthink.report.excerpts import read_columns
from slowthink.report.sets import POINT_KEYS, SetKey, baseline_arm, headline_arm, key_of, sets_of
from slowthink.report.text import finite, point_name
from slowthink.stats import (
    NUM_RESAMPLES,
    Interval,
    bootstrap_ci,
    minimal_detectable_difference,
    paired_bootstrap,
    sign_test,
    wilson,
)

Row = Mapping[str, Any]
PointKey = tuple[int, int, bool]
"""Cap, waits, forced."""
ROW_COLUMNS = (
    "id", "arm", "benchmark", "protocol", "temperature", "problem_id", "sample", *POINT_KEYS,
    "verdict", "num_thinking_tokens", "num_answer_tokens",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm of one run."""

    run: Path
    arm: str
    model: str
    texts: Mapping[SetKey, str]
    """Each set's protocol in words."""
    points: Mapping[SetKey, Mapping[PointKey, Sequence[Row]]]

    @property
    def path(self) -> Path:
        """The table that the rows stand in."""
        return table_of(self.run)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The two that are compared; differences are b - a."""

    a: Side
    b: Side


def table_of(run: Path) -> Path:
    """The rows of a run's evaluate stage."""
    return run / "evaluate" / "data.parquet"


def compare(pair: Pair, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Every point that both sides have, on the problems that both answered there.

    Raises DataError where they share no set, protocol, point or problem.
    """
    keys = _shared_sets(pair)
    sets = [_compare_set(pair, key, num_resamples=num_resamples, seed=seed) for key in keys]
    sets = [one for one in sets if one["points"]]
    if not sets:
        raise DataError(_nothing(pair, keys))
    found = {
        "a": _about(pair.a),
        "b": _about(pair.b),
        "sets": sets,
        "left_out": _left_out(pair, keys),
    }
    cleaned: dict[str, Any] = finite(found)
    return cleaned


# --- the two sides --------------------------------------------------------------------------------


def open_pair(
    run_a: Path, run_b: Path, *, arm_a: str | None = None, arm_b: str | None = None
) -> Pair:
    """Two arms: by default each run's headline arm, and of one run its baseline and headline.

    Raises DataError where a run has no finished evaluate stage, ConfigError for an unknown arm, or
    where both sides are the same.
    """
    same = run_a.resolve() == run_b.resolve()
    if same and arm_a is None and arm_b is None:
        arm_a = baseline_arm(_sets(run_a))
    a, b = _open_side(run_a, arm_a, option="--arm-a"), _open_side(run_b, arm_b, option="--arm-b")
    if same and a.arm == b.arm:
        raise ConfigError(
            f"{run_a}: both sides are its arm `{a.arm}`; expected two. "
            "Name another run, or another arm: --arm-a NAME --arm-b NAME"
        )
    return Pair(a=a, b=b)


def _sets(run: Path) -> list[dict[str, Any]]:
    opened = open_run(run)
    sets = sets_of(opened.summary)
    if not sets or not table_of(run).exists():
        raise DataError(
            f"{run}: no finished evaluate stage; expected {table_of(run)}. Name a run folder that "
            "was evaluated, or evaluate it: slowthink evaluate RECIPE --out DIR"
        )
    return sets


def _open_side(run: Path, arm: str | None, *, option: str) -> Side:
    sets = _sets(run)
    names = {one["name"]: one["model"] for found in sets for one in found["arms"]}
    chosen = headline_arm(sets) if arm is None else arm
    if chosen not in names:
        raise ConfigError(
            f"{option}: {run} has no arm `{chosen}`; expected one of {', '.join(names)}."
        )
    texts = {key_of(one): str(one["protocol_text"]) for one in sets}
    own = next(key_of(one) for one in sets if chosen in [arm["name"] for arm in one["arms"]])
    points: dict[SetKey, dict[PointKey, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in read_columns(table_of(run), ROW_COLUMNS):
        if row["arm"] == chosen:
            key = (row["benchmark"], row["protocol"]) if "benchmark" in row else own
            points[key][row["max_thinking_tokens"], row["waits"], row["forced"]].append(row)
    return Side(run=run, arm=chosen, model=names[chosen], texts=texts, points=points)


def _about(side: Side) -> dict[str, str]:
    return {"run": str(side.run), "arm": side.arm, "model": side.model}


# --- what is shared -------------------------------------------------------------------------------


def _shared_sets(pair: Pair) -> list[SetKey]:
    """Sets of both sides. Raises DataError where there is none, or one name means two protocols."""
    keys = [key for key in pair.a.points if key in pair.b.points]
    if not keys:
        raise DataError(_nothing(pair, keys))
    for key in keys:
        drawn = [_temperatures(side, key) for side in (pair.a, pair.b)]
        if drawn[0] != drawn[1]:
            raise DataError(
                f"{pair.a.run} and {pair.b.run}: `{key[1]}` on {key[0]} means different "
                f"temperatures, {_listed(drawn[0])} and {_listed(drawn[1])}; expected one protocol "
                "for both. Measure one of them again under the other's protocol."
            )
    return keys


def _temperatures(side: Side, key: SetKey) -> set[float]:
    rows = (row for rows in side.points[key].values() for row in rows)
    return {float(row.get("temperature") or 0.0) for row in rows}


def _nothing(pair: Pair, keys: Sequence[SetKey]) -> str:
    """Why the two cannot be compared, and what to do."""
    where = f"{pair.a.run} ({pair.a.arm}) and {pair.b.run} ({pair.b.arm})"
    if keys:
        points = [
            _listed({point_name(_place(p)) for key in keys for p in side.points[key]})
            for side in (pair.a, pair.b)
        ]
        return (
            f"{where}: no question answered by both at the same point; a has {points[0]}, b has "
            f"{points[1]}. Expected one point and question in common. Evaluate one of them at the "
            "other's caps: --set evaluate.arms.0.caps=[...] --update"
        )
    a, b = ({benchmark for benchmark, _ in side.points} for side in (pair.a, pair.b))
    if a & b:
        ways = [
            _listed({way for name, way in side.points if name in a & b})
            for side in (pair.a, pair.b)
        ]
        return (
            f"{where}: the protocols differ on {_listed(a & b)}: a was measured under {ways[0]}, b "
            f"under {ways[1]}. Expected one protocol for both: such figures do not compare. "
            "Evaluate one of them under the other's: --set evaluate.protocols=[NAME] --update"
        )
    return (
        f"{where}: no benchmark in common; a has {_listed(a)}, b has {_listed(b)}. Expected one "
        "that both were measured on. Evaluate one of them on the other's."
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"


def _left_out(pair: Pair, keys: Sequence[SetKey]) -> list[dict[str, str]]:
    """Sets that only one side has."""
    return [
        {"side": name, "benchmark": benchmark, "protocol": protocol}
        for name, side in (("a", pair.a), ("b", pair.b))
        for benchmark, protocol in side.points
        if (benchmark, protocol) not in keys
    ]


# --- one set --------------------------------------------------------------------------------------


def _compare_set(pair: Pair, key: SetKey, *, num_resamples: int, seed: int) -> dict[str, Any]:
    a, b = pair.a.points[key], pair.b.points[key]
    shared = sorted(set(a) & set(b), key=lambda point: (not point[2], point))
    points = [
        _place(point) | compare_rows(a[point], b[point], num_resamples=num_resamples, seed=seed)
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


def _place(point: PointKey) -> dict[str, Any]:
    return dict(zip(POINT_KEYS, point, strict=True))


def compare_rows(
    a: Sequence[Row], b: Sequence[Row], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """b against a at one point; with n = 0 and no figures where they share no problem."""
    scores_a, scores_b = scores(a), scores(b)
    shared = sorted(scores_a.keys() & scores_b.keys())
    counts = {
        "n": len(shared),
        "num_only_a": len(scores_a) - len(shared),
        "num_only_b": len(scores_b) - len(shared),
    }
    if not shared:
        return counts
    values_a, values_b = [scores_a[p] for p in shared], [scores_b[p] for p in shared]
    paired = paired_bootstrap(values_a, values_b, num_resamples=num_resamples, seed=seed)
    detectable = minimal_detectable_difference(values_a, values_b)
    options = {"num_resamples": num_resamples, "seed": seed}
    return counts | {
        "a": _figures([row for row in a if row["problem_id"] in scores_b], scores_a, **options),
        "b": _figures([row for row in b if row["problem_id"] in scores_a], scores_b, **options),
        "difference": paired.difference,
        "ci95": [paired.ci95.low, paired.ci95.high],
        "p_bootstrap": paired.p_value,
        "p_exact": sign_test(values_a, values_b),
        "minimal_detectable_difference": None if math.isnan(detectable) else detectable,
        **_changed(_by_problem(a), _by_problem(b), scores_a, scores_b),
    }


def scores(rows: Iterable[Row]) -> dict[str, float]:
    """A problem's share of right samples: the mean over temperatures of the mean over samples.

    What cannot be graded is left out, not counted as wrong.
    """
    found: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if Verdict(row["verdict"]).counts:
            found[row["problem_id"]][float(row.get("temperature") or 0.0)].append(_right(row))
    return {
        problem: sum(sum(one) / len(one) for one in drawn.values()) / len(drawn)
        for problem, drawn in sorted(found.items())
    }


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
    interval = _interval(groups, values, num_resamples=num_resamples, seed=seed)
    return {
        "accuracy": sum(values) / len(values),
        "ci95": [interval.low, interval.high],
        "num_samples": max(map(len, groups.values())),
        "mean_thinking_tokens": sum(row["num_thinking_tokens"] for row in rows) / len(rows),
        "mean_answer_tokens": sum(row["num_answer_tokens"] for row in rows) / len(rows),
    }


def _interval(
    groups: Mapping[str, Sequence[Row]],
    values: Sequence[float],
    *,
    num_resamples: int,
    seed: int,
) -> Interval:
    """Wilson's with one sample a problem (right also at 0 and 1), else the clustered bootstrap."""
    if all(len(rows) == 1 for rows in groups.values()):
        return wilson(round(sum(values)), len(values))
    return bootstrap_ci([[value] for value in values], num_resamples=num_resamples, seed=seed)


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
