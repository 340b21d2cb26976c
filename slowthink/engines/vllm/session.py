"""The vLLM engine: vLLM in this process, forcing inside each request.

A job's thinking is one request to the farthest of its points, including that point's answer; the
answers of the other points are short requests whose prompt is the thinking up to the cut and the
closing, which the prefix cache makes cheap. Results are returned as requests finish.
"""

from __future__ import annotations

import copy
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
from slowthink.engines.vllm.client import (
    Ends,
    FinishedRequest,
    make_params,
    open_engine,
    read_eos_ids,
    read_stop_id,
)
from slowthink.engines.vllm.request_args import write_args
from slowthink.engines.vllm.request_flow import (
    Flow,
    RequestArguments,
    check_fits,
    compile_job,
)
from slowthink.engines.vllm.self_check import check_forcing
from slowthink.errors import EngineError
from slowthink.forcing.machine import ActionKind
from slowthink.recipe import EngineConfig
from slowthink.records import AnswerEnd, Chain, Cost


@dataclass(kw_only=True)
class _ThinkingRequest:
    """A request that generates a job's thinking, and the answer after it if a point needs it."""

    state: JobInProgress
    arguments: RequestArguments
    reported_cost: Cost = field(default_factory=Cost)
    """The part of its cost that partial results already contain."""

    @property
    def cached_ids(self) -> tuple[int, ...]:
        """Cached thinking."""
        chain = self.state.job.chain
        return chain.ids if chain else ()

    def replay(self, ids: Sequence[int], ends: Ends) -> Flow:
        """The flow of the output ids."""
        compiled = self.arguments.compiled
        cap = compiled.args.budget.max_thinking_tokens
        assert cap is not None
        flow = Flow(compiled, cap=cap, cached_ids=self.cached_ids)
        flow.replay(ids, ends)
        return flow

    def finish(self, ids: Sequence[int], ends: Ends) -> tuple[Flow, int]:
        """The flow of all output ids, and how many of them are not its own.

        It is that of the request's row, if the row is in this process, and saw these ids: where it
        reads them from the logits, equal logits may be told apart in another way.
        """
        history = self.arguments.history
        if history is not None and history.flow is not None:
            history.flow.replay(ids, ends)
            if not history.flow.num_unexpected(ids):
                return history.flow, 0
        flow = self.replay(ids, ends)
        return flow, flow.num_unexpected(ids)

    def take_cost(self, flow: Flow, *, prefilled: int = 0, re_prefilled: int = 0) -> Cost:
        """Return the cost since the last call."""
        total = Cost(
            prefilled=prefilled,
            decoded=flow.num_sampled,
            forced=flow.num_forced,
            re_prefilled=re_prefilled,
        )
        cost, self.reported_cost = total - self.reported_cost, total
        return cost


@dataclass(frozen=True)
class _QueuedJob:
    """A job that has not started, with the arguments of its request."""

    job: Job
    request_id: str
    arguments: RequestArguments


