"""Speed of forcing in flight, compared with a plain engine, s1's rounds and the other engines.

32 prompts of mixed lengths, at most 256 thinking tokens, two waits, on vLLM in this process. Every
round runs each method on the same requests, so a busy machine slows all methods:

- inflight: one request per problem, forced inside vLLM;
- plain: vLLM without the processor; each request as long as its counterpart in flight;
- s1: rounds of the whole batch (all requests think until the last has stopped, then "Wait" is
  appended to those with budget left; finally all answer), without and with vLLM's prefix cache;
- transformers: the transformers engine. rounds: the openai engine's rounds per request, on a
  separate `vllm serve`.

    {"inflight_over_plain": {"median": 0.98, "low": 0.97, "high": 0.99}, …}
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.command import main, spread
from benchmarks.forcing_step import step_overhead
from slowthink.engines import open_session
from slowthink.engines.session import Job, JobResult, Point, Session, generate
from slowthink.forcing.formats import FORMATS, TokenFormat, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, EndpointConfig, EngineConfig, SandboxSource, VllmConfig
from slowthink.records import Budget, Request, Sampling
from slowthink.stages.pool.sandbox import sandbox_problems

MODEL = "smollm2-135m"
DTYPE: Literal["bfloat16"] = "bfloat16"
CONTEXT = 1024


@dataclass(frozen=True, kw_only=True)
class Load:
    """The requests of a benchmark."""

    num_requests: int = 32
    cap: int = 256
    waits: int = 2
    answer_tokens: int = 16
    steps: int = 40
    """Steps that time the processor by itself."""


@dataclass
class Timings:
    """Seconds and tokens of each method, by round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def time(self, method: str, run: Callable[[], int]) -> None:
        """Time a run, which returns the number of tokens that it generated."""
        started = time.perf_counter()
        num_tokens = run()
        self.seconds.setdefault(method, []).append(time.perf_counter() - started)
        self.tokens.setdefault(method, []).append(num_tokens)

    def speed(self, method: str) -> list[float]:
        """Tokens per second by round."""
        return [n / s for n, s in zip(self.tokens[method], self.seconds[method], strict=True)]

    def ratio(self, method: str, baseline: str) -> dict[str, float]:
        """Speed of a method relative to a baseline in the same round."""
        pairs = zip(self.speed(method), self.speed(baseline), strict=True)
        return spread([speed / baseline_speed for speed, baseline_speed in pairs])


def run(*, num_rounds: int = 3, load: Load | None = None, http: bool = True) -> dict[str, Any]:
    """Tokens per second and ratios: median, lowest and highest of the rounds."""
    load = load or Load()
    overhead = step_overhead(steps=load.steps)
    timings = Timings()
    if http:
        _time_http(load, timings, num_rounds)
    config = _vllm_config()
    with open_session(MODEL, config) as vllm:
        embedded = open_session(MODEL, EngineConfig(dtype=DTYPE, max_context=CONTEXT))
        methods = _LocalMethods(vllm, embedded, load)
        methods.run_round(Timings())  # warm-up
        for _ in range(num_rounds):
            methods.run_round(timings)
    return _figures(timings, http=http) | overhead | _settings(load, num_rounds)


def _figures(timings: Timings, *, http: bool) -> dict[str, Any]:
    return {
        "plain_tokens_per_second": spread(timings.speed("plain")),
        "inflight_tokens_per_second": spread(timings.speed("inflight")),
        "s1_tokens_per_second": spread(timings.speed("s1")),
        "s1_cached_tokens_per_second": spread(timings.speed("s1_cached")),
        "transformers_tokens_per_second": spread(timings.speed("transformers")),
        "rounds_tokens_per_second": spread(timings.speed("rounds")) if http else None,
        "inflight_over_plain": timings.ratio("inflight", "plain"),
        "inflight_over_s1": timings.ratio("inflight", "s1"),
        "inflight_over_s1_cached": timings.ratio("inflight", "s1_cached"),
        "transformers_over_vllm": timings.ratio("transformers", "inflight"),
    }


def _settings(load: Load, num_rounds: int) -> dict[str, Any]:
    settings = {"model": MODEL, "dtype": DTYPE, "num_rounds": num_rounds}
    return settings | {name: getattr(load, name) for name in ("num_requests", "cap", "waits")}


def _vllm_config() -> EngineConfig:
    vllm = VllmConfig(enforce_eager=True, max_num_seqs=32)
    return EngineConfig(kind="vllm", dtype=DTYPE, max_context=CONTEXT, vllm=vllm)


