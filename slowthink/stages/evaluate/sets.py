"""What is measured on: the pool's held-out problems, benchmarks, or the problems of stored samples.

`ProblemSet(name="math500", problems=(…500), domain="in", instruction=None, source={"path": …})`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slowthink.data.load import load_benchmark
from slowthink.data.stored import problems_of, read_stored
from slowthink.data.tables import read_records
from slowthink.errors import DataError
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ChatConfig, EvaluateConfig, ProtocolConfig
from slowthink.records import Dropped, Problem, Split, item_seed

HELD_OUT = "heldout"
"""Name of the set of the pool's own held-out problems."""


@dataclass(frozen=True, kw_only=True)
class ProblemSet:
    """Problems that are measured on together."""

    name: str
    problems: tuple[Problem, ...]
    domain: str | None = None
    """in or out of the training data's domain, for the averages; None: in neither."""
    instruction: str | None = None
    """A line after the question, where the chat has none and the protocol allows it."""
    source: Mapping[str, Any] | None = None
    dropped: tuple[Dropped, ...] = ()


def problem_sets(context: StageContext) -> list[ProblemSet]:
    """All sets of the recipe, the held-out one first. Raises DataError where there is none."""
    config: EvaluateConfig = context.config
    seed = context.recipe.seed
    sets = _held_out(context)
    for number, benchmark in enumerate(config.benchmarks):
        found = load_benchmark(benchmark, seed=seed, setting=f"evaluate.benchmarks.{number}")
        context.notify(f"evaluate: {found.name}, {len(found.problems)} problems")
        sets.append(
            ProblemSet(
                name=found.name, problems=found.problems, domain=found.domain,
                instruction=found.instruction, source=found.source, dropped=found.dropped,
            )
        )  # fmt: skip
    if not sets:
        sets = _stored(config)
    if not sets:
        raise DataError(
            "evaluate: the pool holds no held-out problem, and no benchmark is named; expected "
            "problems to measure on. Set num_heldout on a source, or split: heldout, or name a "
            "benchmark, or a file: --set evaluate.input=PATH"
        )
    return sets


def chat_for(chat: ChatConfig, protocol: ProtocolConfig, one: ProblemSet) -> ChatConfig:
    """How this set's problems are put under this protocol; what the chat says itself goes first."""
    instruction = None if protocol.question_only else chat.instruction or one.instruction
    system = protocol.system_prompt if chat.system_prompt is None else chat.system_prompt
    return chat.model_copy(update={"instruction": instruction, "system_prompt": system})


def _held_out(context: StageContext) -> list[ProblemSet]:
    """The held-out problems of the section's own file (all, where none is marked so) or of the
    pool; none where it has none."""
    config: EvaluateConfig = context.config
    if config.input is not None:
        everything = read_records(Path(config.input), Problem)
    elif "pool" in context.inputs:
        everything = context.load(Problem, "pool")
    else:
        return []
    problems = [problem for problem in everything if problem.split is Split.HELDOUT]
    if config.input is not None and not problems:
        problems = everything
    problems.sort(key=lambda problem: item_seed(context.recipe.seed, "evaluate", problem.id))
    chosen = problems[: config.max_problems]
    if not chosen:
        return []
    return [ProblemSet(name=HELD_OUT, problems=tuple(sorted(chosen, key=lambda p: p.id)))]


def _stored(config: EvaluateConfig) -> list[ProblemSet]:
    """One set a file of stored samples, of the problems that it holds."""
    sets: dict[str, ProblemSet] = {}
    for number, arm in enumerate(config.arms):
        if arm.samples is None:
            continue
        stored = read_stored(arm.samples, setting=f"evaluate.arms.{number}.samples")
        name = Path(arm.samples).stem
        problems = problems_of(stored, benchmark=name)
        known = {p.id for one in sets.values() for p in one.problems}
        new = tuple(problem for problem in problems if problem.id not in known)
        if new:
            sets[name] = ProblemSet(name=name, problems=new, dropped=stored.dropped)
    return _joined(sets)


def _joined(sets: Mapping[str, ProblemSet]) -> list[ProblemSet]:
    """Several files of the same problems are one set, named after the first."""
    if len(sets) < 2:
        return list(sets.values())
    first = next(iter(sets.values()))
    problems = [problem for one in sets.values() for problem in one.problems]
    dropped = tuple(drop for one in sets.values() for drop in one.dropped)
    return [replace(first, problems=tuple(sorted(problems, key=lambda p: p.id)), dropped=dropped)]
