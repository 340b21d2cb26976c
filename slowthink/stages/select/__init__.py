"""select: choose the training set among the chains, and record why or why not for each.

A line of rationale.jsonl in the stage's folder, sorted by id:

    {"id": "p-0c1e…", "chosen": true, "place": 12, "phase": "draw", "why": "draw 12: Geometry, …"}

A problem of several chains has a line for each, with `chain`, in its order of preference. Rows that
are dropped are named by their problem's id, or by the chain's where a problem has several.
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
from slowthink.pipeline.plan import planned_training_set
from slowthink.recipe import Recipe, SelectConfig, check_score_name
from slowthink.recipe.scores import ORDERS
from slowthink.records import Dropped, Split, Trace, Verdict, group_by, row_ids
from slowthink.serialise import write_atomic
from slowthink.stages.select.choose import make_selection, unmet_quotas
from slowthink.stages.select.paper_counts import compare_to_paper
from slowthink.stages.select.reviewed import (
    STEP as REVIEW_STEP,
    apply_review,
    read_review,
    review_facts,
)
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
    review = read_review(context.config.review, context.root)
    traces, rejected = apply_review(traces, review)
    candidates = [to_candidate(trace) for trace in traces]
    selection = make_selection(candidates, context.config, seed=context.recipe.seed)
    warnings = _warnings(candidates, selection)
    for warning in warnings:
        context.notify(f"WARNING: select: {warning}")
    chosen, not_chosen = split_chosen(traces, selection)
    context.notify(f"select: {_of_problems(chosen)}, of {_of_problems(traces)}")
    write_atomic(context.folder / RATIONALE_FILE, _rationale_lines(traces, selection, not_chosen))
    dropped = [*unusable, *rejected, *not_chosen]
    steps = [funnel_step("read", len(loaded), dropped)]
    if review:
        steps.append(funnel_step(REVIEW_STEP, steps[-1].num_out, dropped))
    facts = _selection_facts(traces, chosen, candidates, selection) | {"warnings": warnings}
    if review:
        facts["review"] = review_facts(traces, rejected, review)
    return StageResult(
        records=chosen, record_type=Trace, dropped=dropped,
        steps=[*steps, funnel_step("choose", steps[-1].num_out, dropped)], facts=facts,
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Maximum size of the training set; 0 if unknown. Raises ConfigError for a score that no chain
    of the recipe's stage trace would have."""
    _check_score_names(recipe)
    num_problems, num_chains = planned_training_set(recipe)
    return {"num_problems": num_problems, "num_chains": num_chains, "estimated_tokens": 0}


def _check_score_names(recipe: Recipe) -> None:
    config = recipe.select
    if config is None or recipe.trace is None:
        return
    names = {"select.score": config.score} if config.method == "limo-v2" else {}
    names |= {} if config.prefer.by in ORDERS else {"select.prefer.by": config.prefer.by}
    names |= {f"select.min_scores.{name}": name for name in config.min_scores}
    names |= {f"select.max_scores.{name}": name for name in config.max_scores}
    names |= {f"select.quotas.{i}.score": q.score for i, q in enumerate(config.quotas) if q.score}
    for setting, name in names.items():
        check_score_name(name, recipe.trace.scores, setting=setting)


def usable_traces(traces: Sequence[Trace]) -> tuple[list[Trace], list[Dropped]]:
    """The training traces, sorted by problem; and those held out or repeated, as dropped."""
    kept: dict[str, Trace] = {}
    dropped = []
    for trace in sorted(traces, key=lambda trace: trace.problem.id):
        id = trace.problem.id
        if trace.problem.split is Split.HELDOUT:
            dropped.append(Dropped(id=id, step="read", reason="held out for evaluation"))
        elif kept.setdefault(trace.key, trace) is not trace:
            dropped.append(Dropped(id=trace.key, step="read", reason="the same chain again"))
    return list(kept.values()), dropped


def choose(
    traces: Sequence[Trace], config: SelectConfig, *, seed: int
) -> tuple[list[Trace], list[Dropped]]:
    """The chosen traces and the others, both sorted by problem. `traces` must be distinct."""
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
        teacher=trace.teacher,
        chain_id=trace.key,
    )


def split_chosen(
    traces: Sequence[Trace], selection: Selection
) -> tuple[list[Trace], list[Dropped]]:
    """The chosen traces; and the others, as dropped with a reason. Both sorted by problem."""
    ordered = sorted(traces, key=lambda trace: trace.problem.id)
    ranks, sizes = _ranks_by_length(ordered)
    chosen, dropped = [], []
    for row_id, trace in zip(row_ids(ordered), ordered, strict=True):
        id, domain = trace.problem.id, trace.problem.domain
        if trace.key in selection.chosen_chains:
            chosen.append(trace)
            continue
        rejected = selection.rejected
        rejection = rejected.get(trace.key) or rejected.get(id) or Rejection("not chosen")
        evidence = f"{rejection.evidence}; " if rejection.evidence else ""
        evidence += f"a chain of {id}; " if row_id != id else ""
        evidence += f"domain {domain}, {trace.num_thinking_tokens} thinking tokens, "
        evidence += f"rank {ranks[trace.key]} of {sizes[domain]} there by length"
        reason = rejection.reason
        dropped.append(Dropped(id=row_id, step="choose", reason=reason, evidence=evidence))
    return chosen, dropped


