"""select: choose the training set among the right chains."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from slowthink.errors import DataError
from slowthink.funnel import counts, planned_problems, quantiles, step_of
from slowthink.recipe import Recipe, SelectConfig
from slowthink.records import Dropped, Split, Trace, item_seed
from slowthink.runs import StageContext, StageResult
from slowthink.select.choose import METHODS, Candidate

STAGE_VERSION = 1


def run(context: StageContext) -> StageResult:
    """The chosen traces, the same ones whatever the order of the input."""
    loaded = context.load(Trace, "trace")
    traces, unfit = usable(loaded)
    if not traces:
        raise DataError(
            f"select: none of {len(loaded)} traces is for training; expected at least one. "
            "See the drops of the stages before."
        )
    for warning in (warnings := _warnings(traces, context.config)):
        context.say(f"select: {warning}")
    chosen, left = choose(traces, context.config, seed=context.recipe.seed)
    context.say(f"select: {len(chosen)} of {len(traces)} traces")
    dropped = [*unfit, *left]
    first = step_of("read", len(loaded), dropped)
    return StageResult(
        records=chosen, record_type=Trace, dropped=dropped,
        steps=[first, step_of("choose", first.num_out, dropped)],
        facts=_facts(traces, chosen, context.config) | {"warnings": warnings},
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Size of the training set at most."""
    config = recipe.select
    available = planned_problems(recipe)
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
    candidates = [
        Candidate(trace.problem.id, trace.problem.domain or "unknown", trace.num_thinking_tokens)
        for trace in traces
    ]
    rng = random.Random(item_seed(seed, "select", config.method))
    number = len(candidates) if config.num_problems is None else config.num_problems
    ids = set(METHODS[config.method](candidates, number, rng))
    ordered = sorted(traces, key=lambda trace: trace.problem.id)
    left = [
        Dropped(id=trace.problem.id, step="choose", reason="not chosen", evidence=_evidence(trace))
        for trace in ordered
        if trace.problem.id not in ids
    ]
    return [trace for trace in ordered if trace.problem.id in ids], left


def _evidence(trace: Trace) -> str:
    return f"domain {trace.problem.domain}, {trace.num_thinking_tokens} thinking tokens"


def _warnings(traces: Sequence[Trace], config: SelectConfig) -> list[str]:
    """What the user may not expect of this selection."""
    warnings = []
    if config.method != "full" and len(traces) < (config.num_problems or 0):
        warnings.append(f"{config.num_problems} problems were asked for; there are {len(traces)}")
    if config.method == "s1" and all(trace.problem.domain is None for trace in traces):
        warnings.append("no problem has a domain; s1's sampling then takes the longest chains")
    return warnings


def _facts(
    traces: Sequence[Trace], chosen: Sequence[Trace], config: SelectConfig
) -> dict[str, Any]:
    return {
        "method": config.method,
        "num_asked": config.num_problems,
        "domains_before": counts(trace.problem.domain for trace in traces),
        "domains": counts(trace.problem.domain for trace in chosen),
        "thinking_tokens_before": quantiles([trace.num_thinking_tokens for trace in traces]),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in chosen]),
        "num_thinking_tokens": sum(trace.num_thinking_tokens for trace in chosen),
        "num_response_tokens": sum(trace.num_response_tokens for trace in chosen),
    }
