"""The problems that are tested on, for the stages that keep them out of training.

exam_sets(config, heldout, seed=0, setting="filter.contamination")[0].name == "held-out"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from slowthink.curation.overlap.certificate import EvaluationSet
from slowthink.curation.overlap.contamination import EvaluationItem
from slowthink.data.load import load_benchmark
from slowthink.recipe import ContaminationConfig
from slowthink.records import Problem

HELDOUT = "held-out"


def exam_sets(
    config: ContaminationConfig, heldout: Sequence[Problem], *, seed: int, setting: str
) -> list[EvaluationSet]:
    """The pool's held-out problems, where there are any, then the named sets; raises as
    `load_benchmark`."""
    sets = [_set(HELDOUT, heldout, {"stage": "pool"}, config)] if heldout else []
    for number, one in enumerate(config.benchmarks):
        found = load_benchmark(one, seed=seed, setting=f"{setting}.benchmarks.{number}")
        sets.append(_set(found.name, found.problems, found.source, config))
    return sets


def text_of(problem: Problem, config: ContaminationConfig) -> str:
    """What is compared: the question, and in the strict form its options too."""
    if config.preset == "s1":
        return problem.question
    return "\n".join((problem.question, *problem.choices))


def _set(
    name: str, problems: Iterable[Problem], source: dict[str, Any], config: ContaminationConfig
) -> EvaluationSet:
    items = [
        EvaluationItem(name, one.source_row or one.id, text_of(one, config)) for one in problems
    ]
    ordered = sorted(items, key=lambda item: (item.text, item.id))
    return EvaluationSet(name=name, items=tuple(ordered), source=source)
