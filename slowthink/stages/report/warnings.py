"""What a reader must know before believing a run's figures: the only place that decides it.

    [{"stage": "evaluate", "text": "base on heldout: 35.0% of the answers at ≤ 64 tokens …"}]

The terminal, the page and `--json` print these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from slowthink.analysis.scores import PointKey, point_key
from slowthink.stages.report.sets import set_title
from slowthink.stages.report.tables import Json
from slowthink.stages.report.text import budget_label, count, percent

MAX_NO_ANSWER = 0.20
"""Largest share of samples without an answer that needs no warning."""
MAX_CUT_OFF = 0.25
"""Largest share of difficulty's attempts that may end at the cap of thinking tokens."""
MAX_DOMAIN = 0.5
"""Largest share of the training problems that one domain may have."""


def run_warnings(
    facts: Mapping[str, Json], settings: Json, eval_sets: Sequence[Json], domains: Mapping[str, int]
) -> list[dict[str, str]]:
    """Warnings in the order of the stages: those in the stages' facts, then those that the figures
    give. `domains`: number of training problems by domain."""
    arms = {arm["name"]: arm for arm in (settings.get("evaluate") or {}).get("arms") or ()}
    filter_facts, evaluate_facts = facts.get("filter", {}), facts.get("evaluate", {})
    warnings_by_stage = {
        stage: [str(text) for text in facts[stage].get("warnings") or ()] for stage in facts
    }
    warnings_by_stage.setdefault("filter", []).extend(
        [*_cut_off(filter_facts.get("attempts") or ()), *_large_domain(domains)]
    )
    warnings_by_stage.setdefault("evaluate", []).extend(
        [
            *_without_answer(eval_sets, arms),
            *_labels(evaluate_facts.get("arms") or {}),
            *_no_shared_budget(eval_sets),
        ]
    )
    return [
        {"stage": stage, "text": text}
        for stage, texts in warnings_by_stage.items()
        for text in texts
    ]


def _cut_off(attempts: Sequence[Json]) -> Iterator[str]:
    for row in attempts:
        num, num_attempts = row.get("num_cut_off") or 0, row.get("num_attempts") or 0
        if num > MAX_CUT_OFF * num_attempts:
            yield (
                f"{row['step']}: {row['model']}: {num:,} of {num_attempts:,} attempts were cut off "
                "at the cap of thinking tokens, so that the cap was measured, not the problems; "
                "expected few. Raise filter.difficulty.max_thinking_tokens to the length of a "
                "solution, or set it to `solutions`"
            )


def _large_domain(domains: Mapping[str, int]) -> Iterator[str]:
    total = sum(domains.values())
    for name, num in domains.items():
        if name != "unknown" and num > MAX_DOMAIN * total:
            yield (
                f"the domain {name} has {num:,} of {total:,} training problems "
                f"({percent(num / total)}), so that domains hardly tell problems apart; expected "
                "under half. Use a finer taxonomy or other methods in filter.domains"
            )


def _without_answer(eval_sets: Sequence[Json], arms: Mapping[str, Json]) -> Iterator[str]:
    """One line per arm and set: its budget with the most samples without an answer."""
    for eval_set in eval_sets:
        for arm in eval_set["arms"]:
            point: Json = max(arm["points"], key=_no_answer_rate, default={})
            if _no_answer_rate(point) > MAX_NO_ANSWER:
                setting = arms.get(arm["name"], {})
                remedy = "Raise forcing.answer_tokens, or check the prompt and the format"
                if not setting.get("last_number"):
                    remedy += ", or set last_number: true in the arm if answers are not marked"
                yield (
                    f"{arm['name']} on {set_title(eval_set)}: {percent(_no_answer_rate(point))} of "
                    f"the samples at {budget_label(point)} give no answer and count as wrong; "
                    f"expected few. {remedy}"
                )


def _no_answer_rate(point: Json) -> float:
    """Share of samples without an answer: none found, or cut off before its end."""
    return sum(float(point.get(key) or 0.0) for key in ("no_answer_rate", "truncated_rate"))


def _labels(arms: Mapping[str, Json]) -> Iterator[str]:
    for name, facts in arms.items():
        labels = facts.get("labels") or {}
        if num := labels.get("num_disagree"):
            yield (
                f"{name}: the file's own labels and our grades differ on {count(num)} of "
                f"{count(labels['num_labelled'])} samples; expected none. The figures use our "
                "grades: compare both with slowthink grade"
            )


def _no_shared_budget(eval_sets: Sequence[Json]) -> Iterator[str]:
    for eval_set in eval_sets:
        points = {arm["name"]: set(map(point_key, arm["points"])) for arm in eval_set["arms"]}
        for pair in eval_set["comparisons"]:
            a, b = points.get(pair["a"], set()), points.get(pair["b"], set())
            if _caps(a) and _caps(b) and not any(_caps(a) & _caps(b)):
                yield (
                    f"{pair['a']} and {pair['b']} on {set_title(eval_set)} share no cap above 0 "
                    f"({_listed(a)}; {_listed(b)}), so that a difference may come from the budget; "
                    "expected a common cap. Add one to `caps` of both arms"
                )


def _caps(points: set[PointKey]) -> set[int]:
    return {key.max_thinking_tokens for key in points if key.forced}


def _listed(points: set[PointKey]) -> str:
    return ", ".join(f"{cap:,}" for cap in sorted(_caps(points)))
