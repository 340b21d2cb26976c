"""select: choose the training set among the right chains, and say of each why or why not.

A line of rationale.jsonl in the stage's folder, in order of id:

    {"id": "p-0c1e…", "chosen": true, "place": 12, "phase": "draw", "why": "draw 12: Geometry, …"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from slowthink.errors import DataError
from slowthink.pipeline.contract import StageContext, StageResult, counts, funnel_step, quantiles
from slowthink.pipeline.plan import planned_traces
from slowthink.pipeline.run_folder import write_atomic
from slowthink.recipe import Recipe, SelectConfig
from slowthink.records import Dropped, Split, Trace, Verdict
from slowthink.stages.select.choose import Candidate
from slowthink.stages.select.papers import beside
from slowthink.stages.select.selection import Left, Selection, make_selection, unmet

STAGE_VERSION = 2
RATIONALE_FILE = "rationale.jsonl"


def run(context: StageContext) -> StageResult:
    """The chosen traces, the same ones whatever the order of the input."""
    config: SelectConfig = context.config
    loaded = context.load(Trace, "trace")
    traces, unfit = usable(loaded)
    if not traces:
        raise DataError(
            f"select: none of {len(loaded)} traces is for training; expected at least one. "
            "See the drops of the stages before."
        )
    candidates = [candidate_of(trace) for trace in traces]
    selection = make_selection(candidates, config, seed=context.recipe.seed)
    for warning in (warnings := _warnings(candidates, selection, config)):
        context.notify(f"select: {warning}")
    chosen, left = split(traces, selection)
    context.notify(f"select: {len(chosen)} of {len(traces)} traces")
    write_atomic(context.folder / RATIONALE_FILE, _rationale(selection, left))
    dropped = [*unfit, *left]
    first = funnel_step("read", len(loaded), dropped)
    return StageResult(
        records=chosen, record_type=Trace, dropped=dropped,
        steps=[first, funnel_step("choose", first.num_out, dropped)],
        facts=_facts(traces, chosen, config)
        | _selection_facts(candidates, selection, config) | {"warnings": warnings},
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Size of the training set at most."""
    config = recipe.select
    available = planned_traces(recipe)
    asked = config.num_problems if config and config.method != "full" else None
    sizes = [size for size in (asked, available) if size]
    return {"num_problems": min(sizes, default=0), "estimated_tokens": 0}


def usable(traces: Sequence[Trace]) -> tuple[list[Trace], list[Dropped]]:
    """One training trace a problem, in order of id; and the others, with why."""
    kept: dict[str, Trace] = {}
    dropped = []
    for trace in sorted(traces, key=lambda one: (one.problem.id, one.thinking, one.response)):
        id = trace.problem.id
        if trace.problem.split is Split.HELDOUT:
            dropped.append(Dropped(id=id, step="read", reason="held out for evaluation"))
        elif kept.setdefault(id, trace) is not trace:
            dropped.append(Dropped(id=id, step="read", reason="another chain of the problem"))
    return list(kept.values()), dropped


def choose(
    traces: Sequence[Trace], config: SelectConfig, *, seed: int
) -> tuple[list[Trace], list[Dropped]]:
    """The chosen traces and the others, both in order of id; `traces` has one a problem."""
    candidates = [candidate_of(trace) for trace in traces]
    return split(traces, make_selection(candidates, config, seed=seed))


