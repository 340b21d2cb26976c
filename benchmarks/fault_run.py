"""Requests through a server that fails in every way at once; all must be done, each once and right.

python -m benchmarks.fault_run --requests 2000 --json
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter
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
from tests.servers.toy import EOS, TOKENIZER, literal

FAULTS = Faults(broken=0.10, never=0.05, torn=0.05, busy=0.02, seed=4, spared=20)
"""The session's first questions go well: a server that fails them is told at the start."""
CAP, WAITS = 20, 1


def run(
    num: int, *, timeout_seconds: float, restart_after: float, quick: bool = False
) -> dict[str, Any]:
    """`num` requests, one restart; what came of them, and what it took. `quick`: short pauses."""
    retry_after_seconds = 0.25 if quick else 1.0
    with serve(faults=replace(FAULTS, retry_after_seconds=retry_after_seconds)) as server:
        found = EndpointConfig(
            urls=(server.url,), max_concurrency=100, timeout_seconds=timeout_seconds, max_retries=10
        )
        config = EngineConfig(kind="openai", endpoints=found)
        with OpenAISession("toy", config, tokenizer=TOKENIZER) as session:
            if quick:
                session._pool.first_pause_seconds, session._pool.longest_pause_seconds = 0.1, 1.0
            jobs = [_job(session, number) for number in range(num)]
            started = time.monotonic()
            restart = threading.Timer(restart_after, server.restart, kwargs={"away_seconds": 1.0})
            restart.start()
            outcomes = list(generate(session, jobs))
            seconds = time.monotonic() - started
            restart.join()
            again = dict(session.anomalies)
    return {
        "requests": num,
        "done": sum(outcome.error is None for outcome in outcomes),
        "given_back_twice": len(outcomes) - len({outcome.key for outcome in outcomes}),
        "right": _num_right(server, jobs, outcomes),
        "http_requests": len(server.bodies),
        "faults": {name: server.counts[name] for name in ("broken", "never", "torn", "busy")},
        "tried_again": again,
        "seconds": round(seconds, 1),
        "errors": [outcome.error for outcome in outcomes if outcome.error][:3],
    }


def _job(session: OpenAISession, number: int) -> Job:
    request = Request(
        model=session.fingerprint,
        numerics=session.numerics,
        prompt_ids=tuple(TOKENIZER.encode(f"fault {number}")),
        format=FORMATS["s1"],
        sampling=Sampling(),
        budget=Budget(wait_strings=("W",), answer_tokens=4),
        seed=0,
    )
    return Job(request=request, points=(Point(CAP, WAITS),))


def _num_right(server: Server, jobs: list[Job], outcomes: list[Any]) -> int:
    """Outcomes whose thinking is the literal loop's and that have their one answer."""
    prompts = {job.key: job.request for job in jobs}
    right: Counter[bool] = Counter()
    for outcome in outcomes:
        request = prompts[outcome.key]
        token_format = compile_format(request.format, TOKENIZER, eos_ids=frozenset({EOS}))
        cut = cut_at(outcome.chain, make_rules(request.budget, token_format), Point(CAP, WAITS))
        expected = literal(
            server.toy, request.prompt_ids, cap=CAP, waits=WAITS,
            wait=TOKENIZER.encode("W"), temperature=0.0,
        )  # fmt: skip
        right[cut is not None and cut.ids == expected and len(outcome.answers) == 1] += 1
    return right[True]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(run(options.requests, timeout_seconds=3.0, restart_after=4.0), json=options.json)
