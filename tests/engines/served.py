"""Compares token ids of a real `slowthink serve` of SmolLM2 with those of the transformers engine.

    python -m tests.engines.served 50       50 questions; figures as JSON, with the near ties

The budget is forced by the client in rounds, and by the server inside each request.
A near tie is a step where the two likeliest tokens are less than 1e-3 apart in logits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.cli.serve import server_command
from slowthink.engines.server.session import OpenAISession
from slowthink.engines.session import Job, JobResult, Point, generate
from slowthink.forcing.formats import FORMATS
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, EndpointConfig, EngineConfig
from slowthink.records import Budget, Problem, Request, Sampling

MODEL = "smollm2-135m"
CAPS = (Point(0), Point(7), Point(24), Point(48))
WAITS = (Point(40), Point(48, 1), Point(48, 2))
SETTINGS: dict[str, dict[str, Any]] = {
    "caps": {"points": CAPS},
    "waits": {"points": WAITS},
    "rotation": {"points": WAITS, "wait_strings": ("Hmm", " But wait,")},
    "no string": {"points": (Point(32, 2),), "wait_strings": ()},
    "minimum": {"points": (Point(40),), "min_thinking_tokens": 24},
    "tau 0.02": {"points": WAITS, "end_rule": "probability", "end_probability": 0.02},
    "argmax": {"points": WAITS, "end_rule": "argmax"},
    "think tags": {"points": WAITS, "format": "think-tags"},
    "plain": {"points": WAITS, "format": "plain"},
}
"""`think tags`: for this tokenizer a delimiter of several ordinary tokens, which is rolled back."""
MODES = ("rounds", "in flight")
ROLLED_BACK = ("think tags",)
NEAR_TIE = 1e-3
Settings = dict[str, dict[str, Any]]


@contextlib.contextmanager
def served(log: Path) -> Iterator[str]:
    """Run `slowthink serve` with the embedded model in fp32 on a free port, and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", "32")
    server = server_command(MODEL, port=port, dtype="float32", vllm_options=options)
    command = server.command
    environment = os.environ | server.environment | {"VLLM_LOGGING_LEVEL": "WARNING"}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, start_new_session=True
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as reply:
            if reply.status == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"vllm serve did not start:\n{log.read_text()[-3000:]}")


def questions(num: int) -> list[str]:
    """Distinct arithmetic questions."""
    words = ("What is {} + {}?", "Add {} to {}.", "Tom has {} nuts and finds {} more. How many?")
    return [words[n % 3].format(3 + 7 * n % 89, 5 + 11 * n % 97) for n in range(num)]


def make_jobs(session: Any, num: int, settings: Settings) -> dict[tuple[str, str], Job]:
    """A job for each setting and question."""
    jobs = {}
    for seed, (name, setting) in enumerate(settings.items()):  # a seed tells equal chains apart
        setting = dict(setting)
        points, format = setting.pop("points"), setting.pop("format", "s1")
        for question in questions(num):
            problem = Problem(
                id=question, duplicate_key=question, question=question, source="made",
                source_row="0",
            )  # fmt: skip
            request = Request(
                model=session.fingerprint,
                numerics=session.numerics,
                prompt_ids=prompt_ids(session.tokenizer, problem, ChatConfig(format=format)),
                format=FORMATS[format],
                sampling=Sampling(),
                budget=Budget(answer_tokens=6, **setting),
                seed=seed,
            )
            jobs[name, question] = Job(request=request, points=points)
    return jobs


def run_jobs(session: Any, num: int, settings: Settings) -> dict[tuple[str, str], JobResult]:
    """The results by setting and question."""
    jobs = make_jobs(session, num, settings)
    names = {job.key: name for name, job in jobs.items()}
    assert len(names) == len(jobs)
    return {names[result.key]: result for result in generate(session, list(jobs.values()))}


