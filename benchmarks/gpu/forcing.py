"""Forcing in flight over plain decoding and over s1's batch-wide rounds: 64 and 256 requests, at
most 256 thinking tokens, 2 waits, greedy and sampled, bf16."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.forcing import CONTEXT, DTYPE, Load, Timings, time_round, vllm_config
from benchmarks.gpu.common import model_name, rounds, use_vllm
from benchmarks.gpu.part import PartReport
from benchmarks.names import Sampling, Session, open_session
from benchmarks.plain_vllm import PlainVllm, engine_facts

NUCLEUS = Sampling(temperature=0.7, top_p=0.95)


def measure(report: PartReport) -> None:
    """Tokens per second and ratios of every load, by rounds."""
    arguments = use_vllm(report)
    model, loads = model_name(report), make_loads(short=report.short)
    max_num_seqs = max(load.num_requests for load in loads.values())
    settings = {"max_num_seqs": max_num_seqs, "enforce_eager": report.short}
    with (
        PlainVllm(model, dtype=DTYPE, context=CONTEXT, **(settings | arguments)) as plain,
        open_session(model, vllm_config(**settings)) as vllm,
    ):
        report.figures("engines", {"forced": session_facts(vllm), "plain": plain.facts})
        timings = {name: Timings() for name in loads}
        warm_up(loads, vllm, plain)

        def run_round(name: str, index: int) -> None:
            time_round(timings[name], loads[name], vllm=vllm, plain=plain, seed=index)

        for name in rounds(report, {name: partial(run_round, name) for name in loads}):
            _add(report, name, timings[name])


def make_loads(*, short: bool) -> dict[str, Load]:
    """Loads by name."""
    if short:
        small = {"num_requests": 4, "cap": 12, "waits": 1, "answer_tokens": 4}
        return {
            "4 greedy": Load(**small),
            "4 sampled": Load(**small, sampling=NUCLEUS),
        }
    return {
        "64 greedy": Load(num_requests=64),
        "256 greedy": Load(num_requests=256),
        "64 sampled": Load(num_requests=64, sampling=NUCLEUS),
        "256 sampled": Load(num_requests=256, sampling=NUCLEUS),
    }


def warm_up(loads: dict[str, Load], vllm: Session, plain: PlainVllm) -> None:
    """Run a short round of every number of requests."""
    for name, load in loads.items():
        few = Load(num_requests=load.num_requests, cap=8, waits=1, sampling=load.sampling)
        time_round(Timings(), few, vllm=vllm, plain=plain, seed=100 + len(name))


def session_facts(session: Any) -> dict[str, Any]:
    """Facts of the vLLM engine of slowthink's session."""
    return engine_facts(session._engine._engine.vllm_config)


def _add(report: PartReport, name: str, timings: Timings) -> None:
    methods = list(timings.seconds)
    speeds = {method: timings.speed(method) for method in methods}
    report.figures(name, {"seconds": timings.seconds, "tokens": timings.tokens, "speed": speeds})
    for method in methods:
        if method != "inflight":
            ratio = timings.ratio("inflight", method)["median"]
            report.headline(f"in flight over {method}, {name}", ratio)
    report.headline(f"tokens/s in flight, {name}", round(sum(speeds["inflight"][-1:])))
    report.headline(f"rounds, {name}", len(timings.seconds["inflight"]))
