"""Open two arms to compare, and find what they share: sets, protocols, points.

`ComparedArms(a=Side(run=runs/one, arm="base", …), b=Side(run=runs/two, arm="tuned", …))`;
differences are b - a. Where nothing can be compared the error says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.analysis.scores import (
    POINT_KEYS,
    ComparedRow,
    PointKey,
    by_point,
    point_fields,
)
from slowthink.errors import ConfigError, DataError
from slowthink.records import Verdict
from slowthink.stages.report.data import open_run
from slowthink.stages.report.excerpts import read_columns
from slowthink.stages.report.sets import SetKey, baseline_arm, headline_arm, set_key, sets_of
from slowthink.stages.report.text import budget_label

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
    points: Mapping[SetKey, Mapping[PointKey, Sequence[ComparedRow]]]

    @property
    def path(self) -> Path:
        """The table of the rows."""
        return rows_path(self.run)

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


# --- the two sides --------------------------------------------------------------------------------


def open_pair(
    run_a: Path, run_b: Path, *, arm_a: str | None = None, arm_b: str | None = None
) -> ComparedArms:
    """Two arms: by default each run's headline arm; of the same run its baseline and headline.

    Raises DataError where a run has no finished evaluate stage, ConfigError for an unknown arm, or
    where both sides are the same.
    """
    same = run_a.resolve() == run_b.resolve()
    if same and arm_a is None and arm_b is None:
        arm_a = baseline_arm(_sets(run_a))
    a, b = _open_side(run_a, arm_a, option="--arm-a"), _open_side(run_b, arm_b, option="--arm-b")
    if same and a.arm == b.arm:
        raise ConfigError(
            f"{run_a}: both sides are its arm `{a.arm}`; expected two different ones. "
            "Name another run, or another arm: --arm-a NAME --arm-b NAME"
        )
    return ComparedArms(a=a, b=b)


def _sets(run: Path) -> list[dict[str, Any]]:
    sets = sets_of(open_run(run).summary)
    if not sets or not rows_path(run).exists():
        raise DataError(
            f"{run} has not been evaluated yet; expected {rows_path(run)}. "
            f"Run: slowthink evaluate {run / 'recipe.yaml'} --out {run}"
        )
    return sets


def _open_side(run: Path, arm: str | None, *, option: str) -> Side:
    sets = _sets(run)
    models = {each["name"]: each["model"] for set_summary in sets for each in set_summary["arms"]}
    chosen = headline_arm(sets) if arm is None else arm
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
    answers: dict[SetKey, list[ComparedRow]] = defaultdict(list)
    for row in read_columns(rows_path(run), ROW_COLUMNS):
        if row["arm"] == chosen:
            key = (row["benchmark"], row["protocol"]) if "benchmark" in row else default
            answers[key].append(_answer(row))
    points = {key: by_point(rows) for key, rows in answers.items()}
    return Side(run=run, arm=chosen, model=models[chosen], texts=texts, points=points)


def _answer(row: Mapping[str, Any]) -> ComparedRow:
    """A row of the table; old tables have no temperature."""
    return ComparedRow(
        id=row["id"],
        problem_id=row["problem_id"],
        sample=row["sample"],
        temperature=float(row.get("temperature") or 0.0),
        max_thinking_tokens=row["max_thinking_tokens"],
        waits=row["waits"],
        forced=row["forced"],
        num_thinking_tokens=row["num_thinking_tokens"],
        num_answer_tokens=row["num_answer_tokens"],
        verdict=Verdict(row["verdict"]),
    )


# --- what both share ------------------------------------------------------------------------------


def shared_sets(pair: ComparedArms) -> list[SetKey]:
    """Sets of both sides. Raises DataError where there is none, or one name means two protocols."""
    known = dict.fromkeys([*pair.a.texts, *pair.a.points])
    keys = [key for key in known if key in pair.a.points and key in pair.b.points]
    if not keys:
        raise DataError(nothing_shared(pair, keys))
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


def nothing_shared(pair: ComparedArms, keys: Sequence[SetKey]) -> str:
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


def left_out(pair: ComparedArms, keys: Sequence[SetKey]) -> list[dict[str, str]]:
    """Sets that only one side has."""
    return [
        {"side": name, "benchmark": benchmark, "protocol": protocol}
        for name, side in (("a", pair.a), ("b", pair.b))
        for benchmark, protocol in side.points
        if (benchmark, protocol) not in keys
    ]
