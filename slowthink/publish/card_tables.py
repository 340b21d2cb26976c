"""Rows of the cards' tables, and short texts; each function is one that the templates call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from slowthink.data.registry import find_benchmark
from slowthink.publish.facts import Facts
from slowthink.records import Split, group_by
from slowthink.stages.report.problem_columns import CURATION_STAGES
from slowthink.stages.report.text import budget_label, count, interval, percent

Json = Mapping[str, Any]
Cells = Iterator[tuple[Any, ...]]
SANDBOX = "sandbox"


def origins(facts: Facts) -> Cells:
    """Sources of the training set: name, dataset, revision, licence, chains."""
    for source in facts.sources:
        origin = "made by slowthink" if source.origin == SANDBOX else source.origin
        yield source.name, origin, source.revision, source.licence, count(source.num_rows)


def authors(facts: Facts) -> Cells:
    """Authors of the chains: name, model, revision, chains, thinking tokens; tokens and cost of all
    requests."""
    for row in facts.teachers:
        tokens, cost = row.run.get("tokens"), row.run.get("cost")
        yield (
            row.name, row.model, row.revision, count(row.num_chains),
            count(row.num_thinking_tokens), count(tokens),
            None if cost is None else f"{cost:.2f}",
        )  # fmt: skip


def _is_idle(step: Json) -> bool:
    """Whether a step of a funnel dropped nothing, and is not the first of its stage."""
    return bool(step["num_in"] == step["num_out"]) and step["step"] != "read"


def idle_steps(head: Json) -> str:
    """Names of the steps before training that dropped nothing."""
    idle = group_by(filter(_is_idle, _curation_steps(head)), lambda step: step["stage"])
    return "; ".join(
        f"{stage}: {', '.join(step['step'].split(': ')[-1] for step in steps)}"
        for stage, steps in idle.items()
    )


def _curation_steps(head: Json) -> list[Json]:
    return [step for step in head["funnel"] if step["stage"] in CURATION_STAGES]


def funnel_rows(head: Json) -> Cells:
    """Steps before training that dropped rows: rows before and after, and reasons."""
    for step in _curation_steps(head):
        if not _is_idle(step):
            reasons = "; ".join(f"{why}: {count(num)}" for why, num in step["reasons"].items())
            yield (
                step["stage"],
                step["step"],
                count(step["num_in"]),
                count(step["num_out"]),
                reasons,
            )


def certificate_rows(curation: Json) -> Cells:
    """Checks against test sets: rows checked, preset, set, its problems, hits by kind."""
    for certificate in curation["contamination"]:
        for benchmark in certificate["against"]:
            hits = ", ".join(f"{kind} {num}" for kind, num in (benchmark["num_hits"] or {}).items())
            yield (
                certificate["what"], count(certificate["num_checked"]), certificate["preset"],
                benchmark["name"], count(benchmark["num_problems"]), hits or "none",
            )  # fmt: skip


def verdict_rows(facts: Facts) -> Cells:
    """Verdicts on the chains' responses, and their numbers."""
    verdicts = Counter(trace.grade.verdict.value for trace in facts.traces)
    yield from ((verdict, count(num)) for verdict, num in verdicts.most_common())


def score_rows(facts: Facts) -> Cells:
    """Scores: name, version, settings, which is better, and quantiles over the training set."""
    for score in facts.scores:
        shown = (f"{score[name]:.3g}" for name in ("min", "p50", "max"))
        settings = _settings_text(score.get("settings") or {})
        yield score["name"], score.get("version"), settings, score.get("better"), *shown


def _settings_text(settings: Json) -> str:
    """Settings on one line: `weights (length 0.3, verification 0.2), scale rank`."""
    return ", ".join(
        f"{name} ({_settings_text(value)})" if isinstance(value, dict) else f"{name} {value}"
        for name, value in settings.items()
        if name != "kind" and value is not None
    )


def setting_rows(settings: Json) -> Cells:
    """Settings, without those that are off."""
    yield from ((name, value) for name, value in settings.items() if value is not None)


def point_rows(eval_set: Json) -> Cells:
    """Points of all arms: arm, format, budget, accuracy, interval, n, mean thinking tokens."""
    for arm in eval_set["arms"]:
        for point in arm["points"]:
            yield (
                arm["name"], arm.get("format"), budget_label(point), percent(point["accuracy"]),
                interval(point.get("ci95")), count(point["n"]),
                count(point.get("mean_thinking_tokens")),
            )  # fmt: skip


def set_title(eval_set: Json) -> str:
    """The evaluated set's name for readers."""
    if eval_set["benchmark"] == Split.HELDOUT.value:
        return "Held-out problems of the run's own sources"
    listed = find_benchmark(eval_set["benchmark"])
    return listed.title if listed else f"{eval_set['benchmark']} (a set of one's own)"


def budgets(points: list[Json]) -> str:
    """The budgets that were measured on the published model."""
    caps = sorted({int(point["max_thinking_tokens"]) for point in points})
    waits = sorted({int(point.get("waits") or 0) for point in points})
    if not points:
        return "none"
    return (
        f"at most {', '.join(map(count, caps))} thinking tokens; "
        f"{', '.join(map(str, waits))} waits (ends of thinking that are refused)"
    )


def generate_options(facts: Facts, budget: Json) -> str:
    """Options of `slowthink generate` for the model's format and its largest measured cap."""
    name = facts.thinking_format.name if facts.thinking_format else "auto"
    return f" --format {name}" + (f" --cap {budget['cap']}" if budget else "")
