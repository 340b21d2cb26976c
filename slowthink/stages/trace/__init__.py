"""trace: read or import chains of thought, grade them, keep one correct chain per problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slowthink.errors import DataError
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    Step,
    count_values,
    funnel_step,
    quantiles,
)
from slowthink.pipeline.plan import file_rows, planned_problems
from slowthink.recipe import FileTraces, Recipe, TraceConfig
from slowthink.records import Dropped, Problem, Split, Trace
from slowthink.stages.trace import checks
from slowthink.stages.trace.contamination import drop_contaminated
from slowthink.stages.trace.sources import NO_SOLUTION, SOURCES, SourceChains

STAGE_VERSION = 3


def run(context: StageContext) -> StageResult:
    """Keep one correct chain per problem. Raises DataError if no chain is correct."""
    train, heldout = _load_problems(context)
    known_problems = checks.KnownProblems.from_splits(train, heldout)
    gathered = _gather(context, train)
    chains, unmatched = checks.match_problems(gathered.chains, known_problems)
    chains, contaminated, contamination_facts = drop_contaminated(chains, heldout, context)
    graded = checks.grade_chains(chains, runner=context.recipe.runner)
    correct, wrong = checks.keep_correct(graded, keep_ungraded=context.config.ungraded == "keep")
    kept, surplus = checks.keep_first(correct)
    dropped = [*gathered.dropped, *unmatched, *contaminated, *wrong, *surplus]
    if not kept:
        raise DataError(_empty_result_message(dropped))
    traces = _to_traces(kept, context.recipe)
    context.notify(f"trace: {len(traces)} correct chains of {gathered.num_rows} rows")
    facts = _trace_facts(traces, train or [chain.problem for chain in gathered.chains])
    facts["verdicts"] = count_values(graded_chain.grade.verdict.value for graded_chain in graded)
    if notes := count_values(note for g in kept for note in g.chain.notes):
        facts["import_notes"] = notes
    facts["num_heldout_keys"] = len(known_problems.heldout)
    return StageResult(
        records=traces, record_type=Trace, dropped=dropped,
        steps=_funnel_steps(gathered.num_rows, dropped, context.config),
        facts=facts | contamination_facts,
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Maximum number of chains by source. Nothing is generated."""
    num_chains: dict[str, int] = {}
    for index, source in enumerate(recipe.trace.sources if recipe.trace else ()):
        setting = f"trace.sources.{index}"
        if isinstance(source, FileTraces):
            num_chains[setting] = file_rows(
                source.path, setting=f"{setting}.path", limit=source.max_traces
            )
        else:
            num_chains[setting] = planned_problems(recipe)
    total = sum(num_chains.values())
    return {"num_chains": total, "sources": num_chains, "estimated_tokens": 0}


def _load_problems(context: StageContext) -> tuple[list[Problem], list[Problem]]:
    """Training problems of the filter, or of the pool without a filter, and held-out problems of
    the pool. Both are [] if the recipe begins with chains."""
    problems = context.load(Problem, "filter", "pool") if context.inputs else []
    pool = context.load(Problem, "pool") if "pool" in context.inputs else []
    train = [problem for problem in problems if problem.split is Split.TRAIN]
    return train, [problem for problem in pool if problem.split is Split.HELDOUT]


def _gather(context: StageContext, train: Sequence[Problem]) -> SourceChains:
    """The chains of all sources, best source first."""
    gathered = SourceChains()
    for index, source in enumerate(context.config.sources):
        read_chains, setting = SOURCES[source.kind], f"trace.sources.{index}"
        source_chains = read_chains(source, train, seed=context.recipe.seed, setting=setting)
        gathered.chains += source_chains.chains
        gathered.dropped += source_chains.dropped
        gathered.num_rows += source_chains.num_rows
    return gathered


def _to_traces(graded: Sequence[checks.GradedChain], recipe: Recipe) -> list[Trace]:
    """Traces with their tokens counted by the recipe's tokenizer."""
    from slowthink.engines.models import load_tokenizer, tokenizer_fingerprint

    tokenizer = load_tokenizer(
        recipe.model, recipe.revision, trust_remote_code=recipe.engine.trust_remote_code
    )
    fingerprint = tokenizer_fingerprint(tokenizer)
    return [
        Trace(
            problem=_with_notes(graded_chain.chain.problem, graded_chain.chain.notes),
            thinking=graded_chain.chain.thinking,
            response=graded_chain.chain.response,
            teacher=graded_chain.chain.teacher,
            grade=graded_chain.grade,
            num_thinking_tokens=_num_tokens(tokenizer, graded_chain.chain.thinking),
            num_response_tokens=_num_tokens(tokenizer, graded_chain.chain.response),
            tokenizer=fingerprint,
        )
        for graded_chain in graded
    ]


def _with_notes(problem: Problem, notes: Sequence[str]) -> Problem:
    """The problem, with notes about its chain's import in its `meta`."""
    if not notes:
        return problem
    meta = json.loads(problem.meta) | {"import_notes": list(notes)}
    return replace(problem, meta=json.dumps(meta, ensure_ascii=False))


def _num_tokens(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _funnel_steps(num_rows: int, dropped: Sequence[Dropped], config: TraceConfig) -> list[Step]:
    steps: list[Step] = []
    contamination = ("contamination",) if config.contamination else ()
    for name in ("read", "take", "match", *contamination, "grade", "one per problem"):
        num_in = steps[-1].num_out if steps else num_rows
        steps.append(funnel_step(name, num_in, dropped))
    return steps


def _trace_facts(traces: Sequence[Trace], before: Sequence[Problem]) -> dict[str, Any]:
    # Only the chains of the sandbox's problems have a kind.
    kinds = [json.loads(trace.problem.meta).get("chain") for trace in traces]
    kinds = [kind for kind in kinds if kind is not None]
    num_with_wait = sum("wait" in trace.thinking.casefold() for trace in traces)
    return {
        "teachers": count_values(trace.teacher for trace in traces),
        "domains_before": count_values(problem.domain for problem in before),
        "domains": count_values(trace.problem.domain for trace in traces),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in traces]),
        "response_tokens": quantiles([trace.num_response_tokens for trace in traces]),
        "wait_share": round(num_with_wait / len(traces), 4),
        "chain_shares": {k: round(num / len(kinds), 4) for k, num in count_values(kinds).items()},
    }


def _empty_result_message(dropped: Sequence[Dropped]) -> str:
    reasons = count_values(drop.reason for drop in dropped)
    most_common = "; ".join(f"{num} x {reason}" for reason, num in list(reasons.items())[:4])
    remedy = (
        "Name another source, or keep chains without a reference answer: --set trace.ungraded=keep"
    )
    if list(reasons) == [NO_SOLUTION]:
        remedy = (
            "The source `solution` takes solutions for chains, and these problems have none. "
            "Name their column: --set pool.sources.0.solution_field=COLUMN. Or import chains that "
            "a model wrote: --set 'trace.sources=[{kind: file, path: chains.jsonl}]'. Or only "
            "measure a model on the problems: slowthink init evaluate --data FILE"
        )
    return f"trace: no correct chain is left ({most_common}); expected at least one. {remedy}"
