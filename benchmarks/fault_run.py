"""Sends requests to a server with faults of every kind; all must complete, once and correctly.

python -m benchmarks.fault_run --requests 2000 --json
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import replace
from typing import Any

from benchmarks.command import show
from slowthink.engines.server.session import OpenAISession
from slowthink.engines.session import Job, Point, cut_at, generate
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.recipe import EngineConfig
from slowthink.recipe.base import EndpointConfig
from slowthink.records import Budget, Request, Sampling
from tests.servers.completions import Faults, Server, serve
from tests.servers.toy import EOS, TOKENIZER, literal_loop

FAULTS = Faults(broken=0.10, never=0.05, torn=0.05, busy=0.02, seed=4, num_spared=20)
"""The session's probes are spared: with faults, it would report a broken server at the start."""
CAP, WAITS = 20, 1


def run(
    num: int, *, timeout_seconds: float, restart_after: float, quick: bool = False
) -> dict[str, Any]:
    """Results, faults and retries, counted, of `num` requests during which the server restarts.
    `quick`: short pauses."""
    retry_after_seconds = 0.25 if quick else 1.0
    with serve(faults=replace(FAULTS, retry_after_seconds=retry_after_seconds)) as server:
        endpoints = EndpointConfig(
            urls=(server.url,), max_concurrency=100, timeout_seconds=timeout_seconds, max_retries=10
        )
        config = EngineConfig(kind="openai", endpoints=endpoints)
        with OpenAISession("toy", config, tokenizer=TOKENIZER) as session:
            if quick:
                session._pool.first_pause_seconds, session._pool.max_pause_seconds = 0.1, 1.0
            jobs = [_make_job(session, index) for index in range(num)]
            started = time.monotonic()
            restart = threading.Timer(restart_after, server.restart, kwargs={"down_seconds": 1.0})
            restart.start()
            results = list(generate(session, jobs))
            seconds = time.monotonic() - started
            restart.join()
            retries = dict(session.anomalies)
    return {
        "requests": num,
        "done": sum(result.error is None for result in results),
        "given_back_twice": len(results) - len({result.key for result in results}),
        "right": _num_correct(server, jobs, results),
        "http_requests": len(server.bodies),
        "faults": {name: server.counts[name] for name in ("broken", "never", "torn", "busy")},
        "tried_again": retries,
        "seconds": round(seconds, 1),
        "errors": [result.error for result in results if result.error][:3],
    }


def _make_job(session: OpenAISession, index: int) -> Job:
    request = Request(
        model=session.fingerprint,
        numerics=session.numerics,
        prompt_ids=tuple(TOKENIZER.encode(f"fault {index}")),
        format=FORMATS["s1"],
        sampling=Sampling(),
        budget=Budget(wait_strings=("W",), answer_tokens=4),
        seed=0,
    )
    return Job(request=request, points=(Point(CAP, WAITS),))


def _num_correct(server: Server, jobs: list[Job], results: list[Any]) -> int:
    """Number of results that have one answer and the thinking of the literal loop."""
    requests = {job.key: job.request for job in jobs}
    num_correct = 0
    for result in results:
        request = requests[result.key]
        token_format = compile_format(request.format, TOKENIZER, eos_ids=frozenset({EOS}))
        cut = cut_at(result.chain, make_rules(request.budget, token_format), Point(CAP, WAITS))
        expected = literal_loop(
            server.toy, request.prompt_ids, cap=CAP, waits=WAITS,
            wait=TOKENIZER.encode("W"), temperature=0.0,
        )  # fmt: skip
        num_correct += cut is not None and cut.ids == expected and len(result.answers) == 1
    return num_correct


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(run(options.requests, timeout_seconds=3.0, restart_after=4.0), json=options.json)
