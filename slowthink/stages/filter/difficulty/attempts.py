"""Sources of attempts (a model or a file), and the loop that requests them.

run_attempts(source, {"p-…": AttemptTracker(PassRateRule(band))})  # sets decision and grades
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
from slowthink.records import Budget, Completion, Grade, Problem, Sampling, ThinkingEnd
from slowthink.sampling.sampler import Sampler, Task, grade_completion, make_tasks
from slowthink.stages.filter.difficulty.cost import attempt_settings
from slowthink.stages.filter.difficulty.stopping import AttemptTracker

Waves = Sequence[tuple[str, range]]
"""Pairs of a problem's id and the indices of the attempts to make at it."""


@dataclass(frozen=True, slots=True)
class GradedAttempt:
    """One graded attempt."""

    problem_id: str
    index: int
    grade: Grade


class AttemptSource(Protocol):
    """Makes attempts and returns them in any order."""

    def submit(self, waves: Waves) -> None:
        """Request attempts."""

    def cancel(self, problem_id: str, indices: Iterable[int]) -> None:
        """Cancel attempts that are no longer needed."""

    def completed(self) -> list[GradedAttempt]:
        """Attempts completed since the last call. Blocks for the first; [] if none is requested."""


def run_attempts(
    source: AttemptSource,
    trackers: Mapping[str, AttemptTracker],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Request attempts, wave after wave, until each problem is decided.

    A problem's next wave is requested as soon as its last one is complete, independent of the other
    problems.
    """
    ids: Iterable[str] = trackers
    while True:
        waves = [(id, trackers[id].next_wave()) for id in sorted(ids)]
        source.submit([(id, wave) for id, wave in waves if wave])
        num_open = sum(tracker.decision is None for tracker in trackers.values())
        progress(len(trackers) - num_open, len(trackers))
        attempts = source.completed()
        if not attempts:
            return
        ids = dict.fromkeys(attempt.problem_id for attempt in attempts)
        for attempt in attempts:
            trackers[attempt.problem_id].add(attempt.index, attempt.grade)
        for id in ids:
            if trackers[id].decision is not None:
                source.cancel(id, trackers[id].outstanding)


class ModelSource:
    """Attempts of a session's model; attempts in the ledger are reused."""

    def __init__(self, sampler: Sampler, grader: Grader, first_tasks: Sequence[Task]) -> None:
        """`first_tasks` has the first attempt at each problem."""
        self.queue = sampler.task_queue()
        self.num_violations = 0
        self.num_cut_off = 0
        """Attempts whose thinking ended at the cap."""
        self.num_tokens: dict[tuple[str, int], int] = {}
        """Tokens of each completed attempt, by problem id and index."""
        self._grader = grader
        self._first_tasks = {task.problem.id: task for task in first_tasks}
        self._outstanding: dict[tuple[str, int], Task] = {}
        self._key_by_task: dict[int, tuple[str, int]] = {}
        """id(task) → problem id and index of the attempt."""

    def submit(self, waves: Waves) -> None:
        """Request attempts."""
        tasks = {
            (problem_id, index): self._make_task(problem_id, index)
            for problem_id, wave in waves
            for index in wave
        }
        self._outstanding |= tasks
        self._key_by_task |= {id(task): key for key, task in tasks.items()}
        self.queue.submit(list(tasks.values()))

    def cancel(self, problem_id: str, indices: Iterable[int]) -> None:
        """Cancel those of these attempts that are not completed."""
        keys = [(problem_id, index) for index in indices]
        self.queue.cancel([self._outstanding[key] for key in keys if key in self._outstanding])

    def completed(self) -> list[GradedAttempt]:
        """Attempts completed since the last call, graded."""
        return [self._grade(task, completion) for task, (completion,) in self.queue.completed()]

    def _make_task(self, problem_id: str, index: int) -> Task:
        first = self._first_tasks[problem_id]
        sample = index if first.request.sampling.temperature else 0
        return replace(first, request=replace(first.request, sample=sample))

    def _grade(self, task: Task, completion: Completion) -> GradedAttempt:
        self.num_violations += bool(completion.violations)
        self.num_cut_off += completion.thinking_end is ThinkingEnd.CAP
        problem_id, index = self._key_by_task.pop(id(task))
        del self._outstanding[problem_id, index]
        num_tokens = len(completion.thinking_ids) + len(completion.answer_ids)
        self.num_tokens[problem_id, index] = num_tokens
        grade = grade_completion(self._grader, task.problem, completion)
        return GradedAttempt(problem_id, index, grade)


def make_first_tasks(
    session: Session, problems: Sequence[Problem], model: AttemptModel,
    *, step: DifficultyStep, recipe: Recipe,
) -> list[Task]:  # fmt: skip
    """The first attempt at each problem; further ones differ in the sample index only."""
    thinking, answer, temperature = attempt_settings(model, step)
    return make_tasks(
        session, problems, recipe=recipe, chat=model.chat,
        budget=Budget(max_thinking_tokens=thinking, answer_tokens=answer),
        sampling=Sampling(temperature=temperature), points=[Point(cap=thinking)],
    )  # fmt: skip


class RecordedSource:
    """Attempts recorded in a file; they are graded when they are requested."""

    def __init__(self, samples: Mapping[str, Sequence[GradeItem]], grader: Grader) -> None:
        self._samples = samples
        self._grader = grader
        self._pending: list[tuple[str, int]] = []

    def submit(self, waves: Waves) -> None:
        """Request attempts."""
        self._pending += [(id, index) for id, wave in waves for index in wave]

    def cancel(self, problem_id: str, indices: Iterable[int]) -> None:
        """Does nothing: all requested attempts are completed already."""

    def completed(self) -> list[GradedAttempt]:
        """All requested attempts."""
        pending, self._pending = self._pending, []
        grades = self._grader.grade_many(self._samples[id][index] for id, index in pending)
        return [
            GradedAttempt(id, index, grade)
            for (id, index), grade in zip(pending, grades, strict=True)
        ]  # fmt: skip


def read_recorded_samples(
    path: str,
    problems: Sequence[Problem],
    *,
    num_attempts: int,
    model: str | None = None,
    last_number: bool = False,
) -> dict[str, list[GradeItem]]:
    """The file's first `num_attempts` samples of each problem, by problem id. Problems with fewer
    samples are left out, and so are the samples of other models if `model` is given."""
    stored = read_stored(path, setting="filter.difficulty.models.N.samples")
    stored = select_model(stored, model=model) if model is not None else stored
    problem_of = match_problems(stored, problems)
    samples_of: dict[str, list[StoredSample]] = {}
    for sample in stored.samples:
        if sample.problem_id in problem_of:
            samples_of.setdefault(problem_of[sample.problem_id].id, []).append(sample)
    by_id = {problem.id: problem for problem in problems}
    return {
        id: [
            GradeItem(
                problem=reorder_options(by_id[id], sample.choices), answer_text=sample.response,
                truncated=bool(sample.truncated), last_number=last_number,
            )
            for sample in sorted(samples, key=lambda sample: sample.sample)[:num_attempts]
        ]
        for id, samples in sorted(samples_of.items())
        if len(samples) >= num_attempts
    }  # fmt: skip
