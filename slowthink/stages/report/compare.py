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
from slowthink.stages.report.tables import Json
from slowthink.stages.report.text import budget_label, detectable_difference, json_safe, p_value


@dataclass(frozen=True, kw_only=True)
class RunArm:
    """One arm of one run."""

    run: Path
    arm: str
    model: str
    protocol_texts: Mapping[SetKey, str]
    """Description of each set's protocol."""
    points: Mapping[SetKey, Mapping[PointKey, Sequence[ComparedRow]]]

    @property
    def description(self) -> dict[str, str]:
        """Run, arm and model, as JSON."""
        return {"run": str(self.run), "arm": self.arm, "model": self.model}


@dataclass(frozen=True, kw_only=True)
class ComparedArms:
    """The two arms to compare; differences are b - a."""

    a: RunArm
    b: RunArm


def rows_path(run: Path) -> Path:
    """The table of a run's evaluate stage."""
    return run / "evaluate" / "data.parquet"


def compare(pair: ComparedArms) -> dict[str, Any]:
    """Paired figures of every point that both arms have, on the problems that both answered there.

    Raises DataError if they share no set, protocol, point or problem.
    """
    keys = _shared_sets(pair)
    sets = [_compare_set(pair, key) for key in keys]
    sets = [compared_set for compared_set in sets if compared_set["points"]]
    if not sets:
        raise DataError(_nothing_shared_message(pair, keys))
    figures = {"a": pair.a.description, "b": pair.b.description, "sets": sets}
    return dict(json_safe(figures | {"left_out": _unshared_sets(pair, keys)}))


def difference_line(compared_set: Json) -> str:
    """One set's difference at its largest shared budget, on one line."""
    main = largest_budget_figures(compared_set["points"])
    low, high = main["ci95"]
    return (
        f"{compared_set['benchmark']}, {compared_set['protocol_text']}, {budget_label(main)}: "
        f"{main['a']['accuracy']:.1%} -> {main['b']['accuracy']:.1%} ({main['difference']:+.1%}, "
        f"95 % interval {low:+.1%} to {high:+.1%}, exact p {p_value(main['p_exact'])}), "
        f"{len(main['won'])} won, {len(main['lost'])} lost. {detectable_difference(main)}"
    )


def _compare_set(pair: ComparedArms, key: SetKey) -> dict[str, Any]:
    (benchmark, protocol), a, b = key, pair.a.points[key], pair.b.points[key]
    points = [
        point_fields(point) | compare_rows(a[point], b[point])
        for point in sorted(a.keys() & b.keys(), key=point_order)
    ]
    return {
        "benchmark": benchmark,
        "protocol": protocol,
        "protocol_text": pair.a.protocol_texts.get(key, protocol),
        "protocol_text_b": pair.b.protocol_texts.get(key, protocol),
        "points": [point for point in points if point["n"]],
        "num_points_only_a": len(a.keys() - b.keys()),
        "num_points_only_b": len(b.keys() - a.keys()),
    }


def open_pair(
    run_a: Path, run_b: Path, *, arm_a: str | None = None, arm_b: str | None = None
) -> ComparedArms:
    """Two arms: by default each run's headline arm; within one run its baseline and headline arms.

    Raises DataError if a run has no finished evaluate stage, ConfigError for an unknown arm, or if
    both arms are the same.
    """
    same_run = run_a.resolve() == run_b.resolve()
    if same_run and arm_a is None and arm_b is None:
        arm_a = _headline_arms(_require_sets(run_a))[0]
    a, b = _open_arm(run_a, arm_a, option="--arm-a"), _open_arm(run_b, arm_b, option="--arm-b")
    if same_run and a.arm == b.arm:
        raise ConfigError(
            f"{run_a}: both arms are `{a.arm}`; expected two different ones. "
            "Name another run, or another arm: --arm-a NAME --arm-b NAME"
        )
    return ComparedArms(a=a, b=b)


def _require_sets(run: Path) -> list[dict[str, Any]]:
    """Sets of a run's evaluation. Raises DataError if there are none."""
    sets = evaluated_sets(open_run(run).summary)
    if not sets or not rows_path(run).exists():
        raise missing_stage(run, "evaluate")
    return sets


def _headline_arms(sets: Sequence[Json]) -> tuple[str, str]:
    return base_and_tuned({arm["name"]: str(arm.get("model")) for arm in sets[0]["arms"]})


