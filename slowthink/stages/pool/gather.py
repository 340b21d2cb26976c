"""Joins the sources. Of equal questions the first is kept, held-out before training problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from slowthink.data.problems import LocatedProblem, SourceProblems, keep_first
from slowthink.errors import DataError
from slowthink.pipeline.contract import count_values, quantiles
from slowthink.recipe import FileSource, PoolConfig, SandboxSource
from slowthink.records import Problem, Split
from slowthink.stages.pool.catalogue import catalogue_problems
from slowthink.stages.pool.files import file_problems, hub_problems
from slowthink.stages.pool.gym import gym_problems
from slowthink.stages.pool.sandbox import sandbox_problems


def _read_sandbox(source: SandboxSource, *, seed: int, setting: str) -> SourceProblems:
    problems = list(sandbox_problems(source, seed=seed, setting=setting))
    items = [LocatedProblem(f"sandbox:{problem.source_row}", problem) for problem in problems]
    return SourceProblems(items=items, num_rows=len(items))


SOURCES: dict[str, Callable[..., SourceProblems]] = {
    "file": file_problems,
    "hub": hub_problems,
    "catalogue": catalogue_problems,
    "sandbox": _read_sandbox,
    "reasoning-gym": gym_problems,
}


def gather(
    config: PoolConfig,
    *,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SourceProblems:
    """All sources' problems without duplicates; `facts` are those of each source, by recipe key.

    `progress` is called with the lines of a file that are read, and all of them. Raises DataError
    if there is no problem.
    """
    sources = {}
    for index, source in enumerate(config.sources):
        setting = f"pool.sources.{index}"
        more = {"progress": progress} if isinstance(source, FileSource) else {}
        sources[setting] = SOURCES[source.kind](source, seed=seed, setting=setting, **more)
    items = [
        item for source in sources.values() for item in sorted(source.items, key=_keep_priority)
    ]
    kept, duplicates = keep_first(items)
    if not kept:
        raise DataError("pool: no source has a problem; expected at least one. See pool.sources.")
    return SourceProblems(
        items=kept,
        dropped=[drop for source in sources.values() for drop in source.dropped] + duplicates,
        num_rows=sum(source.num_rows for source in sources.values()),
        facts={setting: source.facts for setting, source in sources.items()},
    )


def _keep_priority(item: LocatedProblem) -> tuple[bool, str, str, str, str]:
    """Sort key: of a source's equal questions the first is kept, independent of the row order."""
    problem = item.problem
    return (
        problem.answer is None, problem.id, problem.answer or "", problem.solution or "",
        problem.source_row,
    )  # fmt: skip


def pool_facts(problems: Sequence[Problem]) -> dict[str, Any]:
    """Facts of the pool for the manifest and the report."""
    train = [problem for problem in problems if problem.split is Split.TRAIN]
    held_out = [problem for problem in problems if problem.split is Split.HELDOUT]
    return {
        "splits": count_values(problem.split.value for problem in problems),
        "sources": count_values(problem.source for problem in problems),
        "domains": count_values(problem.domain for problem in train),
        "domains_heldout": count_values(problem.domain for problem in held_out),
        "question_chars": quantiles([len(problem.question) for problem in problems]),
        "num_without_answer": sum(problem.answer is None for problem in problems),
        "num_derived_answers": sum(problem.answer_derived for problem in problems),
        "sandbox": _sandbox_facts(train),
    }


def _sandbox_facts(problems: Iterable[Problem]) -> dict[str, Any]:
    """Shares of the training chains by kind, and counts of problems by difficulty."""
    metas = [json.loads(problem.meta) for problem in problems if problem.source == "sandbox"]
    kinds = count_values(meta["chain"] for meta in metas)
    return {
        "chain_shares": {kind: round(num / len(metas), 4) for kind, num in kinds.items()},
        "difficulties": count_values(str(meta["difficulty"]) for meta in metas),
    }
