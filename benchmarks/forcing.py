"""Speed of forcing in flight, compared with a plain engine, s1's rounds and the other engines.

32 prompts of mixed lengths, at most 256 thinking tokens, two waits, on vLLM in this process. Every
round runs each method on the same requests, so a busy machine slows all methods; the prompts of
each round are new, so that no round reads another's prefix cache:

- inflight: one request per problem, forced inside vLLM;
- plain: vLLM without slowthink, in a process of its own (`plain_vllm`); each request as long as its
  counterpart in flight;
- s1: rounds of the whole batch on the plain engine (all requests think until the last has stopped,
  then "Wait" is appended to those with budget left; finally all answer), without and with vLLM's
  prefix cache;
- transformers: the transformers engine. rounds: the openai engine's rounds per request, on a
  separate `vllm serve`.

    {"inflight_over_plain": {"median": 0.98, "low": 0.97, "high": 0.99}, …}
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from benchmarks.command import main, spread, synchronise
from benchmarks.names import (
    FORMATS,
    Budget,
    ChatConfig,
    EngineConfig,
    Job,
    JobResult,
    Point,
    Request,
    Sampling,
    SandboxSource,
    Session,
    VllmConfig,
    generate,
    open_session,
    prompt_ids,
    sandbox_problems,
)
from benchmarks.plain_vllm import PlainVllm, S1Ids, S1Rounds

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
    sampling: Sampling = field(default_factory=Sampling)
    format: str = "plain"
    fill: bool = False
    """Every request thinks up to the cap."""


@dataclass
class Timings:
    """Seconds and tokens of each method, by round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)

    def time(self, method: str, run: Callable[[], int]) -> None:
        """Time a run, which returns the number of tokens that it generated."""
        synchronise()
        started = time.perf_counter()
        num_tokens = run()
        synchronise()
        self.add(method, num_tokens, time.perf_counter() - started)

    def add(self, method: str, num_tokens: int, seconds: float) -> None:
        """Add a run."""
        self.seconds.setdefault(method, []).append(seconds)
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
    from benchmarks.forcing_step import step_overhead

    load = load or Load()
    overhead = step_overhead()
    timings, settings = Timings(), {"max_num_seqs": 32, "enforce_eager": True}
    if http:
        _time_http(load, timings, num_rounds)
    with (
        PlainVllm(MODEL, dtype=DTYPE, context=CONTEXT, **settings) as plain,
        open_session(MODEL, vllm_config(**settings)) as vllm,
    ):
        embedded = open_session(
            MODEL, EngineConfig(kind="transformers", dtype=DTYPE, max_context=CONTEXT)
        )
        for index in range(num_rounds + 1):
            into = timings if index else Timings()  # the first is a warm-up
            time_round(into, load, vllm=vllm, plain=plain, embedded=embedded, seed=index)
    return _figures(timings, http=http) | overhead | _settings(load, num_rounds)


def time_round(
    timings: Timings,
    load: Load,
    *,
    vllm: Session,
    plain: PlainVllm,
    embedded: Session | None = None,
    seed: int = 0,
) -> None:
    """Time each method once on the same requests, which differ by `seed`."""
    requests = make_requests(vllm, load, seed=seed)
    lengths: list[int] = []
    timings.time("inflight", partial(_run_total, vllm, requests, load, lengths))
    prompts, sampling = [request.prompt_ids for request in requests], load.sampling
    output = plain.generate(
        prompts, lengths, temperature=sampling.temperature, top_p=sampling.top_p, ignore_eos=True
    )
    timings.add("plain", output.num_tokens, output.seconds)
    if not sampling.temperature:
        _time_s1(timings, load, vllm, plain, requests)
    if embedded is not None:
        timings.time("transformers", partial(_run_total, embedded, requests, load))


def _time_s1(
    timings: Timings, load: Load, vllm: Session, plain: PlainVllm, requests: Sequence[Request]
) -> None:
    """Time s1's loop without and with the prefix cache."""
    first = requests[0]
    ids = S1Ids.of(vllm.tokenizer, first.format, first.budget, vllm.eos_ids)
    prompts = [request.prompt_ids for request in requests]
    for method, cached in (("s1", False), ("s1_cached", True)):
        rounds = S1Rounds(
            prompts, ids, cap=load.cap, waits=load.waits, answer_tokens=load.answer_tokens
        )
        timings.add(method, *rounds.run(plain, skip_reading_prefix_cache=not cached))


def _run_total(
    session: Session, requests: Sequence[Request], load: Load, lengths: list[int] | None = None
) -> int:
    """Run the requests; returns their number of tokens, and adds that of each to `lengths`."""
    each = [num_tokens(result) for result in run_requests(session, requests, load)]
    if lengths is not None:
        lengths += each
    return sum(each)


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


def vllm_config(**settings: Any) -> EngineConfig:
    """The vLLM engine with these settings of VllmConfig."""
    vllm = VllmConfig(**settings)
    return EngineConfig(kind="vllm", dtype=DTYPE, max_context=CONTEXT, vllm=vllm)


def make_requests(session: Session, load: Load, *, seed: int = 0) -> list[Request]:
    """Requests for sandbox problems of mixed lengths: every second one has a solved example."""
    source = SandboxSource(num_problems=2 * load.num_requests, num_heldout=0)
    problems = list(sandbox_problems(source, seed=seed))[: 2 * load.num_requests]
    chat = ChatConfig(format=load.format, system_prompt="" if load.format == "s1" else None)
    budget = Budget(
        answer_tokens=load.answer_tokens, min_thinking_tokens=load.cap if load.fill else 0
    )
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
                format=FORMATS[load.format], sampling=load.sampling, budget=budget, seed=seed,
            )
        )  # fmt: skip
    return requests


def run_requests(session: Session, requests: Sequence[Request], load: Load) -> list[JobResult]:
    """The results of these requests, in their order."""
    jobs = [Job(request=request, points=(Point(load.cap, load.waits),)) for request in requests]
    results = {result.key: result for result in generate(session, jobs)}
    return [results[job.key] for job in jobs]


def num_tokens(result: JobResult) -> int:
    """Tokens of thinking, closing and answer."""
    answers = sum(len(answer.closing) + len(answer.ids) for answer in result.answers)
    return len(result.chain.ids) + answers


# --- over HTTP ------------------------------------------------------------------------------------


def _time_http(load: Load, timings: Timings, num_rounds: int) -> None:
    """Time the openai engine's rounds on a `vllm serve`."""
    from slowthink.recipe import EndpointConfig

    with _server() as url:
        config = EngineConfig(
            kind="openai", max_context=CONTEXT, endpoints=EndpointConfig(urls=(url,))
        )
        with open_session(MODEL, config) as session:
            for index in range(num_rounds + 1):
                into = timings if index else Timings()  # the first is a warm-up
                requests = make_requests(session, load, seed=index)
                into.time("rounds", partial(_run_total, session, requests, load))


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