def candidate_of(trace: Trace) -> Candidate:
    """What a choice looks at of a trace."""
    scores = json.loads(trace.scores)
    numbers = {
        name: float(value)
        for name, value in scores.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    problem = trace.problem
    return Candidate(
        id=problem.id, domain=problem.domain or "unknown", length=trace.num_thinking_tokens,
        source=problem.source, correct=trace.grade.verdict is Verdict.CORRECT,
        num_tokens=trace.num_thinking_tokens + trace.num_response_tokens, level=trace.level,
        scores=numbers, text="\n".join([problem.question, *problem.choices]),
    )  # fmt: skip


def split(traces: Sequence[Trace], selection: Selection) -> tuple[list[Trace], list[Dropped]]:
    """The chosen traces and the others with why, both in order of id."""
    ordered = sorted(traces, key=lambda trace: trace.problem.id)
    ranks, sizes = _ranks(ordered)
    left = []
    for trace in ordered:
        id = trace.problem.id
        if id not in selection.chosen:
            why = selection.left.get(id, Left("not chosen"))
            rank = f"rank {ranks[id]} of {sizes[trace.problem.domain]} there by length"
            evidence = "; ".join(filter(None, [why.evidence, f"{_evidence(trace)}, {rank}"]))
            left.append(Dropped(id=id, step="choose", reason=why.reason, evidence=evidence))
    return [trace for trace in ordered if trace.problem.id in selection.chosen], left


def _ranks(traces: Sequence[Trace]) -> tuple[dict[str, int], Counter[str | None]]:
    """Each problem's rank by length in its domain, 0 the longest; and the domains' sizes."""
    sizes: Counter[str | None] = Counter()
    ranks: dict[str, int] = {}
    for trace in sorted(traces, key=lambda one: (-one.num_thinking_tokens, one.problem.id)):
        ranks[trace.problem.id] = sizes[trace.problem.domain]
        sizes[trace.problem.domain] += 1
    return ranks, sizes


def _evidence(trace: Trace) -> str:
    return f"domain {trace.problem.domain}, {trace.num_thinking_tokens} thinking tokens"


def _rationale(selection: Selection, left: Sequence[Dropped]) -> str:
    rows: dict[str, dict[str, Any]] = {
        id: {"id": id, "chosen": True, "place": one.place, "phase": one.phase, "why": one.why}
        for id, one in selection.chosen.items()
    }
    for drop in left:
        why = f"{drop.reason}: {drop.evidence}"
        rows[drop.id] = {"id": drop.id, "chosen": False, "place": None, "phase": None, "why": why}
    return "".join(json.dumps(rows[id], ensure_ascii=False) + "\n" for id in sorted(rows))


def _warnings(
    candidates: Sequence[Candidate], selection: Selection, config: SelectConfig
) -> list[str]:
    """What the user may not expect of this selection."""
    warnings = []
    num_asked, num_chosen = config.num_problems or 0, len(selection.chosen)
    if config.method != "full" and len(candidates) < num_asked:
        warnings.append(f"{num_asked} problems were asked for; there are {len(candidates)}")
    elif config.method != "full" and num_chosen < num_asked:
        warnings.append(f"{num_asked} problems were asked for; {num_chosen} could be taken")
    if config.method == "s1" and all(one.domain == "unknown" for one in candidates):
        warnings.append("no problem has a domain; s1's sampling then takes the longest chains")
    phases = Counter(one.phase for one in selection.chosen.values())
    if config.preselect and not phases["preselect"]:
        warnings.append("preselect takes none of these; see the names of the sources")
    return warnings + unmet(selection, candidates, config.quotas)


def _facts(
    traces: Sequence[Trace], chosen: Sequence[Trace], config: SelectConfig
) -> dict[str, Any]:
    return {
        "method": config.method,
        "num_asked": config.num_problems,
        "domains_before": counts(trace.problem.domain for trace in traces),
        "domains": counts(trace.problem.domain for trace in chosen),
        "sources_before": counts(trace.problem.source for trace in traces),
        "sources": counts(trace.problem.source for trace in chosen),
        "thinking_tokens_before": quantiles([trace.num_thinking_tokens for trace in traces]),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in chosen]),
        "num_thinking_tokens": sum(trace.num_thinking_tokens for trace in chosen),
        "num_response_tokens": sum(trace.num_response_tokens for trace in chosen),
    }


def _selection_facts(
    candidates: Sequence[Candidate], selection: Selection, config: SelectConfig
) -> dict[str, Any]:
    phases = counts(one.phase for one in selection.chosen.values())
    # A LIMO paper gives no count of what was preselected, and s1's is of its own rules.
    ours = {"preselected": phases.get("preselect", 0), "chosen": len(selection.chosen)}
    name = config.method
    return {
        "mode": config.mode if name == "s1" else None,
        "phases": phases,
        "num_wasted_draws": selection.num_wasted,
        "paper": beside(name, candidates, ours),
    }
