"""trace: gather chains of thought, grade and score them, and keep those worth learning from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from slowthink.curation.scores.preference import higher_is_better
from slowthink.errors import ConfigError, DataError
from slowthink.pipeline.contract import (
    StageContext,
    StageResult,
    Step,
    count_values,
    funnel_step,
    quantiles,
)
from slowthink.pipeline.plan import attempts_per_problem, file_rows, planned_problems
from slowthink.recipe import (
    AttemptTraces,
    FileTraces,
    LevelsConfig,
    Recipe,
    TeacherTraces,
    TraceConfig,
    check_score_name,
)
from slowthink.recipe.scores import ORDERS
from slowthink.records import Dropped, Problem, Split, Trace, group_by
from slowthink.stages.trace import chains_table, gate, keeping
from slowthink.stages.trace.chains import ScoredChain
from slowthink.stages.trace.contamination import drop_contaminated
from slowthink.stages.trace.cost import planned_teachers
from slowthink.stages.trace.figures import score_facts
from slowthink.stages.trace.gather import gather_chains
from slowthink.stages.trace.matching import KnownProblems, match_problems
from slowthink.stages.trace.scoring import (
    grade_chains,
    level_chains,
    model_score_lines,
    score_chains,
)
from slowthink.stages.trace.sources import NO_SOLUTION
from slowthink.stages.trace.teachers import Teacher

STAGE_VERSION = 3
NUM_NAMED = 3
"""Dropped chains that are named for each reason."""
_OTHER_CHAINS = "Name other chains: --set 'trace.sources=[{kind: file, path: chains.jsonl}]'"
_REMEDIES = {
    gate.STEP: (
        "Leave out rules of the gate: --set 'trace.gate={skip: [loop, truncated]}', or all: --set "
        "trace.gate=null"
    ),
    "read": (
        "Rename the columns to question, thinking, response and answer, or name the format: --set "
        "trace.sources.0.rows=limo"
    ),
    "match": _OTHER_CHAINS,
    "contamination": _OTHER_CHAINS,
    "grade": (
        "Name another source, or keep chains without a reference answer: --set trace.ungraded=keep"
    ),
}
"""What to do if no chain is left, by the step that dropped the most."""


def run(context: StageContext) -> StageResult:
    """Keep the chains worth learning from. Raises DataError if none is left."""
    config: TraceConfig = context.config
    train, heldout = _load_problems(context)
    known_problems = KnownProblems.from_splits(train, heldout)
    gathered = gather_chains(context, train)
    matched, unmatched = match_problems(gathered.chains, known_problems)
    rules = config.gate_rules()
    matched, malformed = gate.prepare(matched, rules)
    chains, contaminated, contamination_facts = drop_contaminated(matched, heldout, context)
    tokenizer, fingerprint = _load_tokenizer(context.recipe)
    grades = grade_chains(chains, runner=context.recipe.runner)
    scored, model_facts = score_chains(chains, grades, tokenizer, context)
    sound, faulty = gate.drop_faulty(scored, rules, runner=context.recipe.runner)
    kept, wrong = gate.drop_by_grade(sound, gate.passing_verdicts(config))
    kept = list(level_chains(kept, config.levels))
    surplus: list[Dropped] = []
    if config.keep == "one":
        kept, surplus = keeping.keep_one(kept, config.prefer, seed=context.recipe.seed)
    else:
        kept = keeping.in_order(kept, config.prefer, seed=context.recipe.seed)
    dropped = [
        *gathered.dropped, *malformed, *unmatched, *contaminated, *faulty, *wrong, *surplus
    ]  # fmt: skip
    graded = {chain.location for chain in chains}
    chains_table.write(
        context.folder / chains_table.FILE, scored,
        [chain for chain in matched if chain.location not in graded],
        kept=kept, dropped=dropped, scores=config.scores,
    )  # fmt: skip
    if not kept:
        raise DataError(_empty_result_message(dropped))
    traces = [_to_trace(chain, fingerprint) for chain in kept]
    facts = _trace_facts(traces, train or [chain.problem for chain in gathered.chains])
    context.notify(
        f"trace: {len(traces)} chains of {facts['num_problems']} problems are kept, of "
        f"{gathered.num_rows} rows"
    )
    for line in _dropped_lines(dropped):
        context.notify(f"trace: {line}")
    facts["verdicts"] = count_values(grade.verdict.value for grade in grades)
    if notes := count_values(note for scored_chain in kept for note in scored_chain.chain.notes):
        facts["import_notes"] = notes
    facts |= model_facts | score_facts(scored, kept, seed=context.recipe.seed)
    facts["num_heldout_keys"] = len(known_problems.heldout)
    return StageResult(
        records=traces, record_type=Trace, dropped=dropped,
        steps=_funnel_steps(gathered.num_rows, dropped, config),
        facts=facts | gathered.facts | contamination_facts,
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Maximum number of chains by source; requests, tokens and cost of the teachers. Raises
    ConfigError for settings with which a teacher could not run, or levels not be cut."""
    _check_score_names(recipe.trace)
    _check_cut(recipe.trace.levels if recipe.trace else None)
    num_problems = planned_problems(recipe)
    num_chains: dict[str, int] = {}
    for index, source in enumerate(recipe.trace.sources if recipe.trace else ()):
        setting = f"trace.sources.{index}"
        if isinstance(source, FileTraces):
            num_chains[setting] = file_rows(
                source.path, setting=f"{setting}.path", limit=source.max_traces
            )
        elif isinstance(source, AttemptTraces):
            num_chains[setting] = num_problems * attempts_per_problem(recipe)
        elif isinstance(source, TeacherTraces):
            teacher = Teacher.from_source(source, recipe, setting)
            num_asked = min(num_problems, source.max_problems or num_problems)
            num_chains[setting] = num_asked * teacher.config.num_attempts
        else:
            num_chains[setting] = num_problems
    figures = {
        "num_chains": sum(num_chains.values()), "sources": num_chains,
        "scores": model_score_lines(recipe),
    }  # fmt: skip
    return figures | {"estimated_tokens": 0} | planned_teachers(recipe, num_problems=num_problems)