@dataclass(frozen=True, kw_only=True)
class _AnswerRequest:
    """A request that generates one answer."""

    state: JobInProgress
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
        folder = resolve_model(
            name, revision, trust_remote_code=config.trust_remote_code, notify=notify
        )
        self._engine = open_engine(folder, config)
        input_processor = self._engine.input_processor
        self.tokenizer = input_processor.tokenizer
        self.fingerprint = fingerprint(folder)
        quantization = self._engine.config.model_config.quantization
        self.numerics = f"vllm/{config.dtype}" + (f"/{quantization}" if quantization else "")
        self.eos_ids = read_eos_ids(input_processor)
        self.capabilities = Capabilities(
            takes_ids=True,
            returns_ids=True,
            logprobs=False,
            in_flight=True,
            rollback=False,
            reproducible=False,  # near ties depend on the batch's composition
            max_context=input_processor.model_config.max_model_len,
        )
        self._context_limit = self._describe_context_limit(is_set=config.max_context is not None)
        self._params = make_params()
        self.cost = Cost()
        self.checkpoint_seconds = CHECKPOINT_SECONDS
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self._stop_id = read_stop_id(input_processor)
        self._queue: dict[str, _QueuedJob] = {}
        self._requests: dict[str, _ThinkingRequest | _AnswerRequest] = {}
        """Running requests by id."""
        self._num_requests = 0
        self._check_forcing()

    def _describe_context_limit(self, *, is_set: bool) -> str:
        """What limits the context: vLLM lowers it to what the KV cache has room for."""
        model_config = self._engine.input_processor.model_config
        own_limit = getattr(model_config.hf_text_config, "max_position_embeddings", None) or 0
        if is_set or model_config.max_model_len >= own_limit:
            return "the model's context"
        size = self._engine.config.parallel_config.tensor_parallel_size
        return f"the context that vLLM has room for (engine.vllm.tensor_parallel_size: {size})"

    def _check_forcing(self) -> None:
        """Close the engine and raise EngineError if it loses forced tokens."""
        try:
            check_forcing(self, self._engine.config)
        except BaseException:
            self._engine.close()
            raise
        self.cost = Cost()

    def __enter__(self) -> VllmSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.clear()
        self._requests.clear()
        self._engine.close()

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if its budget does not fit the context, or its format
        has a trigger of several tokens."""
        check_context(job, max_context=self.capabilities.max_context, limit=self._context_limit)
        request_id = self._new_id()
        arguments = compile_job(job, self.compiler, stop_id=self._stop_id, log=request_id)
        self._queue[job.key] = _QueuedJob(job, request_id, arguments)

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop jobs, queued or running."""
        dropped = set(keys)
        self._queue = {key: job for key, job in self._queue.items() if key not in dropped}
        ids = [
            request_id
            for request_id, request in self._requests.items()
            if request.state.job.key in dropped
        ]
        for request_id in ids:
            del self._requests[request_id]
        self._engine.abort(ids)
        self._engine.take_histories(dict.fromkeys(ids, 0))

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
        """The thinking so far of all jobs that are still thinking."""
        results = []
        for request_id, ids, ends in self._engine.running_requests():
            request = self._requests.get(request_id)
            if isinstance(request, _ThinkingRequest) and ids:
                flow = request.replay(ids, ends)
                cost = request.take_cost(flow)
                if cost != Cost():
                    request.state.machine = flow.thinking
                    self._spend(request.state, cost)
                    results.append(request.state.result(partial=True))
        return results

    # -- starting requests --

    def _start(self, queued: _QueuedJob) -> JobResult | None:
        """Start the job's thinking. Returns the job's result if nothing is missing."""
        job = queued.job
        state = JobInProgress.start(job, self.compiler)
        if state.machine.next_action().kind is ActionKind.STOP:
            state.end_thinking()
            return self._start_answers(state)
        request = _ThinkingRequest(state=state, arguments=queued.arguments)
        prompt_ids = (*job.request.prompt_ids, *request.cached_ids)
        max_context = self.capabilities.max_context
        max_tokens = max_context - len(prompt_ids)
        check_fits(
            queued.arguments.compiled,
            num_prompt=len(prompt_ids),
            max_context=max_context,
            max_tokens=max_tokens,
        )
        self._add(queued.request_id, prompt_ids, queued.arguments, max_tokens=max_tokens)
        self._requests[queued.request_id] = request
        return None

    def _start_answers(self, state: JobInProgress) -> JobResult | None:
        """Start the missing answers. Returns the job's result if there are none."""
        branches = state.missing_answers
        for branch in branches:
            request_id = self._new_id()
            self._requests[request_id] = _AnswerRequest(state=state, branch=branch)
            self._add_answer(request_id, state.job, branch)
        return None if branches else state.result()

    def _new_id(self) -> str:
        self._num_requests += 1
        return f"slowthink-{self._num_requests}"

    def _add_answer(self, request_id: str, job: Job, branch: Branch) -> None:
        """Queue a request for the answer only: everything before it is in the prompt."""
        request, thinking = job.request, branch.cut.ids
        arguments, max_tokens = None, request.budget.answer_tokens
        if request.sampling.temperature:  # greedy decoding needs no forcing
            chain, point = Chain(key="", ids=thinking), Point(len(thinking))
            arguments = write_args(request, point, chain=chain, closed=len(branch.closing))
            max_tokens += 1
        prompt_ids = (*request.prompt_ids, *thinking, *branch.closing)
        self._add(request_id, prompt_ids, arguments, max_tokens=max_tokens)

    def _add(
        self,
        request_id: str,
        prompt_ids: Sequence[int],
        arguments: dict[str, Any] | None,
        *,
        max_tokens: int,
    ) -> None:
        params = copy.copy(self._params)
        params.max_tokens, params.extra_args = max_tokens, arguments
        self._engine.add(request_id, prompt_ids, params)

    # -- finished requests --

    def _finish(self, finished: Sequence[FinishedRequest]) -> list[JobResult]:
        """Store finished requests. Returns the results of the jobs that are complete now."""
        outputs = [output for output in finished if output.id in self._requests]
        histories = self._engine.take_histories(
            {
                output.id: len(output.token_ids)
                for output in outputs
                if isinstance(self._requests[output.id], _ThinkingRequest)
            }
        )
        results = []
        for output in outputs:
            request = self._requests.pop(output.id)
            if output.finish_reason not in ("stop", "length"):
                raise EngineError(
                    f"vLLM ended request {output.id} with `{output.finish_reason}`; expected "
                    "`stop`. See its log, then repeat the command."
                )
            if isinstance(request, _ThinkingRequest):
                result = self._finish_thinking(request, output, histories[output.id])
            else:
                result = self._finish_answer(request, output)
            results += [result] if result else []
        return results

    def _finish_thinking(
        self, request: _ThinkingRequest, output: FinishedRequest, ends: Ends | None
    ) -> JobResult | None:
        if ends is None:
            raise EngineError(
                f"vLLM request {output.id}: no worker knows how it was forced; expected one that "
                "sampled for it. A worker was lost or replaced: repeat the command."
            )
        flow, num_unexpected = request.finish(output.token_ids, ends)
        if num_unexpected:
            raise EngineError(
                f"vLLM request {output.id}: {num_unexpected} of {len(output.token_ids)} "
                "tokens are not those that were forced; expected none. Something else edits the "
                "logits: start vLLM without other logits processors."
            )
        state, num_cached = request.state, len(request.cached_ids)
        prefilled = len(state.job.request.prompt_ids) + num_cached - output.num_cached_tokens
        re_prefilled = min(num_cached, prefilled)
        cost = request.take_cost(flow, prefilled=prefilled, re_prefilled=re_prefilled)
        self._spend(state, cost)
        flow.store(state)
        return self._start_answers(state)

    def _finish_answer(self, request: _AnswerRequest, output: FinishedRequest) -> JobResult | None:
        state, branch, ids = request.state, request.branch, output.token_ids
        limit = state.job.request.budget.answer_tokens
        stopped = bool(ids) and ids[-1] in self.eos_ids and len(ids) <= limit
        num_prompt = len(state.job.request.prompt_ids) + len(branch.cut.ids)
        prefilled = max(0, num_prompt - output.num_cached_tokens)
        cost = Cost(
            prefilled=prefilled,
            re_prefilled=prefilled,
            decoded=min(len(ids), limit),
            forced=len(branch.closing) + (len(ids) > limit),
        )
        self._spend(state, cost)
        if stopped:
            state.add_answer(branch, ids[:-1], AnswerEnd.STOP)
        else:
            state.add_answer(branch, ids[:limit], AnswerEnd.LENGTH)
        return None if state.missing_answers else state.result()

    def _spend(self, state: JobInProgress, cost: Cost) -> None:
        state.add_cost(cost)
        self.cost += cost
