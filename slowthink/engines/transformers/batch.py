"""A batch of jobs: each thinks in a slot of the cache, and then gives its answers there.

    batch = Batch(jobs, Model(decoder=…, compiler=…))
    for _ in batch.run():              # yields after each decoding step
        store(batch.results())         # results since the last call

The answers of a job branch off its thinking from the longest cut to the shortest, so that each
finds the keys and values of its cut where the thinking left them.

The cost of a result is that of the tokens in it, so a killed process loses only later tokens. With
`next_jobs`, new jobs join as others finish, and the batch stays full. Without, the batch is fixed,
and the same jobs give the same tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from slowthink.engines.session import (
    Branch,
    Compiler,
    Job,
    JobInProgress,
    JobResult,
    draw_uniform,
    max_job_tokens,
)
from slowthink.engines.transformers.decoding import Decoder, DecodingRow
from slowthink.forcing.machine import AnswerMachine, ForcingMachine
from slowthink.records import Cost, Request


@dataclass(frozen=True, kw_only=True)
class DecodingModel:
    """A decoder with the compiled formats of its tokenizer."""

    decoder: Decoder
    compiler: Compiler


@dataclass(kw_only=True)
class _BatchedJob:
    """A job in progress: its thinking, then one answer at a time."""

    state: JobInProgress
    next_answers: list[tuple[int, Branch]] = field(default_factory=list)
    """Answers to generate, with the number of cached tokens that each keeps; the last is next."""
    answer: tuple[Branch, AnswerMachine] | None = None
    """The answer that is being decoded."""
    done: bool = False

    @property
    def unfinished_cost(self) -> Cost:
        """Tokens of the answer that is being decoded."""
        if self.answer is None:
            return Cost()
        branch, machine = self.answer
        return Cost(decoded=len(machine.ids), forced=len(branch.closing))


class Batch:
    """A batch of jobs; see the module's docstring.

    `next_jobs(num_jobs, num_running)` returns at most `num_jobs` jobs that join the batch;
    `num_running` rows stay in it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        model: DecodingModel,
        *,
        next_jobs: Callable[[int, int], Sequence[Job]] | None = None,
    ) -> None:
        self._model = model
        self._next_jobs = next_jobs
        self._first_jobs = jobs
        self._jobs: list[_BatchedJob] = []
        self._reported_cost = model.decoder.cost

    @property
    def has_finished_job(self) -> bool:
        """Whether a job is complete and its result not returned yet."""
        return any(job.done for job in self._jobs)

    def run(self) -> Iterator[None]:
        """Decode all chains and answers; yields after each step."""
        admit = self._admit if self._next_jobs else None
        return self._model.decoder.decode(self._start_all(self._first_jobs), admit)

    def results(self) -> list[JobResult]:
        """Return results of finished jobs, and partial results of jobs with progress since the last
        call. The first result has the cost of all."""
        to_report = [job for job in self._jobs if job.done or job.state.has_progress]
        if to_report:
            unfinished = sum((job.unfinished_cost for job in self._jobs), Cost())
            cost = self._model.decoder.cost - unfinished
            to_report[0].state.add_cost(cost - self._reported_cost)
            self._reported_cost = cost
        self._jobs = [job for job in self._jobs if not job.done]
        return [job.state.result(partial=not job.done) for job in to_report]

    def _admit(self, num_free: int, num_running: int) -> Sequence[DecodingRow]:
        assert self._next_jobs is not None
        return self._start_all(self._next_jobs(num_free, num_running))

    def _start_all(self, jobs: Sequence[Job]) -> list[DecodingRow]:
        re_prefilled = sum(len(job.chain.ids) for job in jobs if job.chain)
        self._model.decoder.cost += Cost(re_prefilled=re_prefilled)
        return [self._start(job) for job in jobs]

    def _start(self, job: Job) -> DecodingRow:
        """The row of a job's thinking."""
        state = JobInProgress.start(job, self._model.compiler)
        batched = _BatchedJob(state=state)
        self._jobs.append(batched)
        prompt, trigger_ids = job.request.prompt_ids, state.rules.trigger_ids
        by_probability = job.request.budget.end_rule == "probability"
        row = _decoding_row(job, prompt, state.machine)
        row.triggers = trigger_ids if by_probability else frozenset()
        row.successor = functools.partial(self._end_thinking, batched, row)
        return row

    def _end_thinking(self, job: _BatchedJob, row: DecodingRow) -> DecodingRow | None:
        """The row of the first answer."""
        cached = row.tokens[: row.num_cached]
        answers = [
            (_common_prefix_length(cached, _prefix(job.state.job.request, branch)), branch)
            for branch in job.state.end_thinking()
        ]
        job.next_answers = sorted(answers, key=lambda answer: answer[0])
        return self._next_answer(job)

    def _next_answer(self, job: _BatchedJob) -> DecodingRow | None:
        """The row of the next answer, which keeps the cache of its cut; None after the last."""
        if job.answer is not None:
            branch, machine = job.answer
            job.state.add_answer(branch, machine.ids, machine.end_reason)
            job.answer = None
        if not job.next_answers:
            job.done = True
            return None
        num_cached, branch = job.next_answers.pop()
        request = job.state.job.request
        machine = AnswerMachine(
            max_tokens=request.budget.answer_tokens, eos_ids=self._model.compiler.eos_ids
        )
        job.answer = branch, machine
        self._model.decoder.cost += Cost(forced=len(branch.closing))
        prefix = _prefix(request, branch)
        row = _decoding_row(job.state.job, prefix, machine, "answer", len(branch.cut.ids))
        row.num_cached, row.pending = num_cached, list(prefix[num_cached:])
        row.successor = functools.partial(self._next_answer, job)
        return row


def _prefix(request: Request, branch: Branch) -> tuple[int, ...]:
    return (*request.prompt_ids, *branch.cut.ids, *branch.closing)


def _decoding_row(
    job: Job,
    prefix: tuple[int, ...],
    machine: ForcingMachine | AnswerMachine,
    *draw_prefix: object,
) -> DecodingRow:
    request = job.request
    return DecodingRow(
        prefix=prefix,
        machine=machine,
        sampling=request.sampling,
        uniform=functools.partial(draw_uniform, request.seed, request.sample, *draw_prefix),
        max_tokens=max_job_tokens(job),
    )


def _common_prefix_length(cached: Sequence[int], ids: Sequence[int]) -> int:
    """Length of the common prefix, without the last of `ids`: it is fed for its logits."""
    length = min(len(cached), len(ids) - 1)
    if tuple(cached[:length]) == tuple(ids[:length]):
        return length
    return next(i for i in range(length) if cached[i] != ids[i])
