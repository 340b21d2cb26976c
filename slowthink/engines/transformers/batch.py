"""A batch of jobs: all chains are decoded together, then answers from their keys and values.

    batch = Batch(jobs, Model(decoder=…, compiler=…))
    for _ in batch.run():              # yields after each decoding step
        store(batch.results())         # results since the last call

The cost of a result is that of the tokens in it, so a killed process loses only later tokens. With
`next_jobs`, new jobs join as others finish, and the batch stays full. Without, the batch is fixed,
and the same jobs give the same tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slowthink.engines.session import Branch, Compiler, Job, JobInProgress, JobResult, draw_uniform
from slowthink.engines.transformers.decoding import Decoder, DecodingRow, Prefilled, StoppedRows
from slowthink.engines.transformers.kv_cache import KeyValues, join
from slowthink.forcing.machine import ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import Answer, AnswerEnd, Cost, Request

_ANSWER_SHARE = 0.5
"""If new jobs may join, answers are decoded when this share of the batch has stopped thinking."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder with the compiled formats of its tokenizer."""

    decoder: Decoder
    compiler: Compiler


@dataclass(kw_only=True)
class _BatchedJob:
    """A job in progress and the row of its thinking."""

    state: JobInProgress
    row: DecodingRow
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class _AnswerRow:
    """The row of an answer that is being decoded."""

    state: JobInProgress
    branch: Branch
    machine: AnswerMachine
    row: DecodingRow

    @property
    def done(self) -> bool:
        return self.machine.next_action().kind is ActionKind.STOP


