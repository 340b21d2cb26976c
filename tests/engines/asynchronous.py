"""vLLM's asynchronous scheduling without a GPU: its own scheduler and model runners, on a CPU.

    python -m tests.engines.asynchronous V1|V2 MODEL FILE [COPIES [early]]

Real (vLLM 0.32): `AsyncScheduler`, `EngineCore.step_with_batch_queue` (a step is launched before
the last one's ids are read; v1/engine/core.py), and the model runner. V1's leaves -1 as the last id
of each row (`_bookkeeping_sync` in v1/worker/gpu_model_runner.py), which
`InputBatch.update_async_output_token_ids` repairs just before the logits processors run, and
returns the ids of preempted rows from the scheduler (`_update_states`). V2's is
v1/worker/gpu/model_runner.py, with its Triton kernels interpreted.

Replaced: CUDA's streams and events (a CPU has computed when a call returns), and the lines of
platforms/cpu.py that schedule synchronously and spawn processes: the engine core and the worker of
each data-parallel copy are forked, as on GPUs, and so have all that is replaced here. CUDA graphs:
only their padding of a batch's lengths. Waiting costs no time on a CPU; it is counted instead
(`observing`).

`early` collects the outputs between steps, which is wrong: the last ids are not known then.
The result is pickled, since Triton's interpreter must be chosen before torch is imported.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

CONTEXT = 160
_CACHE_BYTES = 9 << 20
"""KV cache of a copy: so few tokens (192) that requests preempt each other."""


def main(runner: str, model: str, file: str, copies: str = "1", *early: str) -> None:
    """Run the jobs and pickle results by key, and each copy's counts of what happened."""
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1" if runner == "V2" else "0"
    if copies != "1":
        os.environ["OMP_NUM_THREADS"] = "1"  # threads of OpenMP do not survive a fork
    if runner == "V2":
        _interpret_triton()
    collecting = _collecting_early() if early else nullcontext()
    padding = _padding() if runner == "V2" else nullcontext()
    with asynchronous_scheduling(), padding, observing(), collecting:
        try:
            outcome = run(model, int(copies))
        except RuntimeError as error:
            outcome = {"error": str(error)}
    Path(file).write_bytes(pickle.dumps(outcome))


def jobs_for(session: Any, num_prompts: int) -> list[Any]:
    """Jobs of several formats and budgets, greedy and sampled, that end at different steps: five of
    each prompt."""
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
        requests = make_requests(session, num_prompts, setting)
        jobs += [
            Job(request=replace(r, sampling=sampling), points=setting["points"]) for r in requests
        ]
    return jobs[::2] + jobs[1::2]  # copies take jobs in turns: each gets both problems


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
        take_counts(session._engine)  # of the check at start
        return drive(session, copies) | {"copies": take_counts(session._engine)}


def drive(session: Any, copies: int) -> dict[str, Any]:
    """Complete a prompt's jobs for each copy; partial results are asked for in nearly every step."""
    jobs = jobs_for(session, copies)
    session.checkpoint_seconds = 0.001
    for job in jobs:
        session.submit(job)
    results: dict[str, Any] = {}
    partial: dict[str, list[Any]] = {}
    while len(results) < len(jobs):
        for result in session.completed():
            if result.partial:
                partial.setdefault(result.key, []).append(result)
            else:
                results[result.key] = result
    return {"results": results, "partial": partial}


def take_counts(engine: Any) -> list[dict[str, Any]]:
    """What happened in each copy's engine core since the last call; see `observing`."""
    client = engine._engine.engine_core
    if hasattr(client, "engine_core"):  # in this process
        return [client.engine_core.take_counts()]
    counts: list[dict[str, Any]] = engine._wait(client.call_utility_all_async("take_counts"))
    return counts


@contextmanager
def observing() -> Any:
    """Gives vLLM's engine cores, here or in processes forked from this one, `take_counts`.

    Its counts: steps scheduled `ahead`, with requests whose last id is not known yet; such requests
    that were `preempted`; steps after which a prompt is `chunked`; `waits`: reads of a step's values
    outside of `Forcing.apply` while a step is launched. And the `runner`: its module.
    """
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.engine.core import EngineCore

    counts: Counter[str] = Counter()
    schedule, call_workers = AsyncScheduler.schedule, EngineCore.collective_rpc

    def count_and_schedule(self: Any, *arguments: Any) -> Any:
        ahead = {r.request_id for r in self.running if r.num_output_placeholders}
        output = schedule(self, *arguments)
        scheduled = output.num_scheduled_tokens
        counts["ahead"] += not ahead.isdisjoint(scheduled)
        counts["preempted"] += len(ahead & (output.preempted_req_ids or set()))
        counts["chunked"] += any(self.requests[id].is_prefill_chunk for id in scheduled)
        return output

    @wraps(call_workers)  # vLLM reads its signature
    def call_workers_and_count(self: Any, *arguments: Any) -> Any:
        is_launched = bool(self.batch_queue)
        replies = call_workers(self, *arguments)
        reads = sum(self.model_executor.collective_rpc("take_reads"))
        counts["waits"] += reads if is_launched else 0
        return replies

    def take_counts(self: Any) -> dict[str, Any]:
        (runner,) = self.model_executor.collective_rpc("runner_module")
        taken = {**counts, "runner": runner}
        counts.clear()
        return taken

    with (
        _observing_reads(),
        mock.patch.object(AsyncScheduler, "schedule", count_and_schedule),
        mock.patch.object(EngineCore, "collective_rpc", call_workers_and_count),
        mock.patch.object(EngineCore, "take_counts", take_counts, create=True),
    ):
        yield


@contextmanager
def _observing_reads() -> Any:
    """Gives vLLM's workers `take_reads`, the number of reads outside of `Forcing.apply` since the
    last call, and `runner_module`."""
    from slowthink.engines.vllm import Reading
    from slowthink.engines.vllm.draws import HostCopy
    from slowthink.engines.vllm.processor import Forcing

    reads: list[None] = []
    in_step: list[None] = []
    apply, values = Forcing.apply, HostCopy.values

    def apply_in_step(self: Any, *arguments: Any) -> Any:
        in_step.append(None)
        try:
            return apply(self, *arguments)
        finally:
            in_step.pop()

    def count_and_read(self: Any) -> Any:
        if not in_step:
            reads.append(None)
        return values(self)

    def take_reads(self: Any) -> int:
        number = len(reads)
        reads.clear()
        return number

    def runner_module(self: Any) -> str:
        return type(self.model_runner).__mro__[1].__module__

    with (
        mock.patch.object(Forcing, "apply", apply_in_step),
        mock.patch.object(HostCopy, "values", count_and_read),
        mock.patch.object(Reading, "take_reads", take_reads, create=True),
        mock.patch.object(Reading, "runner_module", runner_module, create=True),
    ):
        yield


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
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

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


@contextmanager
def _padding() -> Any:
    """Pad the lengths of each batch, as V2 does for a CUDA graph of more requests."""
    from torch.nn.functional import pad
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    prepare = GPUModelRunner.prepare_inputs

    def prepare_and_pad(self: Any, *arguments: Any) -> Any:
        batch = prepare(self, *arguments)
        return replace(batch, seq_lens_cpu_upper_bound=pad(batch.seq_lens_cpu_upper_bound, (0, 3)))

    with mock.patch.object(GPUModelRunner, "prepare_inputs", prepare_and_pad):
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
