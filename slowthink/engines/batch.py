"""Jobs that think together in one batch, and then answer off their chains' keys and values.

    batch = Batch(jobs, machines, Model(decoder=…, compiled=…, eos_ids=…))
    for _ in batch.run():              # one decoding step each
        keep(batch.outcomes(partial=True))
    keep(batch.outcomes())

At any step `outcomes(partial=True)` gives what is new and what it cost, so that a process killed
later has lost only what came after.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from slowthink.engines.base import Branch, Job, Outcome, branches, draw_uniform
from slowthink.engines.decoding import Decoder, Row
from slowthink.engines.kv import KeyValues
from slowthink.records import Answer, AnswerEnd, Cost, Request
from slowthink.thinking.forcing import ActionKind, Answering, Forcing
from slowthink.thinking.formats import TokenFormat


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a batch runs on."""

    decoder: Decoder
    compiled: Callable[[Job], TokenFormat]
    eos_ids: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """An answer at work."""

    place: int
    """Its job's."""
    request: Request
    branch: Branch
    row: Row

    def answer(self) -> Answer:
        machine = self.row.machine
        assert isinstance(machine, Answering)
        return Answer(
            key=self.branch.key,
            chain_key=self.request.chain_key(),
            cut=len(self.branch.cut.ids),
            closing=self.branch.closing,
            ids=tuple(machine.ids),
            end=machine.end,
        )

    @property
    def done(self) -> bool:
        return self.row.machine.next().kind is ActionKind.STOP


class Batch:
    """Jobs fixed from start to end."""

    def __init__(self, jobs: Sequence[Job], machines: Sequence[Forcing], model: Model) -> None:
        self.jobs = jobs
        self._machines = machines
        self._model = model
        self._before = model.decoder.cost
        self._thought: Cost | None = None
        self._counted = Cost()
        self._answers: list[list[Answer]] = [[] for _ in jobs]
        self._round: list[_Answering] = []
        self._told = [(-1, -1, 0)] * len(jobs)
        """Per job: ids, events and answers handed over."""

    def run(self) -> Iterator[None]:
        """Think until every chain reaches its job's points, then make all answers, one a row in
        each round."""
        decoder = self._model.decoder
        rows = [
            _row(job.request, job.request.prompt_ids, machine, machine.rules.trigger_ids)
            for job, machine in zip(self.jobs, self._machines, strict=True)
        ]
        kv, logits = decoder.prefill([row.tokens for row in rows])
        decoder.cost += Cost(re_prefilled=sum(len(job.chain.ids) for job in self.jobs if job.chain))
        kv = yield from decoder.run(rows, kv, logits)
        self._thought = decoder.cost - self._before
        wanted = self._wanted()
        for number in range(max(map(len, wanted), default=0)):
            members = [i for i, found in enumerate(wanted) if len(found) > number]
            yield from self._answer(
                [(i, wanted[i][number]) for i in members], rows, kv.take(members)
            )

    def outcomes(self, *, partial: bool = False) -> list[Outcome]:
        """What every job came to, whole; `partial`: what is new since the last call."""
        self._collect()
        found: list[Outcome] = []
        for place, (job, machine) in enumerate(zip(self.jobs, self._machines, strict=True)):
            told, answers = self._told[place], self._answers[place]
            now = (len(machine.ids), len(machine.events), len(answers))
            if partial and now == told:
                continue
            self._told[place] = now
            found.append(
                Outcome(
                    key=job.key,
                    chain=machine.chain(job.key),
                    answers=tuple(answers[told[2] :] if partial else answers),
                    cost=Cost() if found else self._uncounted(partial),
                    partial=partial,
                )
            )
        return found

    def _wanted(self) -> list[list[Branch]]:
        return [
            branches(job, machine.chain(job.key), machine.rules, self._model.compiled(job))
            for job, machine in zip(self.jobs, self._machines, strict=True)
        ]

    def _answer(
        self, wanted: Sequence[tuple[int, Branch]], rows: Sequence[Row], kv: KeyValues
    ) -> Iterator[None]:
        """One answer per row: cut its cache, feed the closing as one block, then draw."""
        decoder = self._model.decoder
        blocks, starts = [], []
        for number, (place, branch) in enumerate(wanted):
            request = self.jobs[place].request
            whole = (*request.prompt_ids, *branch.cut.ids, *branch.closing)
            keep = min(_common(rows[place].tokens, whole), len(whole) - 1)
            kv.forget(number, keep)
            blocks.append(whole[keep:])
            starts.append(keep)
            machine = Answering(limit=request.budget.answer_tokens, eos_ids=self._model.eos_ids)
            row = _row(request, whole, machine, tag=("answer", len(branch.cut.ids)))
            self._round.append(_Answering(place=place, request=request, branch=branch, row=row))
        logits = decoder.forward(kv, blocks, starts)
        decoder.cost += Cost(forced=sum(len(branch.closing) for _, branch in wanted))
        yield from decoder.run([one.row for one in self._round], kv, logits)
        self._collect()

    def _collect(self) -> None:
        """Put the answers that are done to their jobs."""
        for one in self._round:
            if one.done:
                self._answers[one.place].append(one.answer())
        self._round = [one for one in self._round if not one.done]

    def _uncounted(self, partial: bool) -> Cost:
        """What was spent on all that is handed over, less what was counted before.

        In the middle of an answer its tokens are not counted: they are not kept either.
        """
        spent = self._model.decoder.cost - self._before
        if partial and self._thought is not None:
            made = [answer for answers in self._answers for answer in answers]
            spent = sum(map(_cost_of, made), self._thought)
        fresh, self._counted = spent - self._counted, spent
        return fresh


def _cost_of(answer: Answer) -> Cost:
    drawn = len(answer.ids) + (answer.end is AnswerEnd.STOP)
    return Cost(decoded=drawn, forced=len(answer.closing))


def _row(
    request: Request,
    prefix: tuple[int, ...],
    machine: Forcing | Answering,
    triggers: frozenset[int] = frozenset(),
    *,
    tag: tuple[object, ...] = (),
) -> Row:
    return Row(
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
