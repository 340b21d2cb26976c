"""Model, ledger, grader and settings of the arm with which parallel methods sample.

`ParallelContext(max_thinking_tokens=96, sampling=Sampling(temperature=0.8), tag="scorer", …)`
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from slowthink.analysis.statistics import NUM_RESAMPLES
from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError
from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.recipe import ChatConfig, ForcingConfig, Recipe
from slowthink.records import Completion, Grade, Problem, Sampling, Verdict
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task, grade_completion, make_tasks


@dataclass(frozen=True, kw_only=True)
class ParallelContext:
    """A loaded model, one arm's settings, and a grader."""

    session: Session
    ledger: Ledger
    grader: Grader
    recipe: Recipe
    chat: ChatConfig
    """Those of the evaluation, so that its cached samples are reused."""
    forcing: ForcingConfig
    max_thinking_tokens: int
    """The arm's largest cap."""
    sampling: Sampling
    tag: str = "parallel"
    """The ledger counts tokens under this."""
    num_resamples: int = NUM_RESAMPLES
    progress: Callable[[int, int], None] = lambda done, total: None

    def require_temperature(self, method: str) -> None:
        """Raise ConfigError at temperature 0, where all samples are equal."""
        if not self.sampling.temperature:
            raise ConfigError(
                f"evaluate.parallel: {method} at temperature 0, where all samples are equal; "
                "expected a protocol that samples. Name one with a temperature above 0."
            )

    def sampler(self) -> Sampler:
        """Return a sampler with this model and ledger."""
        return Sampler(self.session, self.ledger, tag=self.tag, progress=self.progress)

    def tasks(self, problem: Problem, *, num_samples: int) -> list[Task]:
        """Tasks of samples 0, 1, … of a problem at the largest cap: the same as the arm's."""
        return make_tasks(
            self.session,
            [problem],
            recipe=self.recipe,
            chat=self.chat,
            budget=self.forcing.budget(self.max_thinking_tokens, 0, language=problem.language),
            sampling=self.sampling,
            points=[Point(self.max_thinking_tokens, steps=self.forcing.max_thinking_steps)],
            num_samples=num_samples,
        )

    def grade(self, problem: Problem, completion: Completion) -> Grade:
        """Grade a completion by the rules."""
        return grade_completion(self.grader, problem, completion)


def num_completion_tokens(completion: Completion) -> int:
    """Number of tokens after the prompt: thinking, closing and answer."""
    parts = (completion.thinking_ids, completion.closing_ids, completion.answer_ids)
    return sum(map(len, parts))


def votes_for(
    grades: Sequence[Grade], grader: Grader, *, choices: Sequence[str] = ()
) -> list[Hashable | None]:
    """Return the votes of answers to one problem: equal values for equivalent answers, None for a
    missing or truncated one.

    A right and a wrong answer never get the same vote. Grouping alone could not tell them apart: it
    does not read the question, which may say whether the order of a list matters.
    """
    texts = [
        grade.extracted if grade.verdict in (Verdict.CORRECT, Verdict.WRONG) else None
        for grade in grades
    ]
    groups = group_answers(texts, grader, choices=choices)
    return [
        None if group is None else (group, grade.verdict is Verdict.CORRECT)
        for group, grade in zip(groups, grades, strict=True)
    ]
