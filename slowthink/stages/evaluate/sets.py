"""Problems to evaluate on: the pool's held-out ones, benchmarks, or those of stored samples.

`ProblemSet(name="math500", problems=(…500), domain="in", instruction=None, source={"path": …})`
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from slowthink.data.column_names import guesses_text
from slowthink.data.load import ProblemSet, load_benchmark
from slowthink.data.stored.grading import stored_problems
from slowthink.data.stored.read import read_stored
from slowthink.data.tables import read_records
from slowthink.errors import DataError
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ChatConfig, EvaluateConfig, ProtocolConfig
from slowthink.records import Problem, Split, item_seed


def problem_sets(context: StageContext) -> list[ProblemSet]:
    """All sets of the recipe, the held-out one first. Raises DataError if there is none."""
    config: EvaluateConfig = context.config
    seed = context.recipe.seed
    sets = _held_out_set(context)
    for index, benchmark in enumerate(config.benchmarks):
        problem_set = load_benchmark(benchmark, seed=seed, setting=f"evaluate.benchmarks.{index}")
        context.notify(f"evaluate: {problem_set.name}, {len(problem_set.problems)} problems")
        if guessed := problem_set.source.get("guessed_columns"):
            context.notify(f"evaluate: {problem_set.name}: {guesses_text(guessed)}")
        sets.append(problem_set)
    sets = sets or _stored_sets(config)
    if not sets:
        raise DataError(
            "evaluate: the pool has no held-out problems, and no benchmark is named; expected "
            "problems to evaluate on. Set num_heldout on a source, or split: heldout, or name a "
            "benchmark, or a file: --set evaluate.input=PATH"
        )
    return sets


def problems_by_id(sets: Iterable[ProblemSet]) -> dict[tuple[str, str], Problem]:
    """Problems by (name of their set, id)."""
    return {
        (problem_set.name, problem.id): problem
        for problem_set in sets
        for problem in problem_set.problems
    }


def resolve_chat(chat: ChatConfig, protocol: ProtocolConfig, problem_set: ProblemSet) -> ChatConfig:
    """The chat settings for this set under this protocol; settings of the chat itself win."""
    instruction = chat.instruction or problem_set.instruction
    system = protocol.system_prompt if chat.system_prompt is None else chat.system_prompt
    return chat.model_copy(
        update={
            "instruction": None if protocol.question_only else instruction,
            "system_prompt": system,
        }
    )


def _held_out_set(context: StageContext) -> list[ProblemSet]:
    """One set of the held-out problems of `evaluate.input` (all of its problems, if none is held
    out) or of the pool; empty if there are none."""
    config: EvaluateConfig = context.config
    if config.input is not None:
        available = read_records(Path(config.input), Problem)
    elif "pool" in context.inputs:
        available = context.load(Problem, "pool")
    else:
        return []
    problems = [problem for problem in available if problem.split is Split.HELDOUT]
    if config.input is not None and not problems:
        problems = available
    problems.sort(key=lambda problem: item_seed(context.recipe.seed, "evaluate", problem.id))
    chosen = sorted(problems[: config.max_problems], key=lambda problem: problem.id)
    return [ProblemSet(name=Split.HELDOUT.value, problems=tuple(chosen))] if chosen else []


def _stored_sets(config: EvaluateConfig) -> list[ProblemSet]:
    """The problems of the files of stored samples."""
    sets: dict[str, ProblemSet] = {}
    for index, arm in enumerate(config.arms):
        if arm.samples is None:
            continue
        stored = read_stored(arm.samples, setting=f"evaluate.arms.{index}.samples")
        name = Path(arm.samples).stem
        problems = stored_problems(stored, benchmark=name)
        known_ids = {problem_id for _, problem_id in problems_by_id(sets.values())}
        new = tuple(problem for problem in problems if problem.id not in known_ids)
        if new:
            sets[name] = ProblemSet(name=name, problems=new, dropped=stored.dropped)
    return _join_sets(list(sets.values()))


def _join_sets(sets: list[ProblemSet]) -> list[ProblemSet]:
    """One set of all problems, named after the first: the files are samples of the same set."""
    if len(sets) < 2:
        return sets
    problems = sorted(problems_by_id(sets).values(), key=lambda problem: problem.id)
    dropped = tuple(drop for problem_set in sets for drop in problem_set.dropped)
    return [replace(sets[0], problems=tuple(problems), dropped=dropped)]