def differences(
    embedded: dict[tuple[str, str], JobResult], served: dict[tuple[str, str], JobResult], gap: Any
) -> list[dict[str, Any]]:
    """Jobs whose thinking or answers differ, with the gap of the two likeliest tokens at that step."""
    rows = []
    for name, expected in embedded.items():
        result = served[name]
        assert result.error is None, result.error
        if expected.chain.ids != result.chain.ids:
            at = _first_difference(expected.chain.ids, result.chain.ids)
            rows.append({"where": name, "thinking": at, "gap": gap(name, expected.chain.ids[:at])})
            continue
        expected_ids = {
            (answer.num_thinking_tokens, answer.closing): answer.ids for answer in expected.answers
        }
        for answer in result.answers:
            ids = expected_ids[answer.num_thinking_tokens, answer.closing]
            if ids != answer.ids:
                at = _first_difference(ids, answer.ids)
                before = (
                    *expected.chain.ids[: answer.num_thinking_tokens],
                    *answer.closing,
                    *ids[:at],
                )
                rows.append({"where": name, "answer": at, "gap": gap(name, before)})
    return rows


def _first_difference(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


@dataclass
class ServedRun:
    """Results of one mode over HTTP."""

    results: dict[tuple[str, str], JobResult]
    features: Any
    anomalies: dict[str, int]
    cost: Any
    seconds: float


def compare(num: int, url: str) -> dict[str, dict[str, Any]]:
    """Figures of `num` questions in every setting, in rounds and in flight, each compared with the
    embedded engine."""
    from slowthink.engines.transformers.session import TransformersSession

    runs = {mode: _run_served(url, num, in_flight=mode == "in flight") for mode in MODES}
    config = EngineConfig(dtype="float32", batch_size=48)
    with TransformersSession(MODEL, config) as session:
        embedded = run_jobs(session, num, SETTINGS)
        gap = _make_gap(session, make_jobs(session, num, SETTINGS))
        return {mode: _figures(embedded, run, gap) for mode, run in runs.items()}


def _run_served(url: str, num: int, *, in_flight: bool) -> ServedRun:
    settings = {
        name: setting
        for name, setting in SETTINGS.items()
        if not (in_flight and name in ROLLED_BACK)
    }
    endpoints = EndpointConfig(urls=(url,), max_concurrency=32, in_flight=in_flight)
    config = EngineConfig(kind="openai", dtype="float32", endpoints=endpoints)
    with OpenAISession(MODEL, config) as session:
        started = time.monotonic()
        results = run_jobs(session, num, settings)
        seconds = time.monotonic() - started
        anomalies = dict(session.anomalies)
        return ServedRun(results, session._features, anomalies, session.cost, seconds)


def _make_gap(session: Any, jobs: dict[tuple[str, str], Job]) -> Any:
    """A function that returns the logit gap between the two likeliest tokens after a prompt and ids."""

    def gap(name: tuple[str, str], before: Sequence[int]) -> float:
        import torch

        ids = [*jobs[name].request.prompt_ids, *before]
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()[None, None]
        with torch.inference_mode():
            out = session._decoder.model(
                input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False
            )
        best = out.logits[0, -1].float().topk(2).values.tolist()
        return float(best[0] - best[1])

    return gap


def _figures(
    embedded: dict[tuple[str, str], JobResult], run: ServedRun, gap: Any
) -> dict[str, Any]:
    expected = {name: embedded[name] for name in run.results}
    unequal = differences(expected, run.results, gap)
    events = [event.kind.value for result in run.results.values() for event in result.chain.events]
    return {
        "settings": len({setting for setting, _ in run.results}),
        "requests": len(run.results),
        "answers": sum(len(result.answers) for result in run.results.values()),
        "equal": len(expected) - len({row["where"] for row in unequal}),
        "near_ties": unequal,
        "events": {kind: events.count(kind) for kind in sorted(set(events))},
        "cost": run.cost,
        "server": run.anomalies,
        "features": run.features,
        "seconds_over_http": round(run.seconds, 1),
    }


if __name__ == "__main__":
    with served(Path("/tmp/served.log")) as url:
        figures = compare(int(sys.argv[1]), url)
    print(json.dumps(figures, indent=1, default=str))
