"""Two runs, or two arms of one run, on the questions that both answered; differences are b - a.

    {"a": {"run": "runs/one", "arm": "tuned", …}, "b": {…}, "sets": [{"benchmark": "heldout",
     "protocol": "greedy", "points": [{"max_thinking_tokens": 96, "n": 200, "difference": 0.05,
     "ci95": [0.0, 0.1], "won": [{"problem_id": "p-…", "a": 0.0, "b": 1.0, …}], …}]}], …}

Rows are paired by benchmark, protocol, point and problem; a problem's samples are averaged first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from slowthink.analysis.pairing import compare_rows
from slowthink.analysis.scores import (
    ComparedRow,
    PointKey,
    base_and_tuned,
    by_point,
    largest_budget_figures,
    point_fields,
    point_order,
)
from slowthink.data.tables import missing_stage
from slowthink.errors import ConfigError, DataError
from slowthink.records import group_by
from slowthink.serialise import from_plain
from slowthink.stages.report.data import open_run
from slowthink.stages.report.excerpts import read_columns
from slowthink.stages.report.sets import SetKey, evaluated_sets, set_key
from slowthink.stages.report.text import budget_label, detectable_difference, finite, p_value


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm of one run."""

    run: Path
    arm: str
    model: str
    texts: Mapping[SetKey, str]
    """Each set's protocol in words."""
    points: Mapping[SetKey, Mapping[PointKey, Sequence[ComparedRow]]]

    @property
    def about(self) -> dict[str, str]:
        """Run, arm and model, as data."""
        return {"run": str(self.run), "arm": self.arm, "model": self.model}


@dataclass(frozen=True, kw_only=True)
class ComparedArms:
    """The two arms to compare; differences are b - a."""

    a: Side
    b: Side


def rows_path(run: Path) -> Path:
    """The table of a run's evaluate stage."""
    return run / "evaluate" / "data.parquet"


def compare(pair: ComparedArms) -> dict[str, Any]:
    """Every point that both sides have, on the problems that both answered at it.

    Raises DataError where they share no set, protocol, point or problem.
    """
    keys = _shared_sets(pair)
    sets = [_compare_set(pair, key) for key in keys]
    sets = [compared_set for compared_set in sets if compared_set["points"]]
    if not sets:
        raise DataError(_nothing_shared(pair, keys))
    comparison: dict[str, Any] = finite(
        {"a": pair.a.about, "b": pair.b.about, "sets": sets, "left_out": _left_out(pair, keys)}
    )
    return comparison


def difference_line(compared_set: Mapping[str, Any]) -> str:
    """One set's difference at its largest shared point, on one line."""
    main = largest_budget_figures(compared_set["points"])
    low, high = main["ci95"]
    return (
        f"{compared_set['benchmark']}, {compared_set['protocol_text']}, {budget_label(main)}: "
        f"{main['a']['accuracy']:.1%} -> {main['b']['accuracy']:.1%} ({main['difference']:+.1%}, "
        f"95 % interval {low:+.1%} to {high:+.1%}, exact p {p_value(main['p_exact'])}), "
        f"{len(main['won'])} won, {len(main['lost'])} lost. {detectable_difference(main)}"
    )


