"""Where attempts come from, a model or a file, and how they are followed until all is decided.

drive(source, {"p-…": Follow(Exact(band))})    then each Follow has its outcome and its grades
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from slowthink.data.stored.grading import match_problems, reorder_options
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import StoredSample, select_model
from slowthink.engines.session import Point, Session
from slowthink.grading import GradeItem, Grader
from slowthink.recipe import AttemptModel, DifficultyStep, Recipe
from slowthink.records import Budget, Completion, Grade, Problem, Sampling
from slowthink.sampling.sampler import Sampler, Task, grade_completion, make_tasks
from slowthink.stages.filter.difficulty.cost import settings_of
from slowthink.stages.filter.difficulty.stopping import AttemptTracker


@dataclass(frozen=True, slots=True)
class Returned:
    """One attempt that has come back."""

    problem_id: str
    number: int
    grade: Grade


class Source(Protocol):
    """Gives attempts in any order."""

    def submit(self, wanted: Sequence[tuple[str, range]]) -> None:
        """Ask for these numbers of these problems' attempts."""

    def cancel(self, problem_id: str, numbers: Iterable[int]) -> None:
        """They are not needed any more."""

    def returned(self) -> list[Returned]:
        """What has come since the last call; waits for something. Empty: nothing is outstanding."""


def run_attempts(
    source: Source,
    follows: Mapping[str, AttemptTracker],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Ask for attempts, wave after wave of each problem, until each is decided or at its limit.

    A problem's next wave goes out as soon as its last one is in, whatever the others do.
    """
    source.submit([(one, wave) for one in sorted(follows) if (wave := follows[one].next_wave())])
    num_open = sum(follow.outcome is None for follow in follows.values())
    progress(len(follows) - num_open, len(follows))
    while found := source.returned():
        touched = dict.fromkeys(one.problem_id for one in found)
        for one in found:
            follows[one.problem_id].put(one.number, one.grade)
        for problem_id in touched:
            follow = follows[problem_id]
            if follow.outcome is not None:
                source.cancel(problem_id, follow.outstanding)
        waves = [(one, follows[one].next_wave()) for one in sorted(touched)]
        source.submit([(one, wave) for one, wave in waves if wave])
        num_open = sum(follow.outcome is None for follow in follows.values())
        progress(len(follows) - num_open, len(follows))


class ModelSource:
    """A session's attempts, out of the ledger where it has them."""

    def __init__(self, sampler: Sampler, grader: Grader, firsts: Sequence[Task]) -> None:
        """`firsts`: the first attempt at each problem."""
        self.feed = sampler.task_queue()
        self.num_violations = 0
        self.num_tokens: dict[tuple[str, int], int] = {}
        """Of each attempt that has come, by problem and number."""
        self._grader = grader
        self._firsts = {task.problem.id: task for task in firsts}
        self._outstanding: dict[tuple[str, int], Task] = {}
        self._places: dict[int, tuple[str, int]] = {}

    def submit(self, wanted: Sequence[tuple[str, range]]) -> None:
        """Ask for them."""
        new = {(one, number): self._task(one, number) for one, wave in wanted for number in wave}
        self._outstanding |= new
        self._places |= {id(task): place for place, task in new.items()}
        self.feed.submit(list(new.values()))

    def cancel(self, problem_id: str, numbers: Iterable[int]) -> None:
        """Take back what has not come."""
        places = [(problem_id, number) for number in numbers]
        self.feed.cancel([self._outstanding[one] for one in places if one in self._outstanding])

    def returned(self) -> list[Returned]:
        """What has come, graded."""
        return [self._graded(task, completion) for task, completion in self.feed.completed()]

    def _task(self, problem_id: str, number: int) -> Task:
        first = self._firsts[problem_id]
        sample = number if first.request.sampling.temperature else 0
        return replace(first, request=replace(first.request, sample=sample))

    def _graded(self, task: Task, completion: Completion) -> Returned:
        self.num_violations += bool(completion.violations)
        problem_id, number = self._places.pop(id(task))
        del self._outstanding[problem_id, number]
        num_tokens = len(completion.thinking_ids) + len(completion.answer_ids)
        self.num_tokens[problem_id, number] = num_tokens
        grade = grade_completion(self._grader, task.problem, completion)
        return Returned(problem_id, number, grade)


def first_tasks(
    session: Session, problems: Sequence[Problem], model: AttemptModel,
    *, step: DifficultyStep, recipe: Recipe,
) -> list[Task]:  # fmt: skip
    """The first attempt at each problem; the others differ in their number alone."""
    thinking, answer, temperature = settings_of(model, step)
    return make_tasks(
        session, problems, recipe=recipe, chat=model.chat,
        budget=Budget(max_thinking_tokens=thinking, answer_tokens=answer),
        sampling=Sampling(temperature=temperature), points=[Point(cap=thinking)],
    )  # fmt: skip


class RecordedSource:
    """Attempts that a file has, graded when asked for."""

    def __init__(self, samples: Mapping[str, Sequence[GradeItem]], grader: Grader) -> None:
        self._samples = samples
        self._grader = grader
        self._wanted: list[tuple[str, int]] = []

    def submit(self, wanted: Sequence[tuple[str, range]]) -> None:
        """Ask for them."""
        self._wanted += [(one, number) for one, wave in wanted for number in wave]

    def cancel(self, problem_id: str, numbers: Iterable[int]) -> None:
        """All that was asked for has been given."""

    def returned(self) -> list[Returned]:
        """All that was asked for."""
        wanted, self._wanted = self._wanted, []
        grades = self._grader.grade_many(self._samples[one][number] for one, number in wanted)
        return [
            Returned(one, number, grade)
            for (one, number), grade in zip(wanted, grades, strict=True)
        ]


def recorded(
    path: str,
    problems: Sequence[Problem],
    *,
    num_attempts: int,
    model: str | None = None,
    last_number: bool = False,
) -> dict[str, list[GradeItem]]:
    """The file's samples (of one model, where it is named) of these problems, in order of number;
    of those problems that have enough."""
    stored = read_stored(path, setting="filter.difficulty.models.N.samples")
    stored = select_model(stored, model=model) if model is not None else stored
    problem_of = match_problems(stored, problems)
    found: dict[str, list[StoredSample]] = {}
    for sample in stored.samples:
        if sample.problem_id in problem_of:
            found.setdefault(problem_of[sample.problem_id].id, []).append(sample)
    by_id = {problem.id: problem for problem in problems}
    return {
        one: [
            _item(by_id[one], sample, last_number=last_number)
            for sample in sorted(samples, key=_place)[:num_attempts]
        ]
        for one, samples in sorted(found.items())
        if len(samples) >= num_attempts
    }


def _place(sample: StoredSample) -> int:
    return sample.sample


def _item(problem: Problem, sample: StoredSample, *, last_number: bool) -> GradeItem:
    return GradeItem(
        problem=reorder_options(problem, sample.choices), answer_text=sample.response,
        truncated=bool(sample.truncated), last_number=last_number,
    )  # fmt: skip
