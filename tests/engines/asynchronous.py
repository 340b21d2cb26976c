"""vLLM's asynchronous scheduling without a GPU: its own scheduler and model runners, on a CPU.

    python -m tests.engines.asynchronous V1|V2 MODEL FILE [COPIES | early]

Real (vLLM 0.32): `AsyncScheduler`, `EngineCore.step_with_batch_queue` (a step is launched before
the last one's ids are read; v1/engine/core.py), and the model runner. V1's leaves -1 as the last id
of each row (`_bookkeeping_sync` in v1/worker/gpu_model_runner.py), which
`InputBatch.update_async_output_token_ids` repairs just before the logits processors run, and
returns the ids of preempted rows from the scheduler (`_update_states`). V2's is
v1/worker/gpu/model_runner.py, with its Triton kernels interpreted.

Replaced: CUDA's streams and events (a CPU has computed when a call returns), and the lines of
platforms/cpu.py that schedule synchronously. So waiting costs no time here; it is counted instead:
`HostCopy.values` outside of `Forcing.apply` while a step is launched.

`early` collects the outputs between steps, which is wrong: the last ids are not known then.
The result is pickled, since Triton's interpreter must be chosen before torch is imported.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

CONTEXT = 256
_CACHE_BYTES = 15 << 20
"""KV cache of so few tokens that requests preempt each other."""


def main(runner: str, model: str, file: str, variant: str = "1") -> None:
    """Run the jobs and pickle results by key, and the counts of what happened."""
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1" if runner == "V2" else "0"
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    if runner == "V2":
        _interpret_triton()
    with asynchronous_scheduling(), _collecting_early() if variant == "early" else nullcontext():
        try:
            outcome = run(model, int(variant) if variant.isdigit() else 1)
        except RuntimeError as error:
            outcome = {"error": str(error)}
    Path(file).write_bytes(pickle.dumps(outcome))


def jobs_for(session: Any) -> list[Any]:
    """Jobs of several formats and budgets, greedy and sampled, that end at different steps."""
    from benchmarks.conformance import make_requests
    from slowthink.engines.session import Job, Point
    from slowthink.records import Sampling

    sampled = Sampling(temperature=0.8, top_p=0.95, top_k=40)
    settings: list[tuple[dict[str, Any], Sampling]] = [
        ({"points": (Point(3), Point(23, 1))}, Sampling()),
        ({"points": (Point(17),), "min_thinking_tokens": 9}, Sampling()),
        ({"points": (Point(0), Point(31, 2)), "wait_strings": ("Hmm", " But wait,")}, Sampling()),
        ({"points": (Point(11, 1),), "format": "plain"}, Sampling()),
        ({"points": (Point(29, 1),), "min_thinking_tokens": 6}, sampled),
    ]
    jobs = []
    for setting, sampling in settings:
        requests = make_requests(session, 2, setting)
        jobs += [
            Job(request=replace(r, sampling=sampling), points=setting["points"]) for r in requests
        ]
    return jobs


def run(model: str, copies: int) -> dict[str, Any]:
    from slowthink.engines import open_session
    from slowthink.engines.vllm import client
    from slowthink.recipe import EngineConfig, VllmConfig

    client._CPU_CACHE_BYTES = _CACHE_BYTES
    vllm = VllmConfig(
        enforce_eager=True, max_num_seqs=6, max_num_batched_tokens=32, data_parallel_size=copies
    )
    config = EngineConfig(kind="vllm", dtype="float32", max_context=CONTEXT, vllm=vllm)
    with open_session(model, config) as session:
        if copies > 1:
            return drive(session, lambda: 0) | {"waits": None}
        core = session._engine._engine.engine_core.engine_core
        assert core.batch_queue is not None, "vLLM schedules synchronously"
        with _count_waits(lambda: bool(core.batch_queue)) as waits:
            outcome = drive(session, lambda: _num_preempted(core.scheduler))
        runner = type(core.model_executor.driver_worker.worker.model_runner).__mro__[1].__module__
        return outcome | {"waits": len(waits), "runner": runner}


def drive(session: Any, num_preempted: Any) -> dict[str, Any]:
    """Complete the jobs; partial results are asked for in nearly every step."""
    jobs = jobs_for(session)
    session.checkpoint_seconds = 0.001
    for job in jobs:
        session.submit(job)
    results: dict[str, Any] = {}
    partial: dict[str, list[Any]] = {}
    preempted = 0
    while len(results) < len(jobs):
        for result in session.completed():
            if result.partial:
                partial.setdefault(result.key, []).append(result)
            else:
                results[result.key] = result
        preempted += num_preempted()
    return {"results": results, "partial": partial, "preempted": preempted}


def _num_preempted(scheduler: Any) -> int:
    return sum(request.num_preemptions > 0 for request in scheduler.requests.values())


@contextmanager
def _count_waits(is_launched: Any) -> Any:
    """The reads of a step's values that would wait for it."""
    from slowthink.engines.vllm.draws import HostCopy
    from slowthink.engines.vllm.processor import Forcing

    waits: list[None] = []
    in_step: list[None] = []
    apply, values = Forcing.apply, HostCopy.values

    def counted_apply(self: Any, *arguments: Any) -> Any:
        in_step.append(None)
        try:
            return apply(self, *arguments)
        finally:
            in_step.pop()

    def counted_values(self: Any) -> Any:
        if not in_step and is_launched():
            waits.append(None)
        return values(self)

    with (
        mock.patch.object(Forcing, "apply", counted_apply),
        mock.patch.object(HostCopy, "values", counted_values),
    ):
        yield waits


@contextmanager
def _collecting_early() -> Any:
    from slowthink.engines.vllm.processor import Forcing

    take_histories = Forcing.take_histories

    def collect_and_take(self: Any, num_outputs: Any) -> Any:
        self._stepper.collect_outputs()
        return take_histories(self, num_outputs)

    with mock.patch.object(Forcing, "take_histories", collect_and_take):
        yield


@contextmanager
def asynchronous_scheduling() -> Any:
    """Let vLLM schedule asynchronously on a CPU."""
    import torch
    from vllm.platforms import current_platform

    platform = type(current_platform)
    check = platform.check_and_update_config

    def keep_asynchronous(config: Any) -> None:
        check(config)
        config.scheduler_config.async_scheduling = True

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            mock.patch.object(platform, "check_and_update_config", staticmethod(keep_asynchronous)),
            mock.patch.multiple(
                torch.cuda,
                Event=_Finished, Stream=_Finished, stream=lambda _: nullcontext(),
                current_stream=lambda *_: _Finished(),
            ),
            mock.patch.object(torch, "Event", _Finished),
        ):  # fmt: skip
            yield


class _Finished:
    """An event or stream whose work is done."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    synchronize = wait = wait_stream = record


def _interpret_triton() -> None:
    """Run Triton's kernels in Python; vLLM then takes a driver for CPUs to be there."""
    assert "torch" not in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.backends import backends

    driver = SimpleNamespace(is_active=lambda: True)
    backends["cpu"] = SimpleNamespace(driver=driver, compiler=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