def _compare_set(pair: ComparedArms, key: SetKey) -> dict[str, Any]:
    a, b = pair.a.points[key], pair.b.points[key]
    points = [
        point_fields(point) | compare_rows(a[point], b[point])
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


def open_pair(
    run_a: Path, run_b: Path, *, arm_a: str | None = None, arm_b: str | None = None
) -> ComparedArms:
    """Two arms: by default each run's headline arm; of the same run its baseline and headline.

    Raises DataError where a run has no finished evaluate stage, ConfigError for an unknown arm, or
    where both sides are the same.
    """
    same = run_a.resolve() == run_b.resolve()
    if same and arm_a is None and arm_b is None:
        arm_a = _headline_arms(_sets(run_a))[0]
    a, b = _open_side(run_a, arm_a, option="--arm-a"), _open_side(run_b, arm_b, option="--arm-b")
    if same and a.arm == b.arm:
        raise ConfigError(
            f"{run_a}: both sides are its arm `{a.arm}`; expected two different ones. "
            "Name another run, or another arm: --arm-a NAME --arm-b NAME"
        )
    return ComparedArms(a=a, b=b)


def _sets(run: Path) -> list[dict[str, Any]]:
    """Sets of a run's evaluation. Raises DataError where it has none."""
    sets = evaluated_sets(open_run(run).summary)
    if not sets or not rows_path(run).exists():
        raise missing_stage(run, "evaluate")
    return sets


def _headline_arms(sets: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    return base_and_tuned({arm["name"]: str(arm.get("model")) for arm in sets[0]["arms"]})


def _open_side(run: Path, arm: str | None, *, option: str) -> Side:
    sets = _sets(run)
    models = {each["name"]: each["model"] for set_summary in sets for each in set_summary["arms"]}
    chosen = _headline_arms(sets)[1] if arm is None else arm
    if chosen not in models:
        raise ConfigError(
            f"{option}: {run} has no arm `{chosen}`; expected one of {', '.join(models)}."
        )
    texts = {set_key(set_summary): str(set_summary["protocol_text"]) for set_summary in sets}
    default = next(
        set_key(set_summary)
        for set_summary in sets
        if chosen in [each["name"] for each in set_summary["arms"]]
    )
    names = [field.name for field in fields(ComparedRow)]
    rows = read_columns(rows_path(run), ["arm", "benchmark", "protocol", *names])
    answers = group_by(
        [row for row in rows if row["arm"] == chosen],
        lambda row: set_key(row) if "benchmark" in row else default,
    )
    points = {
        key: by_point(from_plain(ComparedRow, row) for row in rows) for key, rows in answers.items()
    }
    return Side(run=run, arm=chosen, model=models[chosen], texts=texts, points=points)


def _shared_sets(pair: ComparedArms) -> list[SetKey]:
    """Sets of both sides. Raises DataError where there is none, or one name means two protocols."""
    known = dict.fromkeys([*pair.a.texts, *pair.a.points])
    keys = [key for key in known if key in pair.a.points and key in pair.b.points]
    if not keys:
        raise DataError(_nothing_shared(pair, keys))
    for key in keys:
        temperatures = [_temperatures(side, key) for side in (pair.a, pair.b)]
        if temperatures[0] != temperatures[1]:
            raise DataError(
                f"{pair.a.run} and {pair.b.run}: `{key[1]}` on {key[0]} means different "
                f"temperatures, {_listed(temperatures[0])} and {_listed(temperatures[1])}; "
                "expected the same protocol. Evaluate one of them again under the other's."
            )
    return keys


def _temperatures(side: Side, key: SetKey) -> set[float]:
    return {row.temperature for rows in side.points[key].values() for row in rows}


def _nothing_shared(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
    """Why the two cannot be compared, and what to do."""
    where = f"{pair.a.run} ({pair.a.arm}) and {pair.b.run} ({pair.b.arm})"
    if keys:
        return f"{where}: {_no_point(pair, keys)}"
    a, b = ({benchmark for benchmark, _ in side.points} for side in (pair.a, pair.b))
    if a & b:
        protocols = [
            _listed({protocol for benchmark, protocol in side.points if benchmark in a & b})
            for side in (pair.a, pair.b)
        ]
        return (
            f"{where}: the protocols differ on {_listed(a & b)}: a was evaluated under "
            f"{protocols[0]}, b under {protocols[1]}. Expected the same protocol: figures of "
            "different protocols cannot be compared. Evaluate one of them under the other's: "
            "--set evaluate.protocols=[NAME] --update"
        )
    return (
        f"{where}: no benchmark in common; a has {_listed(a)}, b has {_listed(b)}. Expected one "
        "that both were evaluated on. Evaluate one of them on the other's."
    )


def _no_point(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
    """Why nothing can be paired on sets that both sides have."""
    a, b = (
        {budget_label(point_fields(point)) for key in keys for point in side.points[key]}
        for side in (pair.a, pair.b)
    )
    if any(pair.a.points[key].keys() & pair.b.points[key].keys() for key in keys):
        return (
            "no question in common, though sets and points are the same. Expected at least "
            "one that both answered. Evaluate both on the same problems: the same pool and seed, "
            "or --set evaluate.input=PATH"
        )
    return (
        f"no point in common; a has {_listed(a)}, b has {_listed(b)}. Expected one that both were "
        "evaluated at. Evaluate one of them at the other's caps: "
        "--set evaluate.arms.0.caps=[...] --update"
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"


def _left_out(pair: ComparedArms, keys: Sequence[SetKey]) -> list[dict[str, str]]:
    """Sets that only one side has."""
    return [
        {"side": name, "benchmark": benchmark, "protocol": protocol}
        for name, side in (("a", pair.a), ("b", pair.b))
        for benchmark, protocol in side.points
        if (benchmark, protocol) not in keys
    ]
