"""What the live methods sample with: one arm's model and prompt settings, the ledger, a grader.

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
from slowthink.sampling.parallel.votes import Sample
from slowthink.sampling.sampler import Sampler, Task, grade_completion, make_tasks


@dataclass(frozen=True, kw_only=True)
class ParallelContext:
    """A model that is ready, how it is asked, and who grades."""

    session: Session
    ledger: Ledger
    grader: Grader
    recipe: Recipe
    chat: ChatConfig
    """As the set and the protocol have it, so that stored samples are found again."""
    forcing: ForcingConfig
    max_thinking_tokens: int
    """The arm's largest cap."""
    sampling: Sampling
    tag: str = "parallel"
    """Under what the ledger counts the tokens."""
    num_resamples: int = NUM_RESAMPLES
    progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def seed(self) -> int:
        """The recipe's."""
        return self.recipe.seed

    def require_draws(self, what: str) -> None:
        """Raise ConfigError where sampling is greedy, so that all draws would be equal."""
        if not self.sampling.temperature:
            raise ConfigError(
                f"evaluate.parallel: {what} at temperature 0, where all samples are equal; "
                "expected a protocol that draws. Name one with a temperature above 0."
            )

    def sampler(self) -> Sampler:
        """Completions out of the ledger, or of the model."""
        return Sampler(self.session, self.ledger, tag=self.tag, progress=self.progress)

    def tasks(self, problem: Problem, *, num_samples: int) -> list[Task]:
        """Samples 0, 1, … of a problem at the largest cap: those that the arm itself draws."""
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
        """The rules' verdict on its answer part."""
        return grade_completion(self.grader, problem, completion)


def num_completion_tokens(completion: Completion) -> int:
    """All tokens after the prompt: thinking, closing and answer."""
    parts = (completion.thinking_ids, completion.closing_ids, completion.answer_ids)
    return sum(map(len, parts))


def votes_for(
    grades: Sequence[Grade], grader: Grader, *, choices: Sequence[str] = ()
) -> list[Hashable | None]:
    """What each answer to one problem votes for: equal for equivalent ones, None for one cut off or
    missing.

    A right and a wrong answer are never the same vote: grouping knows less than the grader, who
    reads the question (whether the order of a list matters).
    """
    texts = [
        grade.extracted if grade.verdict in (Verdict.CORRECT, Verdict.WRONG) else None
        for grade in grades
    ]
    numbers = group_answers(texts, grader, choices=choices)
    return [
        None if number is None else (number, grade.verdict is Verdict.CORRECT)
        for number, grade in zip(numbers, grades, strict=True)
    ]


def make_sample(
    vote: Hashable | None, grade: Grade, *, tokens: int, score: float | None = None
) -> Sample:
    """One graded answer as a sample that votes."""
    correct = grade.verdict is Verdict.CORRECT
    return Sample(answer=vote, correct=correct, num_tokens=tokens, score=score)
