"""Jobs that think together in one batch, then answer from their chains' keys and values.

    batch = Batch(jobs, Model(decoder=…, compiler=…))
    for _ in batch.run():              # one decoding step each
        store(batch.results())         # what is new, after any step

A result's cost is that of what it contains, so a process that is killed loses only what came after.
With `more` (called with how many jobs may join, and how many rows stay), new jobs join as others
finish, so the batch stays full; without, it is fixed, and the same jobs give the same tokens.
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

_ANSWER_AT = 0.5
"""Where new jobs may join, thinking pauses for answers when this share of a batch has stopped."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a batch runs on."""

    decoder: Decoder
    compiler: Compiler


@dataclass(kw_only=True)
class _BatchedJob:
    """A job and the row of its thinking."""

    running: JobInProgress
    row: DecodingRow
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class _AnswerRow:
    """The row of an answer that is being decoded."""

    running: JobInProgress
    branch: Branch
    machine: AnswerMachine
    row: DecodingRow

    @property
    def done(self) -> bool:
        return self.machine.next_action().kind is ActionKind.STOP


class Batch:
    """A batch of jobs; see the module's docstring."""

    def __init__(
        self,
        jobs: Sequence[Job],
        model: Model,
        *,
        more: Callable[[int, int], Sequence[Job]] | None = None,
    ) -> None:
        self._model = model
        self._more = more
        self._size = len(jobs)
        self._first = jobs
        self._jobs: list[_BatchedJob] = []
        self._answer_rows: list[_AnswerRow] = []
        self._counted = model.decoder.cost
        self._cost_before_answers: Cost | None = None
        """Set while answers are decoded."""

    @property
    def has_done(self) -> bool:
        """Whether a job is complete and not returned yet."""
        return any(job.done for job in self._jobs)

    def run(self) -> Iterator[None]:
        """Think until every chain reaches its job's points, and make the answers; yields after each
        step."""
        stopped: list[StoppedRows] = []
        prefilled = self._start(self._first)
        for part in self._model.decoder.decode(prefilled, self._admit if self._more else None):
            if part is None:
                yield
                continue
            stopped.append(part)
            num_stopped = sum(len(part.rows) for part in stopped)
            if self._more and num_stopped >= _ANSWER_AT * self._size:
                yield from self._finish(stopped)
                stopped = []
        yield from self._finish(stopped)

    def results(self) -> list[JobResult]:
        """Results of jobs that are done, and partial results of those that made progress since the
        last call. The first one carries the cost of all."""
        self._collect_answers()
        fresh = [job for job in self._jobs if job.done or job.running.has_progress]
        self._jobs = [job for job in self._jobs if not job.done]
        if fresh:
            cost = self._storable_cost()
            fresh[0].running.add_cost(cost - self._counted)
            self._counted = cost
        return [job.running.result(partial=not job.done) for job in fresh]

    # -- thinking --

    def _start(self, jobs: Sequence[Job]) -> Prefilled:
        decoder, rows = self._model.decoder, []
        for job in jobs:
            running = JobInProgress.start(job, self._model.compiler)
            machine = running.machine
            row = _row(job.request, job.request.prompt_ids, machine, machine.rules.trigger_ids)
            self._jobs.append(_BatchedJob(running=running, row=row))
            rows.append(row)
        kv, logits = decoder.prefill([row.tokens for row in rows])
        decoder.cost += Cost(re_prefilled=sum(len(job.chain.ids) for job in jobs if job.chain))
        return Prefilled(rows=rows, kv=kv, logits=logits)

    def _admit(self, num_free: int) -> Prefilled | None:
        assert self._more is not None
        jobs = self._more(num_free, self._size - num_free)
        return self._start(jobs) if jobs else None

    # -- answering --

    def _finish(self, stopped: Sequence[StoppedRows]) -> Iterator[None]:
        """Make all answers of these chains, one a row in each round."""
        rows = [row for part in stopped for row in part.rows]
        if not rows:
            return
        places = {id(row): place for place, row in enumerate(rows)}
        jobs = [job for job in self._jobs if id(job.row) in places]
        kv = join([part.kv for part in stopped]).take([places[id(job.row)] for job in jobs])
        self._cost_before_answers = self._model.decoder.cost
        branches = [job.running.end_thinking() for job in jobs]
        for number in range(max(map(len, branches), default=0)):
            members = [i for i in range(len(jobs)) if len(branches[i]) > number]
            chosen = [(jobs[i], branches[i][number]) for i in members]
            yield from self._answer(chosen, kv.take(members))
        self._cost_before_answers = None
        for job in jobs:
            job.done = True

    def _answer(
        self, chosen: Sequence[tuple[_BatchedJob, Branch]], kv: KeyValues
    ) -> Iterator[None]:
        """One answer per row: cut its cache, feed the closing as one block, then draw."""
        decoder = self._model.decoder
        blocks, starts = [], []
        for place, (job, branch) in enumerate(chosen):
            request = job.running.job.request
            prefix = (*request.prompt_ids, *branch.cut.ids, *branch.closing)
            keep = min(_common_length(job.row.tokens, prefix), len(prefix) - 1)
            kv.crop_row(place, keep)
            blocks.append(prefix[keep:])
            starts.append(keep)
            limit, eos_ids = request.budget.answer_tokens, self._model.compiler.eos_ids
            machine = AnswerMachine(max_tokens=limit, eos_ids=eos_ids)
            row = _row(request, prefix, machine, tag=("answer", len(branch.cut.ids)))
            self._answer_rows.append(
                _AnswerRow(running=job.running, branch=branch, machine=machine, row=row)
            )
        logits = decoder.forward(kv, blocks, starts)
        decoder.cost += Cost(forced=sum(len(branch.closing) for _, branch in chosen))
        rows = [answer.row for answer in self._answer_rows]
        for part in decoder.decode(Prefilled(rows=rows, kv=kv, logits=logits)):
            if part is None:
                yield
        self._collect_answers()

    def _collect_answers(self) -> None:
        """Add finished answers to their jobs."""
        for row in self._answer_rows:
            if row.done:
                row.running.add_answer(row.branch, row.machine.ids, row.machine.end_reason)
        self._answer_rows = [row for row in self._answer_rows if not row.done]

    def _storable_cost(self) -> Cost:
        """Cost of all that a result can contain: unfinished answers are not counted."""
        if self._cost_before_answers is None:
            return self._model.decoder.cost
        answers = [answer for job in self._jobs for answer in job.running.answers]
        return sum(map(_cost_of, answers), self._cost_before_answers)


def _cost_of(answer: Answer) -> Cost:
    drawn = len(answer.ids) + (answer.end_reason is AnswerEnd.STOP)
    return Cost(decoded=drawn, forced=len(answer.closing))


def _row(
    request: Request,
    prefix: tuple[int, ...],
    machine: ForcingMachine | AnswerMachine,
    triggers: frozenset[int] = frozenset(),
    *,
    tag: tuple[object, ...] = (),
) -> DecodingRow:
    return DecodingRow(
        prefix=prefix,
        machine=machine,
        sampling=request.sampling,
        uniform=functools.partial(draw_uniform, request, *tag),
        triggers=triggers if request.budget.end_rule == "probability" else frozenset(),
    )


def _common_length(cached: Sequence[int], ids: Sequence[int]) -> int:
    """Length of the common start; only the thinking can differ, inside a long delimiter."""
    length = min(len(cached), len(ids))
    if tuple(cached[:length]) == tuple(ids[:length]):
        return length
    return next(i for i in range(length) if cached[i] != ids[i])
