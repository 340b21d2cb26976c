"""Speed of forcing in flight, beside a plain engine, s1's rounds and our other engines.

32 problems of mixed lengths, at most 256 thinking tokens, two waits, on vLLM in this process. In a
round each way has its turn on the same requests, so a busy machine slows all:

- in flight: one request each, forced inside;
- plain: no processor in the engine, each request as long as its counterpart in flight;
- s1: batch-wide rounds (everybody thinks until all have stopped, then "Wait" is put to those who
  may go on; at last all answer), with vLLM's prefix cache not read, and read;
- transformers: our embedded engine. HTTP: our rounds per request, on a `vllm serve` of its own.

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
    """What is asked."""

    num_requests: int = 32
    cap: int = 256
    waits: int = 2
    answer_tokens: int = 16
    steps: int = 40
    """Of the processor alone."""


@dataclass
class Turns:
    """Seconds of each way, a number a round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], int]) -> None:
        """Do it, and note how long it took; it says how many tokens it made."""
        started = time.perf_counter()
        tokens = work()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        self.tokens.setdefault(name, []).append(tokens)

    def speed(self, name: str) -> list[float]:
        """Tokens per second by round."""
        return [n / s for n, s in zip(self.tokens[name], self.seconds[name], strict=True)]

    def ratio(self, one: str, other: str) -> dict[str, float]:
        """Speed of one over the other, pair by pair."""
        pairs = zip(self.speed(one), self.speed(other), strict=True)
        return spread([a / b for a, b in pairs])


def run(*, num_rounds: int = 3, load: Load | None = None, http: bool = True) -> dict[str, Any]:
    """Tokens per second and ratios; medians over the rounds, with the least and the most."""
    load = load or Load()
    overhead = step_overhead(steps=load.steps)
    turns = Turns()
    if http:
        _http_turns(load, turns, num_rounds)
    config = _vllm_config()
    with open_session(MODEL, config) as vllm:
        embedded = open_session(MODEL, EngineConfig(dtype=DTYPE, max_context=CONTEXT))
        ways = _Ways(vllm, embedded, load)
        ways.round(Turns())  # warm
        for _ in range(num_rounds):
            ways.round(turns)
    return _figures(turns, http=http) | overhead | _named(load, num_rounds)


def _figures(turns: Turns, *, http: bool) -> dict[str, Any]:
    return {
        "plain_tokens_per_second": spread(turns.speed("plain")),
        "inflight_tokens_per_second": spread(turns.speed("inflight")),
        "s1_tokens_per_second": spread(turns.speed("s1")),
        "s1_cached_tokens_per_second": spread(turns.speed("s1_cached")),
        "transformers_tokens_per_second": spread(turns.speed("transformers")),
        "rounds_tokens_per_second": spread(turns.speed("rounds")) if http else None,
        "inflight_over_plain": turns.ratio("inflight", "plain"),
        "inflight_over_s1": turns.ratio("inflight", "s1"),
        "inflight_over_s1_cached": turns.ratio("inflight", "s1_cached"),
        "transformers_over_vllm": turns.ratio("transformers", "inflight"),
    }


def _named(load: Load, num_rounds: int) -> dict[str, Any]:
    named = {"model": MODEL, "dtype": DTYPE, "num_rounds": num_rounds}
    return named | {name: getattr(load, name) for name in ("num_requests", "cap", "waits")}


def _vllm_config() -> EngineConfig:
    vllm = VllmConfig(enforce_eager=True, max_num_seqs=32)
    return EngineConfig(kind="vllm", dtype=DTYPE, max_context=CONTEXT, vllm=vllm)


def requests_of(session: Session, load: Load) -> list[Request]:
    """Sandbox problems, every other one with a worked example before it: mixed lengths."""
    source = SandboxSource(num_problems=2 * load.num_requests, num_heldout=0)
    problems = list(sandbox_problems(source, seed=0, setting="bench"))[: 2 * load.num_requests]
    chat = ChatConfig(format="plain")
    budget = Budget(answer_tokens=load.answer_tokens)
    found = []
    for number in range(load.num_requests):
        one, example = problems[2 * number], problems[2 * number + 1]
        ids = prompt_ids(session.tokenizer, one, chat)
        if number % 2:
            text = f"{example.question}\n{example.solution}\n\n"
            ids = (*session.tokenizer.encode(text, add_special_tokens=False), *ids)
        found.append(
            Request(
                model=session.fingerprint, numerics=session.numerics, prompt_ids=tuple(ids),
                format=FORMATS["plain"], sampling=Sampling(), budget=budget, seed=0,
            )
        )  # fmt: skip
    return found


def _jobs(session: Session, load: Load) -> list[Job]:
    point = Point(load.cap, load.waits)
    return [Job(request=request, points=(point,)) for request in requests_of(session, load)]


def _run_jobs(session: Session, load: Load) -> list[JobResult]:
    outcomes = {one.key: one for one in generate(session, _jobs(session, load))}
    return [outcomes[job.key] for job in _jobs(session, load)]


def _made(outcome: JobResult) -> int:
    """Tokens of thinking, closing and answer."""
    answers = sum(len(one.closing) + len(one.ids) for one in outcome.answers)
    return len(outcome.chain.ids) + answers