def _open_arm(run: Path, arm: str | None, *, option: str) -> RunArm:
    sets = _require_sets(run)
    models = {each["name"]: each["model"] for set_summary in sets for each in set_summary["arms"]}
    chosen = _headline_arms(sets)[1] if arm is None else arm
    if chosen not in models:
        raise ConfigError(
            f"{option}: {run} has no arm `{chosen}`; expected one of {', '.join(models)}."
        )
    texts = {set_key(set_summary): str(set_summary["protocol_text"]) for set_summary in sets}
    default_set = next(
        set_key(set_summary)
        for set_summary in sets
        if chosen in [each["name"] for each in set_summary["arms"]]
    )
    names = [field.name for field in fields(ComparedRow)]
    rows = read_columns(rows_path(run), ["arm", "benchmark", "protocol", *names])
    rows_by_set = group_by(
        [row for row in rows if row["arm"] == chosen],
        lambda row: set_key(row) if "benchmark" in row else default_set,
    )
    points = {
        key: by_point(from_plain(ComparedRow, row) for row in rows)
        for key, rows in rows_by_set.items()
    }
    return RunArm(run=run, arm=chosen, model=models[chosen], protocol_texts=texts, points=points)


def _shared_sets(pair: ComparedArms) -> list[SetKey]:
    """Sets of both arms. Raises DataError if there are none, or one name means two protocols."""
    ordered = dict.fromkeys([*pair.a.protocol_texts, *pair.a.points])
    keys = [key for key in ordered if key in pair.a.points and key in pair.b.points]
    if not keys:
        raise DataError(_nothing_shared_message(pair, keys))
    for key in keys:
        temperatures = [_temperatures(arm, key) for arm in (pair.a, pair.b)]
        if temperatures[0] != temperatures[1]:
            raise DataError(
                f"{pair.a.run} and {pair.b.run}: `{key[1]}` on {key[0]} means different "
                f"temperatures, {_join(temperatures[0])} and {_join(temperatures[1])}; "
                "expected the same protocol. Evaluate one of them again under the other's."
            )
    return keys


def _temperatures(arm: RunArm, key: SetKey) -> set[float]:
    return {row.temperature for rows in arm.points[key].values() for row in rows}


def _nothing_shared_message(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
    """Why the two cannot be compared, and what to do."""
    names = f"{pair.a.run} ({pair.a.arm}) and {pair.b.run} ({pair.b.arm})"
    if keys:
        return f"{names}: {_no_shared_point_message(pair, keys)}"
    a, b = ({benchmark for benchmark, _ in arm.points} for arm in (pair.a, pair.b))
    if a & b:
        protocols = [
            _join({protocol for benchmark, protocol in arm.points if benchmark in a & b})
            for arm in (pair.a, pair.b)
        ]
        return (
            f"{names}: the protocols differ on {_join(a & b)}: a was evaluated under "
            f"{protocols[0]}, b under {protocols[1]}. Expected the same protocol: figures of "
            "different protocols cannot be compared. Evaluate one of them under the other's: "
            "--set evaluate.protocols=[NAME] --update"
        )
    return (
        f"{names}: no benchmark in common; a has {_join(a)}, b has {_join(b)}. Expected one "
        "that both were evaluated on. Evaluate one of them on the other's."
    )


def _no_shared_point_message(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
    """Why nothing can be paired on sets that both arms have."""
    a, b = (
        {budget_label(point_fields(point)) for key in keys for point in arm.points[key]}
        for arm in (pair.a, pair.b)
    )
    if any(pair.a.points[key].keys() & pair.b.points[key].keys() for key in keys):
        return (
            "no question in common, though sets and points are the same. Expected at least "
            "one that both answered. Evaluate both on the same problems: the same pool and seed, "
            "or --set evaluate.input=PATH"
        )
    return (
        f"no point in common; a has {_join(a)}, b has {_join(b)}. Expected one that both were "
        "evaluated at. Evaluate one of them at the other's caps: "
        "--set evaluate.arms.0.caps=[...] --update"
    )


def _join(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"


def _unshared_sets(pair: ComparedArms, keys: Sequence[SetKey]) -> list[dict[str, str]]:
    """Sets that only one arm has, or has under another protocol."""
    return [
        {"side": name, "benchmark": benchmark, "protocol": protocol}
        for name, arm in (("a", pair.a), ("b", pair.b))
        for benchmark, protocol in arm.points
        if (benchmark, protocol) not in keys
    ]