def make_requests(session: Session, load: Load) -> list[Request]:
    """Requests for sandbox problems of mixed lengths: every second one has a solved example."""
    source = SandboxSource(num_problems=2 * load.num_requests, num_heldout=0)
    problems = list(sandbox_problems(source, seed=0, setting="bench"))[: 2 * load.num_requests]
    chat = ChatConfig(format="plain")
    budget = Budget(answer_tokens=load.answer_tokens)
    requests = []
    for index in range(load.num_requests):
        problem, example = problems[2 * index], problems[2 * index + 1]
        ids = prompt_ids(session.tokenizer, problem, chat)
        if index % 2:
            text = f"{example.question}\n{example.solution}\n\n"
            ids = (*session.tokenizer.encode(text, add_special_tokens=False), *ids)
        requests.append(
            Request(
                model=session.fingerprint, numerics=session.numerics, prompt_ids=tuple(ids),
                format=FORMATS["plain"], sampling=Sampling(), budget=budget, seed=0,
            )
        )  # fmt: skip
    return requests


def _jobs(session: Session, load: Load) -> list[Job]:
    point = Point(load.cap, load.waits)
    return [Job(request=request, points=(point,)) for request in make_requests(session, load)]


def _run_jobs(session: Session, load: Load) -> list[JobResult]:
    results = {result.key: result for result in generate(session, _jobs(session, load))}
    return [results[job.key] for job in _jobs(session, load)]


def _num_tokens(result: JobResult) -> int:
    """Tokens of thinking, closing and answer."""
    answers = sum(len(answer.closing) + len(answer.ids) for answer in result.answers)
    return len(result.chain.ids) + answers


class _LocalMethods:
    """The methods that run in this process."""

    def __init__(self, vllm: Any, embedded: Session, load: Load) -> None:
        self.vllm, self.embedded, self.load = vllm, embedded, load
        self.requests = make_requests(vllm, load)
        self.lengths: list[int] = []
        """Tokens generated in flight, by request."""

    def run_round(self, timings: Timings) -> None:
        """Time each method once."""
        clear_prefix_cache = self.vllm._engine._engine.reset_prefix_cache
        clear_prefix_cache()
        timings.time("inflight", self._inflight)
        with _without_processor(self.vllm):
            clear_prefix_cache()
            timings.time("plain", self._plain)
            timings.time("s1", lambda: self._s1(cached=False))
            clear_prefix_cache()
            timings.time("s1_cached", lambda: self._s1(cached=True))
        timings.time("transformers", self._transformers)

    def _inflight(self) -> int:
        self.lengths = [_num_tokens(result) for result in _run_jobs(self.vllm, self.load)]
        return sum(self.lengths)

    def _transformers(self) -> int:
        return sum(_num_tokens(result) for result in _run_jobs(self.embedded, self.load))

    def _plain(self) -> int:
        prompts = [request.prompt_ids for request in self.requests]
        _generate(self.vllm, prompts, self.lengths, ignore_eos=True)
        return sum(self.lengths)

    def _s1(self, *, cached: bool) -> int:
        """The loop of s1's evaluation code; each round may use the budget left."""
        compiled = compile_format(FORMATS["plain"], self.vllm.tokenizer, eos_ids=self.vllm.eos_ids)
        batch = _S1Batch(self.requests, compiled, self.load)
        for waits_left in range(self.load.waits, -1, -1):
            active = batch.active()
            outputs = _generate(
                self.vllm,
                [batch.prompt(i) for i in active],
                [batch.tokens_left(i) for i in active],
                skip_reading_prefix_cache=not cached,
            )
            for i, ids in zip(active, outputs, strict=True):
                batch.add_thinking(i, ids, is_last=not waits_left)
        answers = _generate(
            self.vllm,
            [batch.prompt_of_answer(i) for i in range(len(self.requests))],
            [self.load.answer_tokens] * len(self.requests),
            skip_reading_prefix_cache=not cached,
        )
        return batch.num_tokens(answers)


