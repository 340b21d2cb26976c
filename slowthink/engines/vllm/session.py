"""The vLLM engine: vLLM in this process, forcing inside each request.

A job's thinking is one request to the farthest of its points, its answer with it; the answers of
the other points are short requests whose prompt is the thinking up to the cut and the closing,
which the prefix cache makes cheap. Outcomes come as requests finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slowthink.engines.models import fingerprint, resolve_model
from slowthink.engines.session import (
    Branch,
    Capabilities,
    Job,
    JobResult,
    Point,
    branches,
    check_context,
)
from slowthink.engines.vllm.client import Finished, eos_ids_of, open_engine, stop_id_of
from slowthink.engines.vllm.request_args import read_args, write_args
from slowthink.engines.vllm.request_flow import Compiler, DeclaredEnd, Flow, Spec
from slowthink.errors import EngineError
from slowthink.forcing.machine import ActionKind
from slowthink.recipe import EngineConfig
from slowthink.records import Answer, AnswerEnd, Chain, Cost


@dataclass
class _Work:
    """A job under way."""

    job: Job
    spec: Spec
    chain: Chain
    """All of it, once it is there."""
    known: tuple[int, ...] = ()
    """Thinking had before."""
    answers: dict[str, Answer] = field(default_factory=dict)
    waiting: dict[str, Branch] = field(default_factory=dict)
    """Answers under way, by request."""
    cost: Cost = field(default_factory=Cost)
    """Since the last outcome."""
    told: Cost = field(default_factory=Cost)
    """Of it what partial outcomes counted of the thinking."""


SAVE_SECONDS = 5.0
"""How often what long jobs have come to is given back, to be stored."""


class VllmSession:
    """A model in vLLM, ready to think and answer."""

    def __init__(
        self,
        name: str,
        config: EngineConfig,
        *,
        revision: str | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        folder = resolve_model(name, revision, notify=notify)
        self._engine = open_engine(folder, config)
        front = self._engine.front
        self.tokenizer = front.tokenizer
        self.fingerprint = fingerprint(folder)
        quantization = self._engine.quantization
        self.numerics = f"vllm/{config.dtype}" + (f"/{quantization}" if quantization else "")
        self.eos_ids = eos_ids_of(front)
        self.capabilities = Capabilities(
            takes_ids=True,
            returns_ids=True,
            logprobs=False,
            in_flight=True,
            rollback=False,
            reproducible=False,  # the batch's make-up may tip near ties
            max_context=front.model_config.max_model_len,
        )
        self.cost = Cost()
        self._compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids, stop_id=stop_id_of(front))
        self._queue: dict[str, Job] = {}
        self._works: dict[str, _Work] = {}
        """By the key of a request under way."""
        self._number = 0
        self.save_seconds = SAVE_SECONDS

    def __enter__(self) -> VllmSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()
        self._works.clear()
        self._engine.close()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError where its budget does not fit the context, or its format
        has a trigger of several tokens."""
        check_context(job, max_context=self.capabilities.max_context)
        self._spec(job, _farthest(job)[0])
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop jobs, queued or running."""
        dropped = set(keys)
        self._queue = {key: job for key, job in self._queue.items() if key not in dropped}
        running = [name for name, work in self._works.items() if work.job.key in dropped]
        self._works = {name: one for name, one in self._works.items() if name not in running}
        self._engine.abort(running)
        self._engine.histories(running)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Jobs finished since the last call; works until one is, or `timeout` seconds are over, or
        what long ones have come to is worth keeping."""
        started = time.monotonic()
        outcomes = [done for job in self._queue.values() if (done := self._start(job))]
        self._queue = {}
        limit = self.save_seconds if timeout is None else min(timeout, self.save_seconds)
        while self._works and not outcomes:
            left = limit - (time.monotonic() - started)
            if left <= 0:
                return self._partial() if limit == self.save_seconds else []
            outcomes = self._take(self._engine.step(left))
        return outcomes

    def _partial(self) -> list[JobResult]:
        """The thinking so far of all jobs that still think."""
        found = []
        for name, ids, marks in self._engine.open():
            work = self._works.get(name)
            if work is None or name in work.waiting or not ids:
                continue
            flow = self._flow(work, ids, marks)
            spent = Cost(decoded=flow.num_drawn, forced=flow.num_forced)
            chain = flow.thinking.chain(work.job.key)
            if spent != work.told:
                found.append(self._told(work, chain, (), spent - work.told, partial=True))
            work.told = spent
        return found

    # -- one job --

    def _spec(self, job: Job, point: Point, **more: Any) -> Spec:
        ask = read_args(write_args(job.request, point, chain=job.chain, **more))
        assert ask is not None
        return self._compiler.spec(ask)

    def _start(self, job: Job) -> JobResult | None:
        point, answer = _farthest(job)
        name = self._name()
        spec = self._spec(job, point, answer=answer, log=name)
        chain = job.chain or Chain(key=job.key)
        work = _Work(job=job, spec=spec, chain=chain, known=chain.ids)
        if job.machine(spec.rules).next_action().kind is ActionKind.STOP:
            return self._branch(work)
        arguments = write_args(job.request, point, chain=job.chain, answer=answer, log=name)
        room = self.capabilities.max_context - len(job.request.prompt_ids) - len(chain.ids)
        self._add(name, (*job.request.prompt_ids, *chain.ids), arguments, max_tokens=room)
        self._works[name] = work
        return None

    def _name(self) -> str:
        self._number += 1
        return f"slowthink-{self._number}"

    def _add(
        self, name: str, ids: Sequence[int], arguments: dict[str, Any] | None, *, max_tokens: int
    ) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=max_tokens,
            detokenize=False,
            extra_args=arguments,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._engine.add(name, ids, params)

    def _take(self, finished: Sequence[Finished]) -> list[JobResult]:
        ours = [one for one in finished if one.key in self._works]
        thought = [one.key for one in ours if one.key not in self._works[one.key].waiting]
        histories = dict(zip(thought, self._engine.histories(thought), strict=True))
        outcomes = []
        for one in ours:
            work = self._works.pop(one.key)
            if one.reason not in ("stop", "length"):
                raise EngineError(
                    f"vLLM ended request {one.key} with `{one.reason}`; expected `stop`. "
                    "See its log; give the same command again."
                )
            if one.key in work.waiting:
                done = self._answered(work, one)
            else:
                done = self._thought(work, one, histories[one.key])
            outcomes += [done] if done else []
        return outcomes

    def _thought(self, work: _Work, one: Finished, marks: Any) -> JobResult | None:
        """Thinking is there, and perhaps an answer: ask for the other answers."""
        job, known = work.job, work.known
        flow = self._flow(work, one.ids, marks or ())
        if flow.strays or marks is None:
            raise EngineError(
                f"vLLM request {one.key}: {flow.strays} of {len(one.ids)} tokens are not those "
                "that were forced; expected none. Something else edits the logits: start vLLM "
                "without other logits processors."
            )
        work.chain = flow.thinking.chain(job.key)
        num_prompt = len(job.request.prompt_ids) + len(known)
        prefilled = num_prompt - one.num_cached
        work.cost += Cost(
            prefilled=prefilled,
            re_prefilled=min(len(known), prefilled),
            decoded=flow.num_drawn - work.told.decoded,
            forced=flow.num_forced - work.told.forced,
        )
        if flow.answering is not None and flow.closing is not None:
            cut = flow.thinking.ids
            key = job.request.answer_key(tuple(cut), flow.closing)
            work.answers[key] = Answer(
                key=key,
                chain_key=job.key,
                cut=len(cut),
                closing=flow.closing,
                ids=tuple(flow.answering.ids),
                end=flow.answering.end,
            )
        return self._branch(work)

    def _flow(self, work: _Work, ids: Sequence[int], marks: Sequence[Any]) -> Flow:
        cap = work.spec.ask.budget.max_thinking_tokens
        assert cap is not None
        flow = Flow(work.spec, cap=cap, known_ids=work.known)
        flow.replay(ids, {int(at): _mark(*rest) for at, *rest in marks})
        return flow

    def _branch(self, work: _Work) -> JobResult | None:
        """Ask for the answers that are still missing; the outcome if there are none."""
        job = work.job
        found = branches(job, work.chain, work.spec.rules, work.spec.token_format)
        for branch in found:
            if branch.key not in work.answers:
                name = self._name()
                work.waiting[name] = branch
                self._works[name] = work
        for name, branch in work.waiting.items():
            self._ask(name, job, branch)
        return None if work.waiting else self._outcome(work)

    def _ask(self, name: str, job: Job, branch: Branch) -> None:
        """Only the answer: everything before it is in the prompt."""
        request, known = job.request, Chain(key="", ids=branch.cut.ids)
        arguments, limit = None, request.budget.answer_tokens
        if request.sampling.temperature:  # greedy ones need nothing of ours
            point, limit = Point(len(known.ids)), limit + 1
            arguments = write_args(request, point, chain=known, closed=len(branch.closing))
        ids = (*request.prompt_ids, *known.ids, *branch.closing)
        self._add(name, ids, arguments, max_tokens=limit)

    def _answered(self, work: _Work, one: Finished) -> JobResult | None:
        branch = work.waiting.pop(one.key)
        ids, closing = one.ids, len(branch.closing)
        limit = work.job.request.budget.answer_tokens
        stopped = bool(ids) and ids[-1] in self.eos_ids and len(ids) <= limit
        before = len(work.job.request.prompt_ids) + len(branch.cut.ids)
        prefilled = max(0, before - one.num_cached)
        work.cost += Cost(
            prefilled=prefilled,
            re_prefilled=prefilled,
            decoded=min(len(ids), limit),
            forced=closing + (len(ids) > limit),
        )
        work.answers[branch.key] = Answer(
            key=branch.key,
            chain_key=work.job.key,
            cut=len(branch.cut.ids),
            closing=branch.closing,
            ids=ids[:-1] if stopped else ids[:limit],
            end=AnswerEnd.STOP if stopped else AnswerEnd.LENGTH,
        )
        return None if work.waiting else self._outcome(work)

    def _outcome(self, work: _Work) -> JobResult:
        wanted = branches(work.job, work.chain, work.spec.rules, work.spec.token_format)
        answers = tuple(work.answers[branch.key] for branch in wanted)
        return self._told(work, work.chain, answers, work.cost)

    def _told(
        self,
        work: _Work,
        chain: Chain,
        answers: tuple[Answer, ...],
        cost: Cost,
        *,
        partial: bool = False,
    ) -> JobResult:
        self.cost += cost
        return JobResult(key=work.job.key, chain=chain, answers=answers, cost=cost, partial=partial)


def _farthest(job: Job) -> tuple[Point, bool]:
    """The point that reaches all others, and whether its own answer is wanted."""
    machine_steps = [point.steps for point in job.points]
    limits = [number for number in machine_steps if number is not None]
    far = Point(
        cap=max(point.cap for point in job.points),
        waits=max(point.waits for point in job.points),
        steps=max(limits) if len(limits) == len(machine_steps) else None,
    )
    if far in job.points:
        return far, True
    unforced = replace(far, forced=False)
    return (unforced, True) if unforced in job.points else (far, False)


def _mark(token: float, end_probability: float, argmax: float, stands_for: float) -> DeclaredEnd:
    return DeclaredEnd(int(token), end_probability, int(argmax), int(stands_for))
