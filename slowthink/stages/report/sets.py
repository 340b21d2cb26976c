"""The evaluated sets: a set is one benchmark under one protocol, with all its arms.

    {"benchmark": "math500", "protocol": "limo-v2", "protocol_text": "limo-v2: greedy, 1 sample",
     "num_problems": 100, "arms": [...], "comparisons": [...], "measures": [...]}

Only this module knows the formats of older runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from slowthink.analysis.published import load_published
from slowthink.analysis.scores import largest_budget_figures, point_key
from slowthink.records import Split, group_by
from slowthink.stages.report.tables import Json

SetKey = tuple[str, str]
"""Benchmark and protocol."""
HELD_OUT_BENCHMARK = Split.HELDOUT.value
_DEFAULTS: dict[str, Any] = {
    "domain": None, "num_problems": None, "source": None, "arms": [], "comparisons": [],
    "measures": [], "elicitation": None,
}  # fmt: skip


def evaluated_sets(summary: Json) -> list[dict[str, Any]]:
    """The sets of an evaluate stage's summary, each with all keys.

    An older run's summary has only `arms`: they become one set of held-out problems per protocol.
    """
    if "sets" in summary:
        eval_sets = list(summary["sets"])
    else:
        arms = summary.get("arms") or []
        by_protocol = group_by(arms, lambda arm: str(arm.get("protocol") or "unknown"))
        eval_sets = [_held_out_set(text, arms) for text, arms in by_protocol.items()]
    return [_DEFAULTS | {"protocol_text": row["protocol"]} | row for row in eval_sets]


def _held_out_set(protocol_text: str, arms: Sequence[Json]) -> dict[str, Any]:
    return {
        "benchmark": HELD_OUT_BENCHMARK,
        "protocol": "greedy" if protocol_text == "greedy, 1 sample" else protocol_text,
        "protocol_text": protocol_text,
        "num_problems": max(arm.get("num_problems") or 0 for arm in arms) or None,
        "arms": arms,
    }


def parallel_scaling(summary: Json) -> list[dict[str, Any]]:
    """Parallel scaling, one element per set; empty if it was not measured."""
    parallel = summary.get("parallel") or []
    return [dict(parallel)] if isinstance(parallel, Mapping) else list(parallel)


def set_key(eval_set: Json) -> SetKey:
    """Benchmark and protocol of a set."""
    return str(eval_set["benchmark"]), str(eval_set["protocol"])


def set_title(eval_set: Json) -> str:
    """The set's name on the page."""
    benchmark = str(eval_set["benchmark"])
    return "held-out problems" if benchmark == HELD_OUT_BENCHMARK else benchmark


def describe_set(eval_set: Json) -> str:
    """Size, domain relative to the training data, and source of a set.

    >>> describe_set({"num_problems": 30, "domain": "in", "source": {"hub_id": "a/b"}})
    '30 problems, in domain, from a/b'
    """
    source = eval_set["source"] or {}
    parts = [f"{eval_set['num_problems']:,} problems"] if eval_set["num_problems"] else []
    if domain := eval_set["domain"]:
        parts.append("out of domain" if domain == "out" else f"{domain} domain")
    if origin := source.get("path") or source.get("hub_id"):
        revision = source.get("revision")
        parts.append(f"from {origin}" + (f" at {revision}" if revision else ""))
    return ", ".join(parts)


def published_for(benchmark: str) -> list[dict[str, Any]]:
    """The papers' figures on a benchmark, as plain data without empty fields."""
    figures = map(asdict, load_published(benchmark))
    return [
        {key: value for key, value in figure.items() if value or type(value) in (int, float)}
        for figure in figures
    ]


def compared_points(eval_set: Json, headline: Json) -> dict[str, dict[str, Any]]:
    """One point per arm: that of the headline's comparison, else of the set's own comparisons, else
    the largest cap without waits. `headline` is empty for all sets but the first."""
    candidates = [headline.get(key) or {} for key in ("base_point", "tuned_point")]
    for pair in eval_set["comparisons"]:
        candidates += [{"arm": pair[key], **pair[f"{key}_point"]} for key in ("a", "b")]
    compared = {}
    for arm in eval_set["arms"]:
        points = [p for wanted in candidates for p in arm["points"] if _matches(arm, p, wanted)]
        if arm["points"]:
            compared[arm["name"]] = points[0] if points else largest_budget_figures(arm["points"])
    return compared


def _matches(arm: Json, point: Json, wanted: Json) -> bool:
    if not wanted or wanted.get("arm", arm["name"]) != arm["name"]:
        return False
    return all(point.get(key) == value for key, value in wanted.items() if key != "arm")


def headline_arm_names(eval_set: Json, headline: Json) -> dict[str, str | None]:
    """Names of the two arms that the headline compares."""
    return {
        role: next(
            (arm["name"] for arm in eval_set["arms"] if headline[f"{role}_point"] in arm["points"]),
            None,
        )
        for role in ("base", "tuned")
    }


def headline_comparison(eval_set: Json, headline: Json) -> dict[str, Any] | None:
    """The set's comparison of the headline's two points; None if the set has none."""
    names = headline_arm_names(eval_set, headline)
    for pair in eval_set["comparisons"]:
        if all(
            pair[key] == names[role]
            and point_key(pair[f"{key}_point"]) == point_key(headline[f"{role}_point"])
            for key, role in (("a", "base"), ("b", "tuned"))
        ):
            return dict(pair)
    return None
