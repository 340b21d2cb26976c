"""Jobs that think together in one batch, and then answer off their chains' keys and values.

    batch = Batch(jobs, Model(decoder=…, machine=…, compiled=…, eos_ids=…))
    for _ in batch.run():              # one decoding step each
        keep(batch.outcomes())         # what is new, at any step

What is handed over holds what it is said to have cost, so a process killed later has lost only
what came after. With `more` (told how many may join, and beside how many), new
jobs join as others finish, so that the batch stays full; without, it is fixed, and the same jobs
give the same tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from slowthink.engines.session import Branch, Job, JobResult, branches, draw_uniform
from slowthink.engines.transformers.decoding import Decoder, DecodingRow, Parked, Started
from slowthink.engines.transformers.kv_cache import KeyValues, join
from slowthink.forcing.formats import TokenFormat
from slowthink.forcing.machine import ActionKind, AnswerMachine, ForcingMachine
from slowthink.records import Answer, AnswerEnd, Cost, Request

_ANSWER_AT = 0.5
"""Where new jobs join, thinking waits for answers when this share of a batch has stopped."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a batch runs on."""

    decoder: Decoder
    machine: Callable[[Job], ForcingMachine]
    compiled: Callable[[Job], TokenFormat]
    eos_ids: frozenset[int]


@dataclass(kw_only=True)
class _Work:
    """A job at work."""

    job: Job
    machine: ForcingMachine
    row: DecodingRow
    answers: list[Answer] = field(default_factory=list)
    told: tuple[int, int, int] = (-1, -1, 0)
    """Ids, events and answers handed over."""
    done: bool = False

    @property
    def now(self) -> tuple[int, int, int]:
        return len(self.machine.ids), len(self.machine.events), len(self.answers)

    def outcome(self, cost: Cost) -> JobResult:
        answers = self.answers if self.done else self.answers[self.told[2] :]
        self.told = self.now
        chain = self.machine.chain(self.job.key)
        return JobResult(
            key=self.job.key, chain=chain, answers=tuple(answers), cost=cost, partial=not self.done
        )


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """An answer at work."""

    work: _Work
    branch: Branch
    row: DecodingRow

    def answer(self) -> Answer:
        machine = self.row.machine
        assert isinstance(machine, AnswerMachine)
        return Answer(
            key=self.branch.key,
            chain_key=self.work.job.key,
            cut=len(self.branch.cut.ids),
            closing=self.branch.closing,
            ids=tuple(machine.ids),
            end=machine.end,
        )

    @property
    def done(self) -> bool:
        return self.row.machine.next_action().kind is ActionKind.STOP