def _check_score_names(config: TraceConfig | None) -> None:
    """Raise ConfigError for a score that no chain would have."""
    if config is not None and config.levels is not None:
        check_score_name(config.levels.score, config.scores, setting="trace.levels.score")
    if config is not None and config.prefer.by not in ORDERS:
        check_score_name(config.prefer.by, config.scores, setting="trace.prefer.by")


def _check_cut(config: LevelsConfig | None) -> None:
    """Raise ConfigError for a score that is not a level: 1 is the worst."""
    if config is not None and config.cut == "value" and not higher_is_better(config.score):
        raise ConfigError(
            f"trace.levels: `cut: value` takes `{config.score}` for the level, but its low values "
            "are the good ones; expected a score of which 1 is the worst, as rubric.level. Cut "
            "bands: --set trace.levels.cut=equal"
        )


def _load_problems(context: StageContext) -> tuple[list[Problem], list[Problem]]:
    """Training problems of the filter, or of the pool without a filter, and held-out problems of
    the pool. Both are [] if the recipe begins with chains."""
    problems = context.load(Problem, "filter", "pool") if context.inputs else []
    pool = context.load(Problem, "pool") if "pool" in context.inputs else []
    train = [problem for problem in problems if problem.split is Split.TRAIN]
    return train, [problem for problem in pool if problem.split is Split.HELDOUT]


def _load_tokenizer(recipe: Recipe) -> tuple[Any, str]:
    """The recipe's tokenizer, by which tokens are counted, and its fingerprint."""
    from slowthink.engines.models import load_tokenizer, tokenizer_fingerprint

    tokenizer = load_tokenizer(
        recipe.model, recipe.revision, trust_remote_code=recipe.engine.trust_remote_code
    )
    return tokenizer, tokenizer_fingerprint(tokenizer)


