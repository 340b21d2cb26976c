"""Joins the sources: of equal questions the first is kept, and no held-out one is trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.data.problems import LocatedProblem, SourceProblems, keep_first
from slowthink.errors import DataError
from slowthink.pipeline.contract import counts, quantiles
from slowthink.recipe import PoolConfig, SandboxSource
from slowthink.records import Dropped, Problem, Split
from slowthink.stages.pool.catalogue import catalogue_problems
from slowthink.stages.pool.files import file_problems, hub_problems
from slowthink.stages.pool.gym import gym_problems
from slowthink.stages.pool.sandbox import sandbox_problems


def _sandbox(source: SandboxSource, *, seed: int, setting: str) -> SourceProblems:
    problems = list(sandbox_problems(source, seed=seed, setting=setting))
    items = [LocatedProblem(f"sandbox:{problem.source_row}", problem) for problem in problems]
    return SourceProblems(items=items, num_rows=len(items))


SOURCES: dict[str, Callable[..., SourceProblems]] = {
    "file": file_problems,
    "hub": hub_problems,
    "catalogue": catalogue_problems,
    "sandbox": _sandbox,
    "reasoning-gym": gym_problems,
}


@dataclass(frozen=True)
class Gathered:
    """The pool."""

    problems: list[Problem]
    dropped: list[Dropped]
    num_rows: int
    origins: dict[str, dict[str, Any]]
    """Which rows each source's were, by its recipe key."""


def gather(config: PoolConfig, *, seed: int) -> Gathered:
    """All sources' problems. Raises DataError where none is left."""
    settings = [f"pool.sources.{number}" for number in range(len(config.sources))]
    sources = [
        SOURCES[source.kind](source, seed=seed, setting=setting)
        for setting, source in zip(settings, config.sources, strict=True)
    ]
    items = [item for found in sources for item in sorted(found.items, key=_preference)]
    kept, equal = keep_first(items)
    if not kept:
        raise DataError(
            "pool: no problem is left of any source; expected at least one. See pool.sources."
        )
    dropped = [drop for found in sources for drop in found.dropped] + equal
    problems = [item.problem for item in kept]
    origins = {key: found.facts for key, found in zip(settings, sources, strict=True)}
    return Gathered(problems, dropped, sum(found.num_rows for found in sources), origins)


def _preference(item: LocatedProblem) -> tuple[bool, str, str, str, str]:
    """Of a source's equal questions the first of these is kept, wherever it stands in the file."""
    problem = item.problem
    return (
        problem.answer is None, problem.id, problem.answer or "", problem.solution or "",
        problem.source_row,
    )  # fmt: skip


def pool_facts(problems: Sequence[Problem]) -> dict[str, Any]:
    """What the manifest and the report tell of the pool."""
    train = [problem for problem in problems if problem.split is Split.TRAIN]
    return {
        "splits": counts(problem.split.value for problem in problems),
        "sources": counts(problem.source for problem in problems),
        "domains": counts(problem.domain for problem in train),
        "domains_heldout": counts(
            problem.domain for problem in problems if problem.split is Split.HELDOUT
        ),
        "question_chars": quantiles([len(problem.question) for problem in problems]),
        "num_without_answer": sum(problem.answer is None for problem in problems),
        "num_derived_answers": sum(problem.answer_derived for problem in problems),
        "sandbox": _sandbox_facts(train),
    }


def _sandbox_facts(problems: Iterable[Problem]) -> dict[str, Any]:
    """Kinds of the training chains, as shares, and the difficulties drawn."""
    metas = [json.loads(problem.meta) for problem in problems if problem.source == "sandbox"]
    kinds = counts(meta["chain"] for meta in metas)
    return {
        "chain_shares": {kind: round(number / len(metas), 4) for kind, number in kinds.items()},
        "difficulties": counts(str(meta["difficulty"]) for meta in metas),
    }