def _ranks_by_length(traces: Sequence[Trace]) -> tuple[dict[str, int], Counter[str | None]]:
    """Each chain's rank by length in its domain, 0 the longest; and the domains' sizes."""
    sizes: Counter[str | None] = Counter()
    ranks: dict[str, int] = {}
    for trace in sorted(traces, key=lambda trace: (-trace.num_thinking_tokens, trace.problem.id)):
        ranks[trace.key] = sizes[trace.problem.domain]
        sizes[trace.problem.domain] += 1
    return ranks, sizes


def _rationale_lines(
    traces: Sequence[Trace], selection: Selection, dropped: Sequence[Dropped]
) -> str:
    whys = {drop.id: f"{drop.reason}: {drop.evidence}" for drop in dropped}
    places = {
        chain.key: place
        for chains in selection.chains.values()
        for place, chain in enumerate(chains)
    }
    rows = []
    for row_id, trace in zip(row_ids(traces), traces, strict=True):
        id = trace.problem.id
        row: dict[str, Any] = {"id": id} if row_id == id else {"id": id, "chain": trace.key}
        if trace.key in selection.chosen_chains:
            row |= {"chosen": True, **asdict(selection.chosen[id])}
        else:
            row |= {"chosen": False, "place": None, "phase": None, "why": whys[row_id]}
        rows.append((id, places.get(trace.key, len(places)), trace.key, row))
    rows.sort(key=lambda entry: entry[:3])
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for *_, row in rows)


def _of_problems(traces: Sequence[Trace]) -> str:
    """`320 chains of 300 problems`, or `320 traces` if each problem has one."""
    num_problems = len(_first_traces(traces))
    if num_problems == len(traces):
        return f"{len(traces)} traces"
    return f"{len(traces)} chains of {num_problems} problems"


def _first_traces(traces: Sequence[Trace]) -> list[Trace]:
    """One trace of each problem."""
    return [same[0] for same in group_by(traces, lambda trace: trace.problem.id).values()]


def _warnings(candidates: Sequence[Candidate], selection: Selection) -> list[str]:
    """Warnings for the user where the selection is not as the settings suggest."""
    warnings = []
    config = selection.config
    num_requested, num_chosen = config.num_problems or 0, len(selection.chosen)
    num_available = len({candidate.id for candidate in candidates})
    if config.method != "full" and num_chosen < num_requested:
        obtained = (
            f"only {num_available} are available" if num_available < num_requested
            else f"{num_chosen} selected within the limits"
        )  # fmt: skip
        warnings.append(f"{num_requested} problems requested; {obtained}")
    if config.method == "s1" and all(c.domain == "unknown" for c in candidates):
        warnings.append("no problem has a domain, so s1's sampling prefers the longest chains")
    is_preselected = [choice.phase == "preselect" for choice in selection.chosen.values()]
    if config.preselect and not any(is_preselected):
        warnings.append("preselect matches no candidate; check the names of the sources")
    return warnings + unmet_quotas(selection)


def _selection_facts(
    traces: Sequence[Trace], chosen: Sequence[Trace], candidates: Sequence[Candidate],
    selection: Selection,
) -> dict[str, Any]:  # fmt: skip
    config = selection.config
    problems_before, problems = _first_traces(traces), _first_traces(chosen)
    phases = count_values(choice.phase for choice in selection.chosen.values())
    # The LIMO papers give no count of preselected problems; s1's count is by its own rules.
    ours = {"preselected": phases.get("preselect", 0), "chosen": len(selection.chosen)}
    return {
        "method": config.method,
        "num_asked": config.num_problems,
        "num_problems": len(problems),
        "num_chains": len(chosen),
        "domains_before": count_values(trace.problem.domain for trace in problems_before),
        "domains": count_values(trace.problem.domain for trace in problems),
        "sources_before": count_values(trace.problem.source for trace in problems_before),
        "sources": count_values(trace.problem.source for trace in problems),
        "teachers": count_values(trace.teacher for trace in chosen),
        "levels": count_values(str(trace.level) for trace in chosen if trace.level is not None),
        "thinking_tokens_before": quantiles([trace.num_thinking_tokens for trace in traces]),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in chosen]),
        "num_thinking_tokens": sum(trace.num_thinking_tokens for trace in chosen),
        "num_response_tokens": sum(trace.num_response_tokens for trace in chosen),
        "mode": config.mode if config.method == "s1" else None,
        "phases": phases,
        "num_wasted_draws": selection.num_wasted,
        "paper": compare_to_paper(config.method, candidates, ours),
    }
