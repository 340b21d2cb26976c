"""The sources of chains by kind, and the chains of all sources of a recipe.

A new source is one reader and one line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.errors import DataError
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import TeacherTraces
from slowthink.records import Dropped, Problem
from slowthink.stages.trace.chains import SourceChain, SourceChains
from slowthink.stages.trace.sampled import read_attempts, sample_teacher, teacher_warnings
from slowthink.stages.trace.sources import read_chains, read_solutions
from slowthink.stages.trace.spending import NOTHING, Spent
from slowthink.stages.trace.teachers import Teacher, check_keys, check_teachers


@dataclass
class GatherContext:
    """What the readers share."""

    stage: StageContext
    problems: Sequence[Problem]
    """The training problems."""
    spent: Spent = NOTHING
    """What the teachers before the current source spent."""


Reader = Callable[[Any, GatherContext, str], SourceChains]
"""Takes the source's settings, the context, and the setting's name."""

READERS: dict[str, Reader] = {
    "solution": lambda source, context, setting: read_solutions(source, context.problems),
    "file": lambda source, context, setting: read_chains(
        source, seed=context.stage.recipe.seed, setting=setting
    ),
    "teacher": lambda source, context, setting: _ask_teacher(source, context, setting),
    "attempts": lambda source, context, setting: read_attempts(
        source, context.problems, context.stage, setting
    ),
}


def gather_chains(context: StageContext, problems: Sequence[Problem]) -> SourceChains:
    """The chains of all sources, best source first. Raises ConfigError before anything is sampled
    if a teacher cannot run."""
    check_teachers(context.recipe)
    check_keys(context.recipe)
    gathered, shared = SourceChains(), GatherContext(context, problems)
    for index, source in enumerate(context.config.sources):
        new = READERS[source.kind](source, shared, f"trace.sources.{index}")
        known = {chain.location for chain in gathered.chains}
        gathered.chains += [_with_own_location(chain, known, index) for chain in new.chains]
        gathered.dropped += new.dropped
        gathered.num_rows += new.num_rows
        _merge_facts(gathered.facts, new.facts)
    if runs := gathered.facts.get("teacher_runs"):
        gathered.facts["tokens"] = {"decoded": sum(run["decoded_tokens"] for run in runs)}
        gathered.facts["sampling_seconds"] = sum(run["seconds"] for run in runs)
    gathered.chains, repeats = _without_repeats(gathered.chains)
    gathered.dropped += repeats
    return gathered


def _with_own_location(chain: SourceChain, known: set[str], index: int) -> SourceChain:
    """The chain; if an earlier source has one at the same location, with the source's number."""
    if chain.location not in known:
        return chain
    return replace(chain, location=f"{chain.location} (source {index + 1})")


def _merge_facts(facts: dict[str, Any], new: dict[str, Any]) -> None:
    """Add a source's facts; lists are joined."""
    for name, value in new.items():
        facts[name] = [*facts.get(name, ()), *value] if isinstance(value, list) else value


def _without_repeats(chains: Sequence[SourceChain]) -> tuple[list[SourceChain], list[Dropped]]:
    """The chains without sampled ones that equal an earlier one of the problem."""
    first: dict[str, SourceChain] = {}
    kept, dropped = [], []
    for chain in chains:
        earlier = first.setdefault(chain.chain_id, chain)
        if chain is earlier or chain.completion_key is None:
            kept.append(chain)
        else:
            reason = "equal to another chain of its problem"
            dropped.append(chain.to_dropped("read", reason, earlier.location))
    return kept, dropped


def _ask_teacher(source: TeacherTraces, context: GatherContext, setting: str) -> SourceChains:
    """The chains of a teacher. Raises DataError if there are no problems."""
    stage = context.stage
    teacher = Teacher.from_source(source, stage.recipe, setting)
    if not context.problems:
        raise DataError(
            f"{setting}: no training problem is left for the teacher `{teacher.name}`; expected "
            "some. Add problems to the pool, or loosen the filter."
        )
    result = sample_teacher(teacher, context.problems, stage, before=context.spent)
    if context.spent == result.spent == NOTHING and (waste := result.facts["waste"])["num_chains"]:
        money = f" and {waste['cost']:.4f} in money" if teacher.config.price else ""
        raise DataError(
            f"trace.max_tokens, trace.max_cost: the chains of the first problem do not fit (the "
            f"first {waste['num_chains']} took {waste['tokens']:,} tokens{money}); expected room "
            "for at least one problem. Raise the limit: chains in the ledger are reused."
        )
    context.spent = result.spent
    chains = [sampled.chain for chains in result.chains.values() for sampled in chains]
    reason = "its prompt leaves no room for a chain in the teacher's context"
    too_long = [
        Dropped(id=problem.id, step="read", reason=reason, evidence=problem.question[:200])
        for problem in result.too_long
    ]
    warnings = teacher_warnings(result.facts)
    for warning in warnings:
        stage.notify(f"trace: {warning}")
    return SourceChains(
        chains=chains, dropped=too_long, num_rows=len(chains) + len(too_long),
        facts={"teacher_runs": [result.facts], "warnings": warnings},
    )  # fmt: skip