class _S1Batch:
    """The thinking of all requests in s1's loop."""

    def __init__(self, requests: Sequence[Request], compiled: TokenFormat, load: Load) -> None:
        self.requests, self.compiled, self.load = requests, compiled, load
        self.wait = make_rules(requests[0].budget, compiled).wait_string_ids(0)
        self.thinking: list[list[int]] = [[] for _ in requests]
        self.done = [False] * len(requests)

    def active(self) -> list[int]:
        """Indices of the requests that are still thinking."""
        return [i for i, done in enumerate(self.done) if not done]

    def prompt(self, i: int) -> tuple[int, ...]:
        """Prompt and thinking so far, prefilled in each round."""
        return (*self.requests[i].prompt_ids, *self.thinking[i])

    def tokens_left(self, i: int) -> int:
        """Thinking tokens left in the budget, at least 1."""
        return max(1, self.load.cap - len(self.thinking[i]))

    def add_thinking(self, i: int, ids: Sequence[int], *, is_last: bool) -> None:
        """Add a round's ids, without a trigger at their end; append the wait string if it fits."""
        ended = bool(ids) and ids[-1] in self.compiled.trigger_ids
        self.thinking[i] += ids[:-1] if ended else ids
        fits = len(self.thinking[i]) + len(self.wait) + 1 <= self.load.cap
        if ended and not is_last and fits:
            self.thinking[i] += self.wait
        else:
            self.done[i] = True

    def prompt_of_answer(self, i: int) -> tuple[int, ...]:
        """Prompt, thinking and closing."""
        cue = self.requests[i].budget.final_answer_cue
        closing = self.compiled.closing_ids(self.thinking[i], natural=False, cue=cue)
        return (*self.prompt(i), *(closing or ()))

    def num_tokens(self, answers: Sequence[Sequence[int]]) -> int:
        """Tokens of thinking, closings and answers."""
        prompts = sum(len(request.prompt_ids) for request in self.requests)
        before_answers = sum(len(self.prompt_of_answer(i)) for i in range(len(self.requests)))
        eos_ids = self.compiled.eos_ids
        return before_answers - prompts + sum(len(ids) - (ids[-1] in eos_ids) for ids in answers)


def _generate(
    vllm: Any, prompts: Sequence[Sequence[int]], max_tokens: Sequence[int], **settings: Any
) -> list[tuple[int, ...]]:
    """The outputs of unforced greedy requests in one batch."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    request_ids = [f"bench-{next(_REQUEST_NUMBERS)}" for _ in prompts]
    for request_id, ids, limit in zip(request_ids, prompts, max_tokens, strict=True):
        params = SamplingParams(
            temperature=0.0, max_tokens=limit, detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY, **settings,
        )  # fmt: skip
        vllm._engine.add(request_id, ids, params)
    outputs: dict[str, tuple[int, ...]] = {}
    while len(outputs) < len(request_ids):
        outputs |= {request.id: request.token_ids for request in vllm._engine.step(None)}
    return [outputs[request_id] for request_id in request_ids]


_REQUEST_NUMBERS = itertools.count()


@contextlib.contextmanager
def _without_processor(vllm: Any) -> Iterator[None]:
    """Remove the forcing processor from the engine until the block ends."""
    core = vllm._engine._engine.engine_core.engine_core
    batch = core.model_executor.driver_worker.worker.model_runner.input_batch
    processors = batch.logitsprocs.non_argmax_invariant[:]
    others = [p for p in processors if type(p).__name__ != "Forcing"]
    assert len(others) < len(processors), "the engine has no forcing processor"
    batch.logitsprocs.non_argmax_invariant[:] = others
    batch.logitsprocs_need_output_token_ids = False
    try:
        yield
    finally:
        batch.logitsprocs.non_argmax_invariant[:] = processors
        batch.logitsprocs_need_output_token_ids = True


# --- over HTTP ------------------------------------------------------------------------------------


def _time_http(load: Load, timings: Timings, num_rounds: int) -> None:
    """Time the openai engine's rounds on a `vllm serve`."""
    with _server() as url:
        config = EngineConfig(
            kind="openai", max_context=CONTEXT, endpoints=EndpointConfig(urls=(url,))
        )
        with open_session(MODEL, config) as session:
            for index in range(num_rounds + 1):
                into = timings if index else Timings()  # the first is a warm-up
                into.time("rounds", lambda: sum(map(_num_tokens, _run_jobs(session, load))))


@contextlib.contextmanager
def _server() -> Iterator[str]:
    from slowthink.cli.serve import server_command

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--enforce-eager", "--max-num-seqs", "32", "--max-model-len", str(CONTEXT))
    server = server_command(MODEL, port=port, dtype=DTYPE, vllm_options=options)
    process = subprocess.Popen(
        server.command, env={**os.environ, **server.environment}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _wait(url: str, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.5)
    raise RuntimeError(f"`vllm serve` did not answer at {url}; expected status 200")


if __name__ == "__main__":
    main(run, __doc__)
