"""The evaluation sets that training data is checked against.

load_sets(config, heldout, seed=0, setting="filter.contamination")[0].name == "held-out"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.data.load import load_benchmark
from slowthink.recipe import ContaminationConfig
from slowthink.records import Problem

HELDOUT = "held-out"


@dataclass(frozen=True)
class EvaluationItem:
    """One test problem."""

    benchmark: str
    id: str
    """Its id or row in the benchmark."""
    text: str


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """All problems of one evaluation set."""

    name: str
    items: tuple[EvaluationItem, ...]
    source: Mapping[str, Any]
    """Origin of the rows: path and sha256, or Hub id and revision."""


def load_sets(
    config: ContaminationConfig, heldout: Sequence[Problem], *, seed: int, setting: str
) -> list[EvaluationSet]:
    """The pool's held-out problems, if there are any, and the benchmarks of the settings. Raises
    the errors of `load_benchmark`."""
    sets = [build_set(HELDOUT, heldout, {"stage": "pool"}, config)] if heldout else []
    for index, benchmark in enumerate(config.benchmarks):
        loaded = load_benchmark(benchmark, seed=seed, setting=f"{setting}.benchmarks.{index}")
        sets.append(build_set(loaded.name, loaded.problems, loaded.source, config))
    return sets


def compared_text(problem: Problem, config: ContaminationConfig) -> str:
    """The text to compare: the question, and unless the preset is s1 its options."""
    if config.preset == "s1":
        return problem.question
    return "\n".join((problem.question, *problem.choices))


def build_set(
    name: str, problems: Iterable[Problem], source: Mapping[str, Any], config: ContaminationConfig
) -> EvaluationSet:
    """The problems as an evaluation set, sorted by text."""
    items = [EvaluationItem(name, p.source_row or p.id, compared_text(p, config)) for p in problems]
    ordered = sorted(items, key=lambda item: (item.text, item.id))
    return EvaluationSet(name=name, items=tuple(ordered), source=source)
