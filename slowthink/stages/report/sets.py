"""What was measured, set by set: a set is one benchmark under one protocol, with all its arms.

    {"benchmark": "math500", "protocol": "limo-v2", "protocol_text": "limo-v2: greedy, 1 sample",
     "num_problems": 100, "arms": [...], "comparisons": [...], "measures": [...]}

The only place that knows how older runs wrote this down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from slowthink.analysis.published import AVERAGE, load_published
from slowthink.analysis.scores import POINT_KEYS

SetKey = tuple[str, str]
"""Benchmark and protocol."""
HELD_OUT = "heldout"
_EMPTY: dict[str, Any] = {
    "domain": None, "num_problems": None, "source": None, "arms": [], "comparisons": [],
    "measures": [], "elicitation": None,
}  # fmt: skip


def sets_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sets of an evaluate stage's summary, with every key there is; a summary that only has
    `arms` becomes a set of held-out problems for each protocol."""
    return [_EMPTY | {"protocol_text": one["protocol"]} | one for one in _written(summary)]


def _written(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "sets" in summary:
        return list(summary["sets"])
    by_protocol: dict[str, list[dict[str, Any]]] = {}
    for arm in summary.get("arms") or []:
        by_protocol.setdefault(str(arm.get("protocol") or "unknown"), []).append(arm)
    return [
        {
            "benchmark": HELD_OUT,
            "protocol": "greedy" if text == "greedy, 1 sample" else text,
            "protocol_text": text,
            "num_problems": max(arm.get("num_problems") or 0 for arm in arms) or None,
            "arms": arms,
        }
        for text, arms in by_protocol.items()
    ]


def parallel_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parallel scaling, set by set; none where it was not measured."""
    found = summary.get("parallel") or []
    return [dict(found)] if isinstance(found, Mapping) else list(found)


def set_key(one: Mapping[str, Any]) -> SetKey:
    """What a set is known by."""
    return str(one["benchmark"]), str(one["protocol"])


def set_title(one: Mapping[str, Any]) -> str:
    """A set's name as the page shows it."""
    return "held-out problems" if one["benchmark"] == HELD_OUT else str(one["benchmark"])


def describe_set(one: Mapping[str, Any]) -> str:
    """How many problems a set has, whether they are of the training data's domain, and from where.

    >>> about({"num_problems": 30, "domain": "in", "source": {"hub_id": "a/b", "revision": None}})
    '30 problems, in domain, from a/b'
    """
    source = one["source"] or {}
    parts = [f"{one['num_problems']:,} problems"] if one["num_problems"] else []
    parts += [f"{one['domain']} {'of domain' if one['domain'] == 'out' else 'domain'}"] * bool(
        one["domain"]
    )
    origin = source.get("path") or source.get("hub_id")
    revision = source.get("revision")
    parts += [f"from {origin}" + (f" at {revision}" if revision else "")] * bool(origin)
    return ", ".join(parts)


def published_for(benchmark: str) -> list[dict[str, Any]]:
    """The papers' figures on a benchmark, as plain data without empty fields."""
    return [
        {
            key: value
            for key, value in asdict(figure).items()
            if value or (value == 0 and value is not False)
        }
        for figure in load_published(benchmark)
    ]


def published_averages() -> list[dict[str, Any]]:
    """The papers' averages over LIMO's ten sets."""
    return published_for(AVERAGE)


# --- which points stand for their arm -------------------------------------------------------------


def compared_points(
    one: Mapping[str, Any], headline: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """By arm, its point in the headline's comparison, else in the set's own, else its largest cap
    without waits. `headline` is empty for all sets but the first."""
    named = [headline.get(key) or {} for key in ("base_point", "tuned_point")]
    for pair in one["comparisons"]:
        named += [{"arm": pair[side], **pair[f"{side}_point"]} for side in ("a", "b")]
    found = {}
    for arm in one["arms"]:
        same = [point for place in named for point in arm["points"] if _is_point(arm, point, place)]
        if arm["points"]:
            found[arm["name"]] = same[0] if same else largest_cap_point(arm["points"])
    return found


def largest_cap_point(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The point of the largest cap, forced, without waits, as far as there is one."""
    return max(
        points,
        key=lambda point: (
            not point.get("waits"),
            point["max_thinking_tokens"],
            point.get("forced", True),
        ),
    )


def _is_point(arm: Mapping[str, Any], point: Mapping[str, Any], named: Mapping[str, Any]) -> bool:
    if not named or named.get("arm", arm["name"]) != arm["name"]:
        return False
    return all(point.get(key) == value for key, value in named.items() if key != "arm")


def headline_arm_names(
    compared: Mapping[str, Mapping[str, Any]], headline: Mapping[str, Any]
) -> dict[str, str | None]:
    """Names of the two arms that the headline compares."""
    names = {}
    for role in ("base", "tuned"):
        point = headline[f"{role}_point"]
        names[role] = next((name for name, one in compared.items() if one == point), None)
    return names


def headline_comparison(
    one: Mapping[str, Any], headline: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The set's comparison of the very points that the headline compares, where it has that."""
    ends = [_place(headline[f"{role}_point"] or {}) for role in ("base", "tuned")]
    names = headline_arm_names(compared_points(one, headline), headline)
    for pair in one["comparisons"]:
        if [_place(pair["a_point"]), _place(pair["b_point"])] == ends and [
            pair["a"], pair["b"]
        ] == [names["base"], names["tuned"]]:  # fmt: skip
            return dict(pair)
    return None


def _place(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point.get(key) for key in POINT_KEYS)


# --- arms -----------------------------------------------------------------------------------------


def headline_arm(sets: Sequence[Mapping[str, Any]]) -> str:
    """The arm that a run is about: the tuned model's, else the last."""
    return _arm(sets, "tuned", -1)


def baseline_arm(sets: Sequence[Mapping[str, Any]]) -> str:
    """The arm that the headline is measured against: the base model's, else the first."""
    return _arm(sets, "base", 0)


def _arm(sets: Sequence[Mapping[str, Any]], model: str, otherwise: int) -> str:
    arms = sets[0]["arms"]
    found = [arm for arm in arms if arm.get("model") == model]
    return str((found or [arms[otherwise]])[0]["name"])