def _to_trace(scored: ScoredChain, tokenizer: str) -> Trace:
    chain = scored.chain
    return Trace(
        chain_id=chain.chain_id,
        problem=_with_notes(chain.problem, chain.notes),
        thinking=chain.thinking,
        response=chain.response,
        teacher=chain.teacher,
        grade=scored.grade,
        scores=json.dumps(scored.scores, sort_keys=True),
        level=scored.level,
        num_thinking_tokens=scored.num_thinking_tokens,
        num_response_tokens=scored.num_response_tokens,
        tokenizer=tokenizer,
        completion_key=chain.completion_key,
        provenance=json.dumps(chain.provenance, sort_keys=True, ensure_ascii=False),
    )


def _with_notes(problem: Problem, notes: Sequence[str]) -> Problem:
    """The problem, with notes about its chain's import in its `meta`."""
    if not notes:
        return problem
    meta = json.loads(problem.meta) | {"import_notes": list(notes)}
    return replace(problem, meta=json.dumps(meta, ensure_ascii=False))


def _funnel_steps(num_rows: int, dropped: Sequence[Dropped], config: TraceConfig) -> list[Step]:
    steps: list[Step] = []
    contamination = ("contamination",) if config.contamination else ()
    rules = (gate.STEP,) if config.gate else ()
    for name in ("read", "take", "match", *contamination, *rules, "grade", "one per problem"):
        num_in = steps[-1].num_out if steps else num_rows
        steps.append(funnel_step(name, num_in, dropped))
    return steps


def _trace_facts(traces: Sequence[Trace], before: Sequence[Problem]) -> dict[str, Any]:
    # Only the chains of the sandbox's problems have a kind.
    kinds = [json.loads(trace.problem.meta).get("chain") for trace in traces]
    kinds = [kind for kind in kinds if kind is not None]
    problems = {trace.problem.id: trace.problem for trace in traces}
    num_with_wait = sum("wait" in trace.thinking.casefold() for trace in traces)
    return {
        "num_problems": len(problems),
        "num_chains": len(traces),
        "teachers": count_values(trace.teacher for trace in traces),
        "domains_before": count_values(problem.domain for problem in before),
        "domains": count_values(problem.domain for problem in problems.values()),
        "thinking_tokens": quantiles([trace.num_thinking_tokens for trace in traces]),
        "response_tokens": quantiles([trace.num_response_tokens for trace in traces]),
        "wait_share": round(num_with_wait / len(traces), 4),
        "chain_shares": {k: round(num / len(kinds), 4) for k, num in count_values(kinds).items()},
    }


def _dropped_lines(dropped: Sequence[Dropped]) -> Iterator[str]:
    """A line for each reason, most frequent first: how many chains, and which, or the first."""
    ids = group_by(dropped, lambda drop: f"{drop.step}: {drop.reason}")
    for reason in count_values(f"{drop.step}: {drop.reason}" for drop in dropped):
        named = [drop.id for drop in ids[reason][:NUM_NAMED]]
        more = ", …" if len(ids[reason]) > NUM_NAMED else ""
        yield f"{len(ids[reason]):,} dropped, {reason} ({', '.join(named)}{more})"


def _empty_result_message(dropped: Sequence[Dropped]) -> str:
    reasons = count_values(drop.reason for drop in dropped)
    most_common = "; ".join(f"{num} x {reason}" for reason, num in list(reasons.items())[:4])
    steps = count_values(drop.step for drop in dropped)
    remedy = _REMEDIES.get(next(iter(steps), ""), _REMEDIES["grade"])
    if list(reasons) == [NO_SOLUTION]:
        remedy = (
            "The source `solution` takes solutions for chains, and these problems have none. "
            "Name their column: --set pool.sources.0.solution_field=COLUMN. Or import chains that "
            "a model wrote: --set 'trace.sources=[{kind: file, path: chains.jsonl}]'. Or only "
            "measure a model on the problems: slowthink init evaluate --data FILE"
        )
    return f"trace: no chain is left ({most_common}); expected at least one. {remedy}"
