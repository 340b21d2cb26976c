"""The vLLM engine: vLLM in this process, forcing inside each request.

A job's thinking is one request to the farthest of its points, including that point's answer; the
answers of the other points are short requests whose prompt is the thinking up to the cut and the
closing, which the prefix cache makes cheap. Results are returned as requests finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.engines.models import fingerprint, resolve_model
from slowthink.engines.session import (
    CHECKPOINT_SECONDS,
    Branch,
    Capabilities,
    Compiler,
    Job,
    JobInProgress,
    JobResult,
    Point,
    check_context,
)
from slowthink.engines.vllm.client import Finished, eos_ids_of, open_engine, stop_id_of
from slowthink.engines.vllm.request_args import read_args, write_args
from slowthink.engines.vllm.request_flow import CompiledArgs, DeclaredEnd, Flow, compile_args
from slowthink.errors import EngineError
from slowthink.forcing.machine import ActionKind
from slowthink.recipe import EngineConfig
from slowthink.records import AnswerEnd, Chain, Cost


@dataclass(kw_only=True)
class _ThinkingRequest:
    """A request that makes a job's thinking, and one answer if it belongs to the same point."""

    running: JobInProgress
    compiled: CompiledArgs
    counted: Cost = field(default_factory=Cost)
    """Part of the flow's cost that is counted already, in partial results."""

    @property
    def known(self) -> tuple[int, ...]:
        """Cached thinking."""
        chain = self.running.job.chain
        return chain.ids if chain else ()

    def flow(self, ids: Sequence[int], ends: Sequence[Sequence[float]]) -> Flow:
        """The flow of the output ids; `ends` as the worker returns them."""
        cap = self.compiled.args.budget.max_thinking_tokens
        assert cap is not None
        flow = Flow(self.compiled, cap=cap, known_ids=self.known)
        flow.replay(ids, {int(at): _declared_end(*values) for at, *values in ends})
        return flow

    def count(self, flow: Flow) -> Cost:
        """The flow's cost that is not counted yet; counts it."""
        total = Cost(decoded=flow.num_drawn, forced=flow.num_forced)
        cost, self.counted = total - self.counted, total
        return cost


