"""trace: take or import chains of thought, grade them, keep one right chain a problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from slowthink.data.rows import estimate_rows
from slowthink.errors import DataError
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    Step,
    counts,
    funnel_step,
    quantiles,
)
from slowthink.pipeline.plan import planned_problems
from slowthink.recipe import FileTraces, Recipe, TraceConfig
from slowthink.records import Dropped, Problem, Split, Trace
from slowthink.stages.trace.gate import GradedChain, Known, grade_all, keep_first, keep_right, match
from slowthink.stages.trace.leaks import keep_unleaked
from slowthink.stages.trace.sources import SOURCES, SourceChains

STAGE_VERSION = 3


def run(context: StageContext) -> StageResult:
    """One right chain for each problem that has one. Raises DataError where none has."""
    known, train = _known(context)
    found = _gather(context, train)
    candidates, unmatched = match(found.candidates, known)
    candidates, leaked, leak_facts = keep_unleaked(candidates, context)
    graded = grade_all(candidates, runner=context.recipe.runner)
    right, wrong = keep_right(graded, keep_ungraded=context.config.ungraded == "keep")
    kept, surplus = keep_first(right)
    dropped = [*found.dropped, *unmatched, *leaked, *wrong, *surplus]
    if not kept:
        raise DataError(_nothing_left(dropped))
    traces = _to_traces(kept, context.recipe)
    context.notify(f"trace: {len(traces)} right chains of {found.num_rows} rows")
    facts = _facts(traces, train or [one.problem for one in found.candidates])
    facts["verdicts"] = counts(one.grade.verdict.value for one in graded)
    facts["num_heldout_keys"] = len(known.heldout)
    facts |= leak_facts
    return StageResult(
        records=traces, record_type=Trace, dropped=dropped,
        steps=_steps(found.num_rows, dropped, context.config), facts=facts,
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Chains that come in at most; no model is asked for any."""
    chains: dict[str, int] = {}
    for number, source in enumerate(recipe.trace.sources if recipe.trace else ()):
        setting = f"trace.sources.{number}"
        if isinstance(source, FileTraces):
            found = estimate_rows(source.path, setting=f"{setting}.path")
            chains[setting] = min(found, source.max_traces or found)
        else:
            chains[setting] = planned_problems(recipe)
    return {"num_chains": sum(chains.values()), "sources": chains, "estimated_tokens": 0}


def _known(context: StageContext) -> tuple[Known, list[Problem]]:
    """What the earlier stages know, and their training problems; none where there are none."""
    problems = context.load(Problem, "filter", "pool") if context.inputs else []
    pool = context.load(Problem, "pool") if "pool" in context.inputs else []
    train = [problem for problem in problems if problem.split is Split.TRAIN]
    held = [problem for problem in pool if problem.split is Split.HELDOUT]
    return Known.of(train, held), train


def _gather(context: StageContext, train: Sequence[Problem]) -> SourceChains:
    """The chains of all sources, best source first."""
    joined = SourceChains()
    for number, source in enumerate(context.config.sources):
        found = SOURCES[source.kind](
            source, train, seed=context.recipe.seed, setting=f"trace.sources.{number}"
        )
        joined.candidates += found.candidates
        joined.dropped += found.dropped
        joined.num_rows += found.num_rows
    return joined


def _to_traces(kept: Sequence[GradedChain], recipe: Recipe) -> list[Trace]:
    """Traces with their tokens counted by the recipe's tokenizer."""
    from slowthink.engines.models import load_tokenizer, tokenizer_fingerprint

    tokenizer = load_tokenizer(recipe.model, recipe.revision)
    fingerprint = tokenizer_fingerprint(tokenizer)
    return [
        Trace(
            problem=one.candidate.problem,
            thinking=one.candidate.thinking,
            response=one.candidate.response,
            teacher=one.candidate.teacher,
            grade=one.grade,
            num_thinking_tokens=_num_tokens(tokenizer, one.candidate.thinking),
            num_response_tokens=_num_tokens(tokenizer, one.candidate.response),
            tokenizer=fingerprint,
        )
        for one in kept
    ]


def _num_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _steps(num_rows: int, dropped: Sequence[Dropped], config: TraceConfig) -> list[Step]:
    steps: list[Step] = []
    checked = ("contamination",) if config.contamination else ()
    names = ("read", "take", "match", *checked, "grade", "one per problem")
    for name in names:
        num_in = steps[-1].num_out if steps else num_rows
        steps.append(funnel_step(name, num_in, dropped))
    return steps


def _facts(traces: Sequence[Trace], before: Sequence[Problem]) -> dict[str, Any]:
    chains = [json.loads(trace.problem.meta).get("chain") for trace in traces]
    made = [chain for chain in chains if chain is not None]
    with_wait = sum("wait" in trace.thinking.casefold() for trace in traces)
    return {
        "teachers": counts(trace.teacher for trace in traces),
        "domains_before": counts(problem.domain for problem in before),
        "domains": counts(trace.problem.domain for trace in traces),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in traces]),
        "response_tokens": quantiles([trace.num_response_tokens for trace in traces]),
        "wait_share": round(with_wait / len(traces), 4),
        "chain_shares": {
            kind: round(number / len(made), 4) for kind, number in counts(made).items()
        },
    }


def _nothing_left(dropped: Sequence[Dropped]) -> str:
    reasons = counts(drop.reason for drop in dropped)
    found = "; ".join(f"{number} x {reason}" for reason, number in list(reasons.items())[:4])
    return (
        f"trace: no right chain is left ({found}); expected at least one. Name another source, or "
        "keep chains without a key: --set trace.ungraded=keep"
    )
