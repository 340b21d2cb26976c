"""select: choose the training set among the correct chains, and record why or why not for each.

A line of rationale.jsonl in the stage's folder, sorted by id:

    {"id": "p-0c1e…", "chosen": true, "place": 12, "phase": "draw", "why": "draw 12: Geometry, …"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from slowthink.errors import DataError
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    count_values,
    funnel_step,
    quantiles,
)
from slowthink.pipeline.plan import planned_traces
from slowthink.recipe import Recipe, SelectConfig
from slowthink.records import Dropped, Split, Trace, Verdict
from slowthink.serialise import write_atomic
from slowthink.stages.select.choose import make_selection, unmet_quotas
from slowthink.stages.select.paper_counts import compare_to_paper
from slowthink.stages.select.selection import Candidate, Rejection, Selection

STAGE_VERSION = 2
RATIONALE_FILE = "rationale.jsonl"


def run(context: StageContext) -> StageResult:
    """Choose among the training traces, independent of their order. Raises DataError if none."""
    loaded = context.load(Trace, "trace")
    traces, unusable = usable_traces(loaded)
    if not traces:
        raise DataError(
            f"select: none of {len(loaded)} traces is for training; expected at least one. "
            "See what the earlier stages dropped."
        )
    candidates = [to_candidate(trace) for trace in traces]
    selection = make_selection(candidates, context.config, seed=context.recipe.seed)
    warnings = _warnings(candidates, selection)
    for warning in warnings:
        context.notify(f"select: {warning}")
    chosen, not_chosen = split_chosen(traces, selection)
    context.notify(f"select: {len(chosen)} of {len(traces)} traces")
    write_atomic(context.folder / RATIONALE_FILE, _rationale_lines(selection, not_chosen))
    dropped = [*unusable, *not_chosen]
    read = funnel_step("read", len(loaded), dropped)
    return StageResult(
        records=chosen, record_type=Trace, dropped=dropped,
        steps=[read, funnel_step("choose", read.num_out, dropped)],
        facts=_selection_facts(traces, chosen, candidates, selection) | {"warnings": warnings},
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Maximum size of the training set."""
    config = recipe.select
    requested = config.num_problems if config and config.method != "full" else None
    sizes = [size for size in (requested, planned_traces(recipe)) if size]
    return {"num_problems": min(sizes, default=0), "estimated_tokens": 0}


def usable_traces(traces: Sequence[Trace]) -> tuple[list[Trace], list[Dropped]]:
    """One training trace per problem, sorted by id; and the other traces, as dropped."""
    kept: dict[str, Trace] = {}
    dropped = []
    for trace in sorted(traces, key=lambda t: (t.problem.id, t.thinking, t.response)):
        id = trace.problem.id
        if trace.problem.split is Split.HELDOUT:
            dropped.append(Dropped(id=id, step="read", reason="held out for evaluation"))
        elif kept.setdefault(id, trace) is not trace:
            dropped.append(Dropped(id=id, step="read", reason="another chain of the problem"))
    return list(kept.values()), dropped


def choose(
    traces: Sequence[Trace], config: SelectConfig, *, seed: int
) -> tuple[list[Trace], list[Dropped]]:
    """The chosen traces and the others, both sorted by id. `traces` must have one per problem."""
    candidates = [to_candidate(trace) for trace in traces]
    return split_chosen(traces, make_selection(candidates, config, seed=seed))


