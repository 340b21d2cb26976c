"""The funnel: the problems that remain, and what each step dropped.

funnel.drop("quality: image", [Dropped(id="p-…", step="quality: image", reason="…")])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.pipeline.contract import StageContext, Step, funnel_step
from slowthink.records import Dropped, Problem


@dataclass
class Funnel:
    """Problems that remain, those that were dropped, the steps so far, and the stage's facts."""

    problems: list[Problem]
    dropped: list[Dropped] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def drop(self, step: str, dropped: Sequence[Dropped]) -> None:
        """Drop these problems, as one step of the funnel."""
        ids = {drop.id for drop in dropped}
        self.steps.append(funnel_step(step, len(self.problems), dropped))
        self.problems = [problem for problem in self.problems if problem.id not in ids]
        self.dropped.extend(dropped)


def start_funnel(problems: Sequence[Problem]) -> Funnel:
    """The funnel after its first step, which drops repeated ids."""
    by_id: dict[str, Problem] = {}
    dropped = [
        Dropped(id=problem.id, step="read", reason="the same question again")
        for problem in problems
        if by_id.setdefault(problem.id, problem) is not problem
    ]
    step = funnel_step("read", len(problems), dropped)
    return Funnel(list(by_id.values()), dropped, [step])


FilterStep = Callable[[Funnel, StageContext], None]
"""Changes the funnel according to the settings in the context."""
