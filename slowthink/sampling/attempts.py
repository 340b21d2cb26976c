"""Attempts at problems: requested in waves, processed strictly in order, until a rule has decided.

The difficulty step and the teachers of `trace` share this: results are the same whatever the order
in which attempts complete, and attempts in the ledger are reused.

run_attempts(source, {"p-…": AttemptTracker(rule)})  # sets decision and grades
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from slowthink.records import Completion, Grade, ThinkingEnd, Verdict
from slowthink.sampling.sampler import Sampler, Task

D = TypeVar("D")
D_co = TypeVar("D_co", covariant=True)
Waves = Sequence[tuple[str, range]]
"""Pairs of a problem's id and the indices of the attempts to make at it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of a problem's attempts so far."""

    num_correct: int = 0
    num_counted: int = 0
    """Attempts in the denominator of the pass rate."""
    num_seen: int = 0
    """All attempts."""

    def add(self, grade: Grade, *, truncated_counts: bool) -> Tally:
        """The tally with one more attempt."""
        is_truncated = grade.verdict is Verdict.TRUNCATED
        counts = truncated_counts if is_truncated else grade.verdict.is_counted
        is_correct = grade.verdict is Verdict.CORRECT
        return Tally(self.num_correct + is_correct, self.num_counted + counts, self.num_seen + 1)


class AttemptRule(Protocol[D_co]):
    """When enough attempts have been made at a problem, and the decision on it."""

    @property
    def num_attempts(self) -> int:
        """Maximum number of attempts."""

    def decide(self, tally: Tally, grades: Sequence[Grade]) -> D_co | None:
        """The decision after these attempts, in order; None if more are needed."""

    def min_further(self, tally: Tally) -> int:
        """Number of further attempts needed in any case, at least 1."""


class AttemptTracker(Generic[D]):
    """One problem's attempts: requested in waves, processed strictly in order of their index.

    An attempt that completes early is held back until all before it are complete, since short
    attempts complete first and are more often correct. Attempts that complete after the decision
    are wasted and change nothing.
    """

    def __init__(
        self, rule: AttemptRule[D], *, wave_size: int = 1, truncated_counts: bool = True
    ) -> None:
        self.rule = rule
        self.decision: D | None = None
        self.tally = Tally()
        self.grades: list[Grade] = []
        """Grades of the attempts processed, in order."""
        self.num_requested = 0
        self.num_wasted = 0
        """Number of attempts that completed and were not needed."""
        self._wave_size = wave_size
        self._truncated_counts = truncated_counts
        self._held_back: dict[int, Grade] = {}

    @property
    def outstanding(self) -> range:
        """Indices of the attempts that are requested and not yet processed."""
        return range(self.tally.num_seen, self.num_requested)

    def next_wave(self) -> range:
        """Indices of the attempts to request now; empty while some are outstanding or once the
        problem is decided."""
        if self.decision is not None or self.outstanding:
            return range(0)
        size = max(self.rule.min_further(self.tally), self._wave_size)
        stop = min(self.num_requested + size, self.rule.num_attempts)
        wave = range(self.num_requested, stop)
        self.num_requested = stop
        return wave

    def add(self, index: int, grade: Grade) -> None:
        """Add an attempt that is complete."""
        if self.decision is not None:
            self.num_wasted += 1
            return
        self._held_back[index] = grade
        while self.decision is None and self.tally.num_seen in self._held_back:
            next_grade = self._held_back.pop(self.tally.num_seen)
            self.grades.append(next_grade)
            self.tally = self.tally.add(next_grade, truncated_counts=self._truncated_counts)
            self.decision = self.rule.decide(self.tally, self.grades)
        if self.decision is not None:
            self.num_wasted += len(self._held_back)
            self._held_back.clear()


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
    trackers: Mapping[str, AttemptTracker[Any]],
    *,
    max_running: Callable[[int], int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Request attempts, wave after wave, until each problem is decided.

    A problem's next wave is requested as soon as its last one is complete, independent of the other
    problems. `max_running`: takes the number of decided problems and returns how many others may
    run now; they are started in the order of `trackers`, and those that it never lets start stay
    undecided.
    """
    waiting, num_running, num_decided = deque(trackers), 0, 0
    ids: list[str] = []
    while True:
        room = max_running(num_decided) - num_running if max_running else len(waiting)
        started = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        ids, num_running = [*ids, *started], num_running + len(started)
        waves = [(id, trackers[id].next_wave()) for id in sorted(ids)]
        source.submit([(id, wave) for id, wave in waves if wave])
        progress(num_decided, len(trackers))
        attempts = source.completed()
        if not attempts:
            return
        ids = list(dict.fromkeys(attempt.problem_id for attempt in attempts))
        undecided = [id for id in ids if trackers[id].decision is None]
        for attempt in attempts:
            trackers[attempt.problem_id].add(attempt.index, attempt.grade)
        for id in ids:
            if trackers[id].decision is not None:
                source.cancel(id, trackers[id].outstanding)
        num_new = sum(trackers[id].decision is not None for id in undecided)
        num_running, num_decided = num_running - num_new, num_decided + num_new


class ModelSource:
    """Attempts of a session's model; attempts in the ledger are reused."""

    def __init__(
        self,
        sampler: Sampler,
        first_tasks: Sequence[Task],
        grade: Callable[[Task, Completion], Grade],
    ) -> None:
        """`first_tasks` has the first attempt at each problem; further ones differ in the sample
        index only. `grade` is called once for each completed attempt."""
        self.queue = sampler.task_queue()
        self.num_violations = 0
        self.num_cut_off = 0
        """Attempts whose thinking ended at the cap."""
        self.num_tokens: dict[tuple[str, int], int] = {}
        """Tokens of each completed attempt, by problem id and index."""
        self._grade = grade
        self._first_tasks = {task.problem.id: task for task in first_tasks}
        self._outstanding: dict[tuple[str, int], Task] = {}
        self._key_by_task: dict[int, tuple[str, int]] = {}
        """id(task) → problem id and index of the attempt."""

    def submit(self, waves: Waves) -> None:
        """Request attempts."""
        tasks = {
            (problem_id, index): self.make_task(problem_id, index)
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
        return [self._process(task, completion) for task, (completion,) in self.queue.completed()]

    def make_task(self, problem_id: str, index: int) -> Task:
        """The task of an attempt."""
        first = self._first_tasks[problem_id]
        sample = index if first.request.sampling.temperature else 0
        return replace(first, request=replace(first.request, sample=sample))

    def _process(self, task: Task, completion: Completion) -> GradedAttempt:
        self.num_violations += bool(completion.violations)
        self.num_cut_off += completion.thinking_end is ThinkingEnd.CAP
        problem_id, index = self._key_by_task.pop(id(task))
        del self._outstanding[problem_id, index]
        num_tokens = len(completion.thinking_ids) + len(completion.answer_ids)
        self.num_tokens[problem_id, index] = num_tokens
        return GradedAttempt(problem_id, index, self._grade(task, completion))