class Batch:
    """Jobs on their way; see the module's text."""

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
        self._works: list[_Work] = []
        self._round: list[_Answering] = []
        self._before = self._counted = model.decoder.cost
        self._answering: Cost | None = None
        """What had been spent when the answers now at work began."""

    @property
    def has_done(self) -> bool:
        """Whether a job is whole and not handed over yet."""
        return any(work.done for work in self._works)

    def run(self) -> Iterator[None]:
        """Think until every chain reaches its job's points, and make the answers; yields after each
        step."""
        parked: list[Parked] = []
        started = self._start(self._first)
        for stopped in self._model.decoder.flow(started, self._admit if self._more else None):
            if stopped is None:
                yield
                continue
            parked.append(stopped)
            if self._more and sum(len(one.rows) for one in parked) >= _ANSWER_AT * self._size:
                yield from self._finish(parked)
                parked = []
        yield from self._finish(parked)

    def outcomes(self) -> list[JobResult]:
        """What is new since the last call: of jobs that are done all of it."""
        self._collect()
        fresh = [work for work in self._works if work.done or work.now != work.told]
        self._works = [work for work in self._works if not work.done]
        spent = self._durable()
        cost, self._counted = spent - self._counted, spent
        costs = [cost] + [Cost()] * len(fresh)
        return [work.outcome(cost) for work, cost in zip(fresh, costs, strict=False)]

    # -- thinking --

    def _start(self, jobs: Sequence[Job]) -> Started:
        decoder, works = self._model.decoder, []
        for job in jobs:
            machine = self._model.machine(job)
            row = _row(job.request, job.request.prompt_ids, machine, machine.rules.trigger_ids)
            works.append(_Work(job=job, machine=machine, row=row))
        self._works += works
        rows = [work.row for work in works]
        kv, logits = decoder.prefill([row.tokens for row in rows])
        decoder.cost += Cost(re_prefilled=sum(len(job.chain.ids) for job in jobs if job.chain))
        return Started(rows=rows, kv=kv, logits=logits)

    def _admit(self, num_free: int) -> Started | None:
        assert self._more is not None
        jobs = self._more(num_free, self._size - num_free)
        return self._start(jobs) if jobs else None

    # -- answering --

    def _finish(self, parked: Sequence[Parked]) -> Iterator[None]:
        """All answers off these chains, one a row in each round."""
        rows = [row for one in parked for row in one.rows]
        if not rows:
            return
        places = {id(row): place for place, row in enumerate(rows)}
        works = [work for work in self._works if id(work.row) in places]
        kv = join([one.kv for one in parked]).take([places[id(work.row)] for work in works])
        self._answering = self._model.decoder.cost
        wanted = [self._wanted(work) for work in works]
        for number in range(max(map(len, wanted), default=0)):
            members = [i for i, found in enumerate(wanted) if len(found) > number]
            chosen = [(works[i], wanted[i][number]) for i in members]
            yield from self._answer(chosen, kv.take(members))
        self._answering = None
        for work in works:
            work.done = True

    def _wanted(self, work: _Work) -> list[Branch]:
        chain = work.machine.chain(work.job.key)
        return branches(work.job, chain, work.machine.rules, self._model.compiled(work.job))

    def _answer(self, wanted: Sequence[tuple[_Work, Branch]], kv: KeyValues) -> Iterator[None]:
        """One answer per row: cut its cache, feed the closing as one block, then draw."""
        decoder = self._model.decoder
        blocks, starts = [], []
        for place, (work, branch) in enumerate(wanted):
            request = work.job.request
            whole = (*request.prompt_ids, *branch.cut.ids, *branch.closing)
            keep = min(_common(work.row.tokens, whole), len(whole) - 1)
            kv.forget(place, keep)
            blocks.append(whole[keep:])
            starts.append(keep)
            machine = AnswerMachine(limit=request.budget.answer_tokens, eos_ids=self._model.eos_ids)
            row = _row(request, whole, machine, tag=("answer", len(branch.cut.ids)))
            self._round.append(_Answering(work=work, branch=branch, row=row))
        logits = decoder.forward(kv, blocks, starts)
        decoder.cost += Cost(forced=sum(len(branch.closing) for _, branch in wanted))
        started = Started(rows=[one.row for one in self._round], kv=kv, logits=logits)
        for stopped in decoder.flow(started):
            if stopped is None:
                yield
        self._collect()

    def _collect(self) -> None:
        """Put the answers that are done to their jobs."""
        for one in self._round:
            if one.done:
                one.work.answers.append(one.answer())
        self._round = [one for one in self._round if not one.done]

    def _durable(self) -> Cost:
        """What was spent on all that can be handed over: answers in the middle are not counted."""
        if self._answering is None:
            return self._model.decoder.cost
        made = [one for work in self._works if not work.done for one in work.answers]
        return sum(map(_cost_of, made), self._answering)


def _cost_of(answer: Answer) -> Cost:
    drawn = len(answer.ids) + (answer.end is AnswerEnd.STOP)
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


def _common(cached: Sequence[int], whole: Sequence[int]) -> int:
    """Length of the common start; only the thinking can differ, inside a long delimiter."""
    length = min(len(cached), len(whole))
    if tuple(cached[:length]) == tuple(whole[:length]):
        return length
    return next(i for i in range(length) if cached[i] != whole[i])
