"""Where the filter stands: the problems still in, and what was done to the others, step by step.

funnel.drop("quality: image", [Dropped(id="p-…", step="quality: image", reason="…")])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.pipeline.contract import StageContext, Step, step_of
from slowthink.records import Dropped, Problem


@dataclass
class Funnel:
    """Problems that are still in, and what has been done to the others."""

    problems: list[Problem]
    dropped: list[Dropped] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def drop(self, step: str, dropped: Sequence[Dropped]) -> None:
        """Take these problems out, as one step of the funnel."""
        gone = {drop.id for drop in dropped}
        self.steps.append(step_of(step, len(self.problems), dropped))
        self.problems = [problem for problem in self.problems if problem.id not in gone]
        self.dropped.extend(dropped)


def start(problems: Sequence[Problem]) -> Funnel:
    """The funnel's first step: from here on an id is one problem."""
    first: dict[str, Problem] = {}
    dropped = [
        Dropped(id=problem.id, step="read", reason="the same question again")
        for problem in problems
        if first.setdefault(problem.id, problem) is not problem
    ]
    step = step_of("read", len(problems), dropped)
    return Funnel(list(first.values()), dropped, [step])


FilterStep = Callable[[Funnel, StageContext], None]
"""Takes problems out of the funnel, by the settings in the context."""
