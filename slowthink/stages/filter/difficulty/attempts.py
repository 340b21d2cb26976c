"""Sources of attempts, a model or a file, and the table of the attempts of models.

Attempt(id="difficulty|smollm2-135m|p-…|0", thinking="…", response="Final Answer: 42", …)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from slowthink.data.stored.grading import match_problems, reorder_options
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import StoredSample, select_model
from slowthink.data.tables import RecordWriter
from slowthink.engines.session import Point, Session
from slowthink.grading import GradeItem, Grader
from slowthink.recipe import AttemptModel, DifficultyStep, Recipe
from slowthink.records import Budget, Problem, Sampling
from slowthink.sampling.attempts import AttemptTracker, GradedAttempt, ModelSource, Waves
from slowthink.sampling.provenance import provenance, sampled_text, token_use
from slowthink.sampling.sampler import Sampler, Task, make_tasks
from slowthink.stage_rows import Attempt
from slowthink.stages.filter.difficulty.band import BandDecision
from slowthink.stages.filter.difficulty.cost import attempt_settings

ROWS_PER_BATCH = 256
"""Attempts that are read from the ledger and written at a time."""


def make_first_tasks(
    session: Session, problems: Sequence[Problem], model: AttemptModel,
    *, step: DifficultyStep, recipe: Recipe, fitted_cap: int,
) -> list[Task]:  # fmt: skip
    """The first attempt at each problem; further ones differ in the sample index only."""
    thinking, answer, temperature = attempt_settings(model, step, fitted_cap=fitted_cap)
    return make_tasks(
        session, problems, recipe=recipe, chat=model.chat,
        budget=Budget(max_thinking_tokens=thinking, answer_tokens=answer),
        sampling=Sampling(temperature=temperature), points=[Point(cap=thinking)],
    )  # fmt: skip


def write_attempts(
    table: RecordWriter, source: ModelSource, sampler: Sampler,
    trackers: Mapping[str, AttemptTracker[BandDecision]],
    *, step: str, model: str, revision: str | None,
) -> None:  # fmt: skip
    """Write the attempts that were processed, in order of problem and index, with their texts from
    the ledger; attempts that were not needed are left out."""
    keys = [
        (id, index)
        for id, tracker in sorted(trackers.items())
        for index in range(len(tracker.grades))
    ]
    for start in range(0, len(keys), ROWS_PER_BATCH):
        batch = keys[start : start + ROWS_PER_BATCH]
        tasks = [source.make_task(id, index) for id, index in batch]
        rows = []
        completions = sampler.complete(tasks)
        for (id, index), task, (completion,) in zip(batch, tasks, completions, strict=True):
            text = sampled_text(task, completion)
            origin = provenance(task, completion, sampler.session, model=model, revision=revision)
            row = Attempt(
                id=f"{step}|{model}|{id}|{index}", problem_id=id, step=step, model=model,
                sample=index, thinking=text.thinking, response=text.response,
                truncated=text.truncated, grade=trackers[id].grades[index],
                num_tokens=token_use(completion).num_tokens, completion_key=completion.key,
                chain_key=completion.chain_key,
                provenance=json.dumps(origin, sort_keys=True, ensure_ascii=False),
            )  # fmt: skip
            rows.append(row)
        table.write(rows)


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