@dataclass(frozen=True, kw_only=True)
class _AnswerRequest:
    """A request that makes one answer."""

    running: JobInProgress
    branch: Branch


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
            reproducible=False,  # near ties depend on the batch's composition
            max_context=front.model_config.max_model_len,
        )
        self.cost = Cost()
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self._stop_id = stop_id_of(front)
        self._queue: dict[str, Job] = {}
        self._requests: dict[str, _ThinkingRequest | _AnswerRequest] = {}
        """Running requests by name."""
        self._num_requests = 0

    def __enter__(self) -> VllmSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()
        self._requests.clear()
        self._engine.close()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if its budget does not fit the context, or its format
        has a trigger of several tokens."""
        check_context(job, max_context=self.capabilities.max_context)
        self._compile(self._arguments(job))
        self._queue[job.key] = job

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop jobs, queued or running."""
        dropped = set(keys)
        self._queue = {key: job for key, job in self._queue.items() if key not in dropped}
        names = [n for n, request in self._requests.items() if request.running.job.key in dropped]
        for name in names:
            del self._requests[name]
        self._engine.abort(names)
        self._engine.histories(names)

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Return jobs finished since the last call. Blocks until one finishes or `timeout` seconds
        have passed; after `checkpoint_seconds` returns partial results."""
        started = time.monotonic()
        results = [result for job in self._queue.values() if (result := self._start(job))]
        self._queue = {}
        limit = self.checkpoint_seconds
        if timeout is not None:
            limit = min(timeout, limit)
        while self._requests and not results:
            left = limit - (time.monotonic() - started)
            if left <= 0:
                return self._partial_results() if limit == self.checkpoint_seconds else []
            results = self._finish(self._engine.step(left))
        return results

    def _partial_results(self) -> list[JobResult]:
        """The thinking so far of all jobs that still think."""
        results = []
        for name, ids, ends in self._engine.open():
            request = self._requests.get(name)
            if isinstance(request, _ThinkingRequest) and ids:
                flow = request.flow(ids, ends)
                cost = request.count(flow)
                if cost != Cost():
                    request.running.machine = flow.thinking
                    self._spend(request.running, cost)
                    results.append(request.running.result(partial=True))
        return results

    # -- starting requests --

    def _arguments(self, job: Job, log: str | None = None) -> dict[str, Any]:
        point = job.largest_point
        return write_args(job.request, point, chain=job.chain, answer=point in job.points, log=log)

    def _compile(self, arguments: dict[str, Any]) -> CompiledArgs:
        args = read_args(arguments)
        assert args is not None
        return compile_args(args, self.compiler, stop_id=self._stop_id)

    def _start(self, job: Job) -> JobResult | None:
        """Start the job's thinking; its result if nothing is missing."""
        running = JobInProgress.start(job, self.compiler)
        if running.machine.next_action().kind is ActionKind.STOP:
            running.end_thinking()
            return self._start_answers(running)
        name = self._name()
        arguments = self._arguments(job, name)
        request = _ThinkingRequest(running=running, compiled=self._compile(arguments))
        ids = (*job.request.prompt_ids, *request.known)
        self._add(name, ids, arguments, max_tokens=self.capabilities.max_context - len(ids))
        self._requests[name] = request
        return None

    def _start_answers(self, running: JobInProgress) -> JobResult | None:
        """Start the missing answers; the job's result if there are none."""
        for branch in running.missing_answers:
            name = self._name()
            self._requests[name] = _AnswerRequest(running=running, branch=branch)
            self._add_answer(name, running.job, branch)
        return None if running.missing_answers else running.result()

    def _name(self) -> str:
        self._num_requests += 1
        return f"slowthink-{self._num_requests}"

    def _add_answer(self, name: str, job: Job, branch: Branch) -> None:
        """Queue a request for the answer only: everything before it is in the prompt."""
        request, known = job.request, Chain(key="", ids=branch.cut.ids)
        arguments, limit = None, request.budget.answer_tokens
        if request.sampling.temperature:  # greedy decoding needs no forcing
            point, limit = Point(len(known.ids)), limit + 1
            arguments = write_args(request, point, chain=known, closed=len(branch.closing))
        ids = (*request.prompt_ids, *known.ids, *branch.closing)
        self._add(name, ids, arguments, max_tokens=limit)

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

    # -- finished requests --

    def _finish(self, finished: Sequence[Finished]) -> list[JobResult]:
        """The results of jobs whose last request this was."""
        outputs = [output for output in finished if output.key in self._requests]
        thinking = [
            output.key
            for output in outputs
            if isinstance(self._requests[output.key], _ThinkingRequest)
        ]
        histories = dict(zip(thinking, self._engine.histories(thinking), strict=True))
        results = []
        for output in outputs:
            request = self._requests.pop(output.key)
            if output.reason not in ("stop", "length"):
                raise EngineError(
                    f"vLLM ended request {output.key} with `{output.reason}`; expected `stop`. "
                    "See its log; give the same command again."
                )
            if isinstance(request, _ThinkingRequest):
                result = self._finish_thinking(request, output, histories[output.key])
            else:
                result = self._finish_answer(request, output)
            results += [result] if result else []
        return results

    def _finish_thinking(
        self, request: _ThinkingRequest, output: Finished, ends: Any
    ) -> JobResult | None:
        flow = request.flow(output.ids, ends or ())
        if flow.num_unexpected or ends is None:
            raise EngineError(
                f"vLLM request {output.key}: {flow.num_unexpected} of {len(output.ids)} tokens are "
                "not those that were forced; expected none. Something else edits the logits: start "
                "vLLM without other logits processors."
            )
        running, num_known = request.running, len(request.known)
        prefilled = len(running.job.request.prompt_ids) + num_known - output.num_cached
        again = min(num_known, prefilled)
        self._spend(running, request.count(flow) + Cost(prefilled=prefilled, re_prefilled=again))
        flow.store(running)
        return self._start_answers(running)

    def _finish_answer(self, request: _AnswerRequest, output: Finished) -> JobResult | None:
        running, branch, ids = request.running, request.branch, output.ids
        limit = running.job.request.budget.answer_tokens
        stopped = bool(ids) and ids[-1] in self.eos_ids and len(ids) <= limit
        num_prompt = len(running.job.request.prompt_ids) + len(branch.cut.ids)
        prefilled = max(0, num_prompt - output.num_cached)
        cost = Cost(
            prefilled=prefilled,
            re_prefilled=prefilled,
            decoded=min(len(ids), limit),
            forced=len(branch.closing) + (len(ids) > limit),
        )
        self._spend(running, cost)
        if stopped:
            running.add_answer(branch, ids[:-1], AnswerEnd.STOP)
        else:
            running.add_answer(branch, ids[:limit], AnswerEnd.LENGTH)
        return None if running.missing_answers else running.result()

    def _spend(self, running: JobInProgress, cost: Cost) -> None:
        running.add_cost(cost)
        self.cost += cost


def _declared_end(
    token: float, end_probability: float, argmax: float, replacement: float
) -> DeclaredEnd:
    return DeclaredEnd(int(token), end_probability, int(argmax), int(replacement))
