"""The interface to vLLM that the session uses: takes token ids, returns finished requests.

One copy of the model is stepped in this process (its tensor-parallel workers are vLLM's own);
several copies are vLLM's data-parallel engines behind one client, run from a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slowthink.engines.auto import is_first_gpu
from slowthink.engines.models import eos_ids, needs_code, untrusted_code
from slowthink.engines.vllm.request_flow import DeclaredEnd
from slowthink.errors import ConfigError, EngineError, SlowthinkError, missing_extra
from slowthink.recipe import EngineConfig, VllmConfig

Ends = dict[int, DeclaredEnd]
"""Declared ends by output index."""
LOGITS_PROCESSOR = "slowthink.engines.vllm:Forcing"
MIDDLEWARE = "slowthink.engines.vllm.middleware.RefuseUnforced"
WORKER_EXTENSION = "slowthink.engines.vllm.Reading"
PRIVATE_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1"}
"""On a GPU each start would else send hardware, model class and settings to vLLM's project."""
_DEFAULT_ENVIRONMENT = PRIVATE_ENVIRONMENT | {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""Defaults of vLLM's environment variables. Logs go to stderr, since stdout is for results."""
FLOAT32_ENVIRONMENT = {"TRITON_F32_DEFAULT": "ieee"}
"""Variables for float32: Triton's dot products, of attention among others, else round to TF32."""
_FIT_CONTEXT = -1
"""vLLM's `max_model_len` for the model's own, or less if the KV cache holds less."""
_FREE_SHARE, _FREE_BYTES = 0.02, 1.5e9
"""Share of a GPU's memory, and the least, that stays free besides what other processes use: for
what vLLM's profiling does not see, above all the sampling of forced rows."""
_CPU_CACHE_BYTES = 2 << 30
"""Default size of the KV cache on a CPU, where vLLM would take most of the memory."""
_CPU_BLOCK_SIZE = 32
"""Tokens per KV cache block on a CPU; only full blocks are reused, and vLLM's default is 128."""


@dataclass(frozen=True, kw_only=True)
class FinishedRequest:
    """A request that ended."""

    id: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    """stop, length, abort or error."""
    num_cached_tokens: int
    """Prompt tokens that were not prefilled, since their keys and values were cached."""


class Engine(Protocol):
    """The part of vLLM that the session uses."""

    input_processor: Any
    """vLLM's input processor: tokenizer, model config."""
    config: Any
    """vLLM's config, with its defaults resolved."""

    def add(self, request_id: str, prompt_ids: Sequence[int], params: Any) -> None:
        """Queue a request."""

    def step(self, timeout: float | None) -> list[FinishedRequest]:
        """Return finished requests. Waits for one, at most `timeout` seconds, or runs one step."""

    def abort(self, request_ids: Sequence[str]) -> None:
        """Drop these requests."""

    def close(self) -> None:
        """Free the model."""

    def _call_workers(self, method: str, *arguments: Any) -> list[Any]:
        """Replies of all workers of all copies."""

    def take_histories(self, num_outputs: Mapping[str, int]) -> dict[str, Ends | None]:
        """Return the declared ends of each request that ended, and remove them from the workers.
        None if no worker has any. `num_outputs`: number of ids output, by request id."""
        if not num_outputs:
            return {}
        replies = self._call_workers("slowthink_histories", dict(num_outputs))
        return {  # from the worker that sampled for the request
            request_id: max(
                (_read_ends(r[request_id]) for r in replies if r and r[request_id] is not None),
                key=len,
                default=None,
            )
            for request_id in num_outputs
        }

    def running_requests(self) -> list[tuple[str, list[int], Ends]]:
        """Id, output ids and declared ends of each running request with thinking."""
        longest: dict[str, tuple[str, list[int], Ends]] = {}  # from the worker that samples for it
        for reply in self._call_workers("slowthink_open"):
            for name, ids, ends in reply or ():
                if name not in longest or len(ids) > len(longest[name][1]):
                    longest[name] = name, ids, _read_ends(ends)
        return list(longest.values())


def _read_ends(values: Sequence[Sequence[float]]) -> Ends:
    """Declared ends, from a worker's reply."""
    return {
        int(index): DeclaredEnd(int(token), end_probability, int(argmax), int(replacement))
        for index, token, end_probability, argmax, replacement in values
    }


def open_engine(folder: Path, config: EngineConfig) -> Engine:
    """vLLM with the model in this folder.

    Raises ConfigError if vLLM is not installed or the device is not its first, and EngineError if
    it does not start.
    """
    if not is_first_gpu(config.device):
        raise ConfigError(
            f"engine.device: `{config.device}` with engine.kind: vllm; expected `auto`, since vLLM "
            "takes the first GPUs that it sees. Choose them by CUDA_VISIBLE_DEVICES."
        )
    for name, value in _DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name, value in FLOAT32_ENVIRONMENT.items() if config.dtype == "float32" else ():
        os.environ.setdefault(name, value)
    if config.vllm.data_parallel_size == 1:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    try:
        import vllm  # noqa: F401
    except ImportError:
        raise missing_extra("vllm", extra="vllm") from None
    one_copy = config.vllm.data_parallel_size == 1
    try:
        return (_InProcessEngine if one_copy else _DataParallelEngine)(_arguments(folder, config))
    except SlowthinkError:
        raise
    except (ValueError, RuntimeError) as error:  # vLLM's, torch's out-of-memory error among them
        if needs_code(error):
            raise untrusted_code(folder) from None
        raise EngineError(
            f"engine.kind: vllm: vLLM did not start: {error}\nExpected it to, with the settings "
            "above. If memory is short, lower engine.max_context (vLLM's max_model_len), "
            "engine.vllm.max_num_seqs or engine.vllm.gpu_memory_utilization (raise the last if "
            "the GPU is free); if the data type is unsupported, set engine.dtype."
        ) from error


def _arguments(folder: Path, config: EngineConfig) -> dict[str, Any]:
    from vllm.platforms import current_platform

    options = config.vllm
    arguments: dict[str, Any] = {
        "model": str(folder),
        "trust_remote_code": config.trust_remote_code,
        "dtype": config.dtype,
        "max_model_len": config.max_context or _FIT_CONTEXT,
        "logits_processors": [LOGITS_PROCESSOR],
        "worker_extension_cls": WORKER_EXTENSION,
        "disable_log_stats": True,
        **options.model_dump(exclude_none=True),
    }
    if options.gpu_memory_utilization is None:
        arguments |= _cpu_memory() if current_platform.is_cpu() else _gpu_memory(options)
    return arguments


def _cpu_memory() -> dict[str, Any]:
    gibibytes = os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    return {
        "kv_cache_memory_bytes": int(gibibytes) << 30 if gibibytes else _CPU_CACHE_BYTES,
        "block_size": _CPU_BLOCK_SIZE,
    }


def _gpu_memory(options: VllmConfig) -> dict[str, Any]:
    """vLLM's default share of the GPU's memory, or what other processes leave of it.

    With several workers the default stays: asking here would start CUDA in the wrong process.
    """
    import torch
    from vllm import EngineArgs

    if (
        options.tensor_parallel_size * options.data_parallel_size > 1
        or not torch.cuda.is_available()
    ):
        return {}
    free, total = torch.cuda.mem_get_info()
    share = int((free - max(_FREE_SHARE * total, _FREE_BYTES)) / total * 100) / 100
    if not 0 < share < EngineArgs.gpu_memory_utilization:
        return {}
    return {"gpu_memory_utilization": share}


def _usage_context() -> Any:
    """vLLM's usage context, which decides the default limits of a batch: offline 1,024 requests and
    16,384 tokens on a GPU of 70 GB or more, and 256 and 8,192 on others and A100; without a context
    128 and 2,048, which suit a CPU of few cores.
    """
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    return UsageContext.UNKNOWN_CONTEXT if current_platform.is_cpu() else UsageContext.LLM_CLASS


class _InProcessEngine(Engine):
    """One copy, stepped by the caller that waits for results."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor import Executor

        self.config = EngineArgs(**arguments).create_engine_config(_usage_context())
        self._engine = LLMEngine(
            self.config, Executor.get_class(self.config), log_stats=False, multiprocess_mode=False
        )
        self.input_processor = self._engine.input_processor
        self._processor: Any = None
        """The logits processor, if it is in this process."""
        if self.config.parallel_config.distributed_executor_backend == "uni":
            (self._processor,) = self._call_workers("slowthink_processor")

    def take_histories(self, num_outputs: Mapping[str, int]) -> dict[str, Ends | None]:
        if self._processor is None or not num_outputs:
            return super().take_histories(num_outputs)
        histories = self._processor.take_histories(num_outputs)
        return {name: history and history.ends for name, history in histories.items()}

    def add(self, request_id: str, prompt_ids: Sequence[int], params: Any) -> None:
        self._engine.add_request(request_id, _prompt(prompt_ids), params)

    def step(self, timeout: float | None) -> list[FinishedRequest]:
        if not self._engine.has_unfinished_requests():
            return []
        return [_to_finished(output) for output in self._engine.step() if output.finished]

    def _call_workers(self, method: str, *arguments: Any) -> list[Any]:
        return list(self._engine.collective_rpc(method, args=arguments))

    def abort(self, request_ids: Sequence[str]) -> None:
        self._engine.abort_request(list(request_ids))

    def close(self) -> None:
        self._engine.engine_core.shutdown()


class _DataParallelEngine(Engine):
    """Data-parallel copies; vLLM's client distributes the requests by load."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._finished: queue.Queue[FinishedRequest | BaseException] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._engine = self._wait(self._start(arguments))
        self.input_processor = self._engine.input_processor
        self.config = self._engine.vllm_config

    async def _start(self, arguments: dict[str, Any]) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(**arguments), usage_context=_usage_context()
        )

    def _wait(self, coroutine: Any, *, timeout: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def add(self, request_id: str, prompt_ids: Sequence[int], params: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._run(request_id, prompt_ids, params), self._loop)

    async def _run(self, request_id: str, prompt_ids: Sequence[int], params: Any) -> None:
        try:
            async for output in self._engine.generate(_prompt(prompt_ids), params, request_id):
                if output.finished:
                    self._finished.put(_to_finished(output))
        except BaseException as error:  # raised in the caller by `step`
            self._finished.put(error)

    def step(self, timeout: float | None) -> list[FinishedRequest]:
        try:
            items = [self._finished.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._finished.empty():
            items.append(self._finished.get())
        for item in items:
            if isinstance(item, BaseException):
                raise EngineError(f"vLLM: a request failed: {item}") from item
        return [item for item in items if isinstance(item, FinishedRequest)]

    def _call_workers(self, method: str, *arguments: Any) -> list[Any]:
        core = self._engine.engine_core  # `AsyncLLM.collective_rpc` calls the first copy only
        call = core.call_utility_all_async("collective_rpc", method, None, arguments, None)
        return [reply for replies in self._wait(call) for reply in replies]

    def abort(self, request_ids: Sequence[str]) -> None:
        self._wait(self._engine.abort(list(request_ids)))

    async def _shut_down(self) -> None:
        """Stop the copies and end vLLM's tasks, which asyncio would report as left behind."""
        self._engine.shutdown()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        with contextlib.suppress(TimeoutError):  # the process ends the thread, and the copies
            self._wait(self._shut_down(), timeout=30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)


def make_params() -> Any:
    """Parameters of a greedy request whose ids are wanted once, at its end. To be copied: vLLM
    checks those that it makes, and copies deeply those that do not skip it."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def read_stop_id(input_processor: Any) -> int:
    """The id that ends a request."""
    stop_id: int | None = input_processor.renderer.get_eos_token_id()
    return stop_id if stop_id is not None else min(read_eos_ids(input_processor), default=0)


def read_eos_ids(input_processor: Any) -> frozenset[int]:
    """All ids at which vLLM ends a request: the generation config's and the tokenizer's."""
    configured = input_processor.generation_config_fields.get("eos_token_id")
    return eos_ids(configured, input_processor.renderer.get_eos_token_id())


def _prompt(ids: Sequence[int]) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": list(ids)}


def _to_finished(output: Any) -> FinishedRequest:
    completion = output.outputs[0]
    return FinishedRequest(
        id=output.request_id,
        token_ids=tuple(completion.token_ids),
        finish_reason=completion.finish_reason,
        num_cached_tokens=output.num_cached_tokens or 0,
    )