class Batch:
    """A batch of jobs; see the module's docstring.

    `next_jobs(num_jobs, num_running)` returns at most `num_jobs` jobs that join the batch;
    `num_running` rows stay in it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        model: Model,
        *,
        next_jobs: Callable[[int, int], Sequence[Job]] | None = None,
    ) -> None:
        self._model = model
        self._next_jobs = next_jobs
        self._size = len(jobs)
        self._first_jobs = jobs
        self._jobs: list[_BatchedJob] = []
        self._answer_rows: list[_AnswerRow] = []
        self._reported_cost = model.decoder.cost
        self._cost_before_answers: Cost | None = None
        """Set while answers are decoded."""

    @property
    def has_finished_job(self) -> bool:
        """Whether a job is complete and its result not returned yet."""
        return any(job.done for job in self._jobs)

    def run(self) -> Iterator[None]:
        """Decode all chains and answers; yields after each step."""
        stopped: list[StoppedRows] = []
        admit = self._admit if self._next_jobs else None
        for rows in self._model.decoder.decode(self._prefill(self._first_jobs), admit):
            if rows is None:
                yield
                continue
            stopped.append(rows)
            num_stopped = sum(len(rows.rows) for rows in stopped)
            if self._next_jobs and num_stopped >= _ANSWER_SHARE * self._size:
                yield from self._decode_answers(stopped)
                stopped = []
        yield from self._decode_answers(stopped)

    def results(self) -> list[JobResult]:
        """Return results of finished jobs, and partial results of jobs with progress since the last
        call. The first result has the cost of all."""
        self._collect_answers()
        to_report = [job for job in self._jobs if job.done or job.state.has_progress]
        self._jobs = [job for job in self._jobs if not job.done]
        if to_report:
            cost = self._storable_cost()
            to_report[0].state.add_cost(cost - self._reported_cost)
            self._reported_cost = cost
        return [job.state.result(partial=not job.done) for job in to_report]

    # -- thinking --

    def _prefill(self, jobs: Sequence[Job]) -> Prefilled:
        decoder, rows = self._model.decoder, []
        for job in jobs:
            state = JobInProgress.start(job, self._model.compiler)
            trigger_ids = state.rules.trigger_ids
            row = _decoding_row(job.request, job.request.prompt_ids, state.machine, trigger_ids)
            self._jobs.append(_BatchedJob(state=state, row=row))
            rows.append(row)
        kv, logits = decoder.prefill([row.tokens for row in rows])
        decoder.cost += Cost(re_prefilled=sum(len(job.chain.ids) for job in jobs if job.chain))
        return Prefilled(rows=rows, kv=kv, logits=logits)

    def _admit(self, num_free: int) -> Prefilled | None:
        assert self._next_jobs is not None
        jobs = self._next_jobs(num_free, self._size - num_free)
        return self._prefill(jobs) if jobs else None

    # -- answering --

    def _decode_answers(self, stopped: Sequence[StoppedRows]) -> Iterator[None]:
        """Decode all answers of these chains, in each round the next one of every chain."""
        indices = {id(row): index for index, row in enumerate(r for s in stopped for r in s.rows)}
        if not indices:
            return
        jobs = [job for job in self._jobs if id(job.row) in indices]
        kv = join([rows.kv for rows in stopped]).take([indices[id(job.row)] for job in jobs])
        self._cost_before_answers = self._model.decoder.cost
        branches = [job.state.end_thinking() for job in jobs]
        for round in range(max(map(len, branches), default=0)):
            job_indices = [i for i in range(len(jobs)) if len(branches[i]) > round]
            next_answers = [(jobs[i], branches[i][round]) for i in job_indices]
            yield from self._decode_round(next_answers, kv.take(job_indices))
        self._cost_before_answers = None
        for job in jobs:
            job.done = True

    def _decode_round(
        self, answers: Sequence[tuple[_BatchedJob, Branch]], kv: KeyValues
    ) -> Iterator[None]:
        """Decode one answer per row: crop its cache, feed the closing as one block, then sample."""
        decoder = self._model.decoder
        blocks, starts = [], []
        for index, (job, branch) in enumerate(answers):
            request = job.state.job.request
            prefix = (*request.prompt_ids, *branch.cut.ids, *branch.closing)
            num_kept = min(_common_prefix_length(job.row.tokens, prefix), len(prefix) - 1)
            kv.crop_row(index, num_kept)
            blocks.append(prefix[num_kept:])
            starts.append(num_kept)
            machine = AnswerMachine(
                max_tokens=request.budget.answer_tokens, eos_ids=self._model.compiler.eos_ids
            )
            draw_prefix = ("answer", len(branch.cut.ids))
            row = _decoding_row(request, prefix, machine, draw_prefix=draw_prefix)
            self._answer_rows.append(
                _AnswerRow(state=job.state, branch=branch, machine=machine, row=row)
            )
        logits = decoder.forward(kv, blocks, starts)
        decoder.cost += Cost(forced=sum(len(branch.closing) for _, branch in answers))
        rows = [answer.row for answer in self._answer_rows]
        for stopped in decoder.decode(Prefilled(rows=rows, kv=kv, logits=logits)):
            if stopped is None:
                yield
        self._collect_answers()

    def _collect_answers(self) -> None:
        """Add finished answers to their jobs."""
        for row in self._answer_rows:
            if row.done:
                row.state.add_answer(row.branch, row.machine.ids, row.machine.end_reason)
        self._answer_rows = [row for row in self._answer_rows if not row.done]

    def _storable_cost(self) -> Cost:
        """Cost of all tokens that results can contain: not of unfinished answers."""
        if self._cost_before_answers is None:
            return self._model.decoder.cost
        answers = [answer for job in self._jobs for answer in job.state.answers]
        return sum(map(_answer_cost, answers), self._cost_before_answers)


def _answer_cost(answer: Answer) -> Cost:
    num_sampled = len(answer.ids) + (answer.end_reason is AnswerEnd.STOP)
    return Cost(decoded=num_sampled, forced=len(answer.closing))


def _decoding_row(
    request: Request,
    prefix: tuple[int, ...],
    machine: ForcingMachine | AnswerMachine,
    triggers: frozenset[int] = frozenset(),
    *,
    draw_prefix: tuple[object, ...] = (),
) -> DecodingRow:
    return DecodingRow(
        prefix=prefix,
        machine=machine,
        sampling=request.sampling,
        uniform=functools.partial(draw_uniform, request.seed, request.sample, *draw_prefix),
        triggers=triggers if request.budget.end_rule == "probability" else frozenset(),
    )


def _common_prefix_length(cached: Sequence[int], ids: Sequence[int]) -> int:
    """Length of the common prefix; only the thinking can differ, inside a long delimiter."""
    length = min(len(cached), len(ids))
    if tuple(cached[:length]) == tuple(ids[:length]):
        return length
    return next(i for i in range(length) if cached[i] != ids[i])