def to_candidate(trace: Trace) -> Candidate:
    """The candidate for a trace; of its scores only the numeric ones are kept."""
    scores = {
        name: float(value)
        for name, value in json.loads(trace.scores).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    problem = trace.problem
    return Candidate(
        id=problem.id,
        domain=problem.domain or "unknown",
        num_thinking_tokens=trace.num_thinking_tokens,
        source=problem.source,
        correct=trace.grade.verdict is Verdict.CORRECT,
        num_tokens=trace.num_thinking_tokens + trace.num_response_tokens,
        level=trace.level,
        scores=scores,
        text="\n".join([problem.question, *problem.choices]),
    )


def split_chosen(
    traces: Sequence[Trace], selection: Selection
) -> tuple[list[Trace], list[Dropped]]:
    """The chosen traces; and the others, as dropped with a reason. Both sorted by id."""
    ordered = sorted(traces, key=lambda trace: trace.problem.id)
    ranks, sizes = _ranks_by_length(ordered)
    chosen, dropped = [], []
    for trace in ordered:
        id, domain = trace.problem.id, trace.problem.domain
        if id in selection.chosen:
            chosen.append(trace)
            continue
        rejection = selection.rejected.get(id, Rejection("not chosen"))
        evidence = f"{rejection.evidence}; " if rejection.evidence else ""
        evidence += f"domain {domain}, {trace.num_thinking_tokens} thinking tokens, "
        evidence += f"rank {ranks[id]} of {sizes[domain]} there by length"
        dropped.append(Dropped(id=id, step="choose", reason=rejection.reason, evidence=evidence))
    return chosen, dropped


def _ranks_by_length(traces: Sequence[Trace]) -> tuple[dict[str, int], Counter[str | None]]:
    """Each problem's rank by length in its domain, 0 the longest; and the domains' sizes."""
    sizes: Counter[str | None] = Counter()
    ranks: dict[str, int] = {}
    for trace in sorted(traces, key=lambda trace: (-trace.num_thinking_tokens, trace.problem.id)):
        ranks[trace.problem.id] = sizes[trace.problem.domain]
        sizes[trace.problem.domain] += 1
    return ranks, sizes


def _rationale_lines(selection: Selection, dropped: Sequence[Dropped]) -> str:
    rows: dict[str, dict[str, Any]] = {
        id: {"id": id, "chosen": True, **asdict(chosen)} for id, chosen in selection.chosen.items()
    }
    for drop in dropped:
        why = f"{drop.reason}: {drop.evidence}"
        rows[drop.id] = {"id": drop.id, "chosen": False, "place": None, "phase": None, "why": why}
    return "".join(json.dumps(rows[id], ensure_ascii=False) + "\n" for id in sorted(rows))


def _warnings(candidates: Sequence[Candidate], selection: Selection) -> list[str]:
    """Warnings for the user where the selection is not as the settings suggest."""
    warnings = []
    config = selection.config
    num_requested, num_chosen = config.num_problems or 0, len(selection.chosen)
    if config.method != "full" and num_chosen < num_requested:
        obtained = (
            f"only {len(candidates)} are available" if len(candidates) < num_requested
            else f"{num_chosen} selected within the limits"
        )  # fmt: skip
        warnings.append(f"{num_requested} problems requested; {obtained}")
    if config.method == "s1" and all(c.domain == "unknown" for c in candidates):
        warnings.append("no problem has a domain, so s1's sampling prefers the longest chains")
    is_preselected = [choice.phase == "preselect" for choice in selection.chosen.values()]
    if config.preselect and not any(is_preselected):
        warnings.append("preselect matches no candidate; check the names of the sources")
    return warnings + unmet_quotas(selection, candidates)


def _selection_facts(
    traces: Sequence[Trace], chosen: Sequence[Trace], candidates: Sequence[Candidate],
    selection: Selection,
) -> dict[str, Any]:  # fmt: skip
    config = selection.config
    phases = count_values(choice.phase for choice in selection.chosen.values())
    # The LIMO papers give no count of preselected problems; s1's count is by its own rules.
    ours = {"preselected": phases.get("preselect", 0), "chosen": len(selection.chosen)}
    return {
        "method": config.method,
        "num_asked": config.num_problems,
        "domains_before": count_values(trace.problem.domain for trace in traces),
        "domains": count_values(trace.problem.domain for trace in chosen),
        "sources_before": count_values(trace.problem.source for trace in traces),
        "sources": count_values(trace.problem.source for trace in chosen),
        "thinking_tokens_before": quantiles([trace.num_thinking_tokens for trace in traces]),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in chosen]),
        "num_thinking_tokens": sum(trace.num_thinking_tokens for trace in chosen),
        "num_response_tokens": sum(trace.num_response_tokens for trace in chosen),
        "mode": config.mode if config.method == "s1" else None,
        "phases": phases,
        "num_wasted_draws": selection.num_wasted,
        "paper": compare_to_paper(config.method, candidates, ours),
    }
