"""Two arms to be compared, and what they share: sets, protocols, points.

`ComparedArms(a=Side(run=runs/one, arm="base", …), b=Side(run=runs/two, arm="tuned", …))`;
differences are b - a. Where nothing can be compared the error says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.errors import ConfigError, DataError
from slowthink.stages.report.data import open_run
from slowthink.stages.report.excerpts import read_columns
from slowthink.stages.report.sets import (
    POINT_KEYS,
    SetKey,
    baseline_arm,
    headline_arm,
    set_key,
    sets_of,
)
from slowthink.stages.report.text import budget_label

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

    @property
    def about(self) -> dict[str, str]:
        """Run, arm and model, as data."""
        return {"run": str(self.run), "arm": self.arm, "model": self.model}


@dataclass(frozen=True, kw_only=True)
class ComparedArms:
    """The two that are compared; differences are b - a."""

    a: Side
    b: Side


def table_of(run: Path) -> Path:
    """The rows of a run's evaluate stage."""
    return run / "evaluate" / "data.parquet"


def place(point: PointKey) -> dict[str, Any]:
    return dict(zip(POINT_KEYS, point, strict=True))


# --- the two sides --------------------------------------------------------------------------------


def open_pair(
    run_a: Path, run_b: Path, *, arm_a: str | None = None, arm_b: str | None = None
) -> ComparedArms:
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
    return ComparedArms(a=a, b=b)


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
    texts = {set_key(one): str(one["protocol_text"]) for one in sets}
    own = next(set_key(one) for one in sets if chosen in [arm["name"] for arm in one["arms"]])
    points: dict[SetKey, dict[PointKey, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in read_columns(table_of(run), ROW_COLUMNS):
        if row["arm"] == chosen:
            key = (row["benchmark"], row["protocol"]) if "benchmark" in row else own
            points[key][row["max_thinking_tokens"], row["waits"], row["forced"]].append(row)
    return Side(run=run, arm=chosen, model=names[chosen], texts=texts, points=points)


# --- what is shared -------------------------------------------------------------------------------


def shared_sets(pair: ComparedArms) -> list[SetKey]:
    """Sets of both sides. Raises DataError where there is none, or one name means two protocols."""
    known = dict.fromkeys([*pair.a.texts, *pair.a.points])
    keys = [key for key in known if key in pair.a.points and key in pair.b.points]
    if not keys:
        raise DataError(nothing_shared(pair, keys))
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


def nothing_shared(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
    """Why the two cannot be compared, and what to do."""
    where = f"{pair.a.run} ({pair.a.arm}) and {pair.b.run} ({pair.b.arm})"
    if keys:
        return f"{where}: {_no_point(pair, keys)}"
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


def _no_point(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
    """Why sets that both sides have hold nothing to pair."""
    a, b = (
        {budget_label(place(point)) for key in keys for point in side.points[key]}
        for side in (pair.a, pair.b)
    )
    if any(set(pair.a.points[key]) & set(pair.b.points[key]) for key in keys):
        return (
            "no question in common, though sets and points are the same. Expected at least "
            "one that both answered. Evaluate both on the same problems: the same pool and seed, "
            "or --set evaluate.input=PATH"
        )
    return (
        f"no point in common; a has {_listed(a)}, b has {_listed(b)}. Expected one that both were "
        "measured at. Evaluate one of them at the other's caps: --set evaluate.arms.0.caps=[...] "
        "--update"
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, values))) or "none"


def left_out(pair: ComparedArms, keys: Sequence[SetKey]) -> list[dict[str, str]]:
    """Sets that only one side has."""
    return [
        {"side": name, "benchmark": benchmark, "protocol": protocol}
        for name, side in (("a", pair.a), ("b", pair.b))
        for benchmark, protocol in side.points
        if (benchmark, protocol) not in keys
    ]