class _Ways:
    """All that runs in this process."""

    def __init__(self, vllm: Any, embedded: Session, load: Load) -> None:
        self.vllm, self.embedded, self.load = vllm, embedded, load
        self.requests = requests_of(vllm, load)
        self.lengths: list[int] = []

    def round(self, turns: Turns) -> None:
        """A turn of each."""
        forget = self.vllm._engine._engine.reset_prefix_cache  # of the round before
        forget()
        turns.time("inflight", self._inflight)
        with _no_processor(self.vllm):
            forget()
            turns.time("plain", self._plain)
            turns.time("s1", lambda: self._s1(cached=False))
            forget()
            turns.time("s1_cached", lambda: self._s1(cached=True))
        turns.time("transformers", self._transformers)

    def _inflight(self) -> int:
        outcomes = _run_jobs(self.vllm, self.load)
        self.lengths = [_made(one) for one in outcomes]
        return sum(self.lengths)

    def _transformers(self) -> int:
        return sum(_made(one) for one in _run_jobs(self.embedded, self.load))

    def _plain(self) -> int:
        prompts = [request.prompt_ids for request in self.requests]
        _generate(self.vllm, prompts, self.lengths, ignore_eos=True)
        return sum(self.lengths)

    def _s1(self, *, cached: bool) -> int:
        """The harness's loop, each round with what is left of the budget."""
        compiled = compile_format(FORMATS["plain"], self.vllm.tokenizer, eos_ids=self.vllm.eos_ids)
        skip = not cached
        texts = _S1(self.requests, compiled, self.load)
        for left in range(self.load.waits, -1, -1):
            active = texts.active()
            ends = _generate(
                self.vllm,
                [texts.prompt(i) for i in active],
                [texts.room(i) for i in active],
                skip_reading_prefix_cache=skip,
            )
            for i, ids in zip(active, ends, strict=True):
                texts.thought(i, ids, last=not left)
        answers = _generate(
            self.vllm,
            [texts.closed(i) for i in range(len(self.requests))],
            [self.load.answer_tokens] * len(self.requests),
            skip_reading_prefix_cache=skip,
        )
        return texts.total(answers)


class _S1:
    """The texts of s1's loop."""

    def __init__(self, requests: Sequence[Request], compiled: TokenFormat, load: Load) -> None:
        self.requests, self.compiled, self.load = requests, compiled, load
        self.wait = make_rules(requests[0].budget, compiled).wait(0)
        self.thinking: list[list[int]] = [[] for _ in requests]
        self.done = [False] * len(requests)

    def active(self) -> list[int]:
        """Who still thinks."""
        return [i for i, done in enumerate(self.done) if not done]

    def prompt(self, i: int) -> tuple[int, ...]:
        """Prompt and thinking so far: all of it is prefilled in each round."""
        return (*self.requests[i].prompt_ids, *self.thinking[i])

    def room(self, i: int) -> int:
        """Thinking tokens left."""
        return max(1, self.load.cap - len(self.thinking[i]))

    def thought(self, i: int, ids: Sequence[int], *, last: bool) -> None:
        """A round's ids, with the stop token they may end in."""
        ended = bool(ids) and ids[-1] in self.compiled.trigger_ids
        self.thinking[i] += ids[:-1] if ended else ids
        fits = len(self.thinking[i]) + len(self.wait) + 1 <= self.load.cap
        if ended and not last and fits:
            self.thinking[i] += self.wait
        else:
            self.done[i] = True

    def closed(self, i: int) -> tuple[int, ...]:
        """Everything up to the answer."""
        cue = self.requests[i].budget.final_answer_cue
        closing = self.compiled.closing_ids(self.thinking[i], natural=False, cue=cue)
        return (*self.prompt(i), *(closing or ()))

    def total(self, answers: Sequence[Sequence[int]]) -> int:
        """Tokens of thinking, closings and answers."""
        prompts = sum(len(request.prompt_ids) for request in self.requests)
        texts = sum(len(self.closed(i)) for i in range(len(self.requests)))
        eos = self.compiled.eos_ids
        return texts - prompts + sum(len(ids) - (ids[-1] in eos) for ids in answers)


def _generate(
    vllm: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], **settings: Any
) -> list[tuple[int, ...]]:
    """The outputs of plain greedy requests, all at once."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    names = [f"bench-{next(_NUMBER)}" for _ in prompts]
    for name, ids, limit in zip(names, prompts, limits, strict=True):
        params = SamplingParams(
            temperature=0.0, max_tokens=limit, detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY, **settings,
        )  # fmt: skip
        vllm._engine.add(name, ids, params)
    found: dict[str, tuple[int, ...]] = {}
    while len(found) < len(names):
        found |= {one.key: one.ids for one in vllm._engine.step(None)}
    return [found[name] for name in names]


_NUMBER = itertools.count()


@contextlib.contextmanager
def _no_processor(vllm: Any) -> Iterator[None]:
    """The engine as if it had been started without ours."""
    core = vllm._engine._engine.engine_core.engine_core
    batch = core.model_executor.driver_worker.worker.model_runner.input_batch
    kept = batch.logitsprocs.non_argmax_invariant[:]
    ours = [one for one in kept if type(one).__name__ == "Forcing"]
    assert ours, "no processor of ours in the engine"
    batch.logitsprocs.non_argmax_invariant[:] = [one for one in kept if one not in ours]
    batch.logitsprocs_need_output_token_ids = False
    try:
        yield
    finally:
        batch.logitsprocs.non_argmax_invariant[:] = kept
        batch.logitsprocs_need_output_token_ids = True


# --- over HTTP ------------------------------------------------------------------------------------


def _http_turns(load: Load, turns: Turns, num_rounds: int) -> None:
    """Our rounds per request, on a server of their own."""
    with _server() as url:
        config = EngineConfig(
            kind="openai", max_context=CONTEXT, endpoints=EndpointConfig(urls=(url,))
        )
        with open_session(MODEL, config) as session:
            for number in range(num_rounds + 1):
                into = turns if number else Turns()
                into.time("rounds", lambda: sum(map(_made, _run_jobs(session, load))))


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
    raise RuntimeError(f"bench forcing: `vllm serve` did not answer at {url}")


if __name__ == "__main__":
    main(run, __doc__)
