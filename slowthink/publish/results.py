"""A run's accuracy on published benchmarks in the hub's two forms; never on a set of one's own.

`model_index` is for the card's front matter; `eval_results` is a file for each benchmark that has a
leaderboard on the hub (https://huggingface.co/docs/hub/eval-results):

    - dataset: {id: openai/gsm8k, task_id: gsm8k, revision: e53f…}
      value: 46.0
      date: '2026-11-28'
      notes: 'zero-shot, ≤ 4,096 tokens of thinking (budget forcing); greedy, 1 sample; 95 % …'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slowthink.analysis.scores import largest_budget_figures
from slowthink.data.registry import PublishedDataset, find_benchmark
from slowthink.publish.facts import Facts
from slowthink.stages.report.text import budget_label, interval

Json = Mapping[str, Any]


def tuned_arm(eval_set: Json) -> Json | None:
    """The first arm of the model that was trained; None if the set has none."""
    arms: list[Json] = eval_set["arms"]
    return next((arm for arm in arms if "tuned" in (arm.get("model"), arm["name"])), None)


def model_index(facts: Facts, name: str) -> list[dict[str, Any]]:
    """The card's `model-index`: every budget that was measured; [] without a benchmark."""
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": _dataset(eval_set, benchmark),
            "metrics": [
                _metric(eval_set, point)
                for point in arm["points"]
                if point.get("accuracy") is not None
            ],
        }
        for eval_set, benchmark, arm in _published_sets(facts)
    ]  # fmt: skip
    return [{"name": name, "results": results}] if results else []


def eval_results(facts: Facts) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Files by their path in the repository, and why a benchmark has none.

    The value is that of the largest budget without waits, which is fixed before anything is
    measured. A part of a benchmark is no result of it.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    notes = []
    version = facts.versions.get("slowthink", "")
    date = str(facts.run.manifests["evaluate"]["finished"])[:10] if facts.head["sets"] else ""
    for eval_set, benchmark, arm in _published_sets(facts):
        if benchmark.task_id is None:
            continue
        point = largest_budget_figures(arm["points"])
        if point["n"] < benchmark.num_problems or point.get("accuracy") is None:
            notes.append(
                f"{benchmark.title}: {point['n']} of {benchmark.num_problems} problems were "
                "measured, so that no .eval_results file is written."
            )
            continue
        revision = (eval_set.get("source") or {}).get("revision")
        dataset = {"id": benchmark.hub_id, "task_id": benchmark.task_id}
        entry = {
            "dataset": dataset | ({"revision": revision} if revision else {}),
            "value": _percent(point),
            "date": date,
            "notes": f"zero-shot, {_settings(eval_set, point)}; slowthink {version}",
        }
        files.setdefault(f".eval_results/{benchmark.name}.yaml", []).append(entry)
    return files, notes


def _published_sets(facts: Facts) -> Iterator[tuple[Json, PublishedDataset, Json]]:
    """The sets that were read from a benchmark's own repository on the hub, and the model's arm on
    them; a file of that name may have other problems."""
    for eval_set in facts.head["sets"]:
        benchmark = find_benchmark(eval_set["benchmark"])
        hub_id = (eval_set.get("source") or {}).get("hub_id")
        arm = tuned_arm(eval_set)
        if arm and benchmark is not None and hub_id and hub_id == benchmark.hub_id:
            yield eval_set, benchmark, arm


def _dataset(eval_set: Json, benchmark: PublishedDataset) -> dict[str, Any]:
    part = benchmark.parts[0]
    source = eval_set.get("source") or {}
    facts = {
        "name": benchmark.title, "type": benchmark.hub_id, "config": part.config,
        "split": part.split, "revision": source.get("revision"),
    }  # fmt: skip
    return {key: value for key, value in facts.items() if value is not None}


def _percent(point: Json) -> float:
    return round(100 * float(point["accuracy"]), 2)


def _metric(eval_set: Json, point: Json) -> dict[str, Any]:
    name = f"accuracy, {_settings(eval_set, point)}"
    return {"type": "accuracy", "value": _percent(point), "name": name}


def _settings(eval_set: Json, point: Json) -> str:
    """Budget, protocol and interval of a figure."""
    return (
        f"{budget_label(point)} of thinking (budget forcing); {eval_set['protocol_text']}; "
        f"95 % interval {interval(point.get('ci95'))}, n = {point['n']}"
    )
