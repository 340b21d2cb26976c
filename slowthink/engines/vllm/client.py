"""A narrow interface to vLLM: requests of token ids in, finished requests out.

One copy of the model is stepped in this process (its tensor-parallel workers are vLLM's own);
several copies are vLLM's data-parallel engines behind one client, driven from a thread.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slowthink.engines.models import eos_ids
from slowthink.errors import EngineError, missing_extra
from slowthink.recipe import EngineConfig

PROCESSOR = "slowthink.engines.vllm:Forcing"
READER = "slowthink.engines.vllm.Reading"
ENVIRONMENT = {
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""Defaults of vLLM's environment variables. V2: the V1 model runner is faster with forcing today.
Logging: stdout is for results."""
_CPU_CACHE_BYTES = 2 << 30
"""Default size of the cache of keys and values on a CPU: vLLM would take most of the memory."""
_CPU_BLOCK_SIZE = 32
"""Tokens per cache block on a CPU; only full blocks are reused, and vLLM's own size is 128."""


def runner_options() -> dict[str, bool]:
    """Engine options that the model runner in use needs, by the name of vLLM's argument.

    The V1 runner's asynchronous scheduling, vLLM's default on a GPU, runs logits processors before
    the last sampled token is known, so forced tokens would be lost there.
    """
    name = "VLLM_USE_V2_MODEL_RUNNER"
    uses_v1 = os.environ.get(name, ENVIRONMENT[name]).strip() in ("", "0")
    return {"async_scheduling": False} if uses_v1 else {}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A request that ended."""

    key: str
    ids: tuple[int, ...]
    reason: str | None
    """vLLM's finish reason: stop, length, abort, error."""
    num_cached: int
    """Prompt tokens that were not prefilled, since their keys and values were cached."""


class Engine(Protocol):
    """The part of vLLM that the session uses."""

    front: Any
    """vLLM's input processor: tokenizer, model config."""
    quantization: str | None

    def add(self, key: str, ids: Sequence[int], params: Any) -> None:
        """Queue a request."""

    def step(self, timeout: float | None) -> list[Finished]:
        """Return requests that finished; waits for one, or runs one step."""

    def histories(self, keys: Sequence[str]) -> list[Any]:
        """The declared ends of each request, which the workers then forget."""

    def open(self) -> list[Any]:
        """Name, output ids and declared ends of each running logged request."""

    def abort(self, keys: Sequence[str]) -> None:
        """Drop these requests."""

    def close(self) -> None:
        """Free the model."""


def open_engine(folder: Path, config: EngineConfig) -> Engine:
    """vLLM with the model in this folder. Raises ConfigError if vLLM is not installed."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if config.vllm.data_parallel_size == 1:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    try:
        import vllm  # noqa: F401
    except ImportError:
        raise missing_extra("vllm", extra="vllm") from None
    one_copy = config.vllm.data_parallel_size == 1
    return (_InProcessEngine if one_copy else _DataParallelEngine)(_arguments(folder, config))


def _arguments(folder: Path, config: EngineConfig) -> dict[str, Any]:
    from vllm.platforms import current_platform

    options = config.vllm
    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": config.dtype,
        "max_model_len": config.max_context,
        "logits_processors": [PROCESSOR],
        "worker_extension_cls": READER,
        "disable_log_stats": True,
        **runner_options(),
        **options.model_dump(exclude_none=True),
    }
    if current_platform.is_cpu() and options.gpu_memory_utilization is None:
        gibibytes = os.environ.get("VLLM_CPU_KVCACHE_SPACE")
        arguments["kv_cache_memory_bytes"] = int(gibibytes) << 30 if gibibytes else _CPU_CACHE_BYTES
        arguments["block_size"] = _CPU_BLOCK_SIZE
    return {name: value for name, value in arguments.items() if value is not None}


class _InProcessEngine:
    """One copy, stepped by the caller that waits for results."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor import Executor

        config = EngineArgs(**arguments).create_engine_config()
        self._engine = LLMEngine(
            config, Executor.get_class(config), log_stats=False, multiprocess_mode=False
        )
        self.front = self._engine.input_processor
        self.quantization = config.model_config.quantization

    def add(self, key: str, ids: Sequence[int], params: Any) -> None:
        self._engine.add_request(key, _prompt(ids), params)

    def step(self, timeout: float | None) -> list[Finished]:
        if not self._engine.has_unfinished_requests():
            return []
        return [_finished(output) for output in self._engine.step() if output.finished]

    def histories(self, keys: Sequence[str]) -> list[Any]:
        return _merge_histories(
            self._engine.collective_rpc("slowthink_histories", args=(list(keys),)), keys
        )

    def open(self) -> list[Any]:
        return _merge_open(self._engine.collective_rpc("slowthink_open"))

    def abort(self, keys: Sequence[str]) -> None:
        self._engine.abort_request(list(keys))

    def close(self) -> None:
        self._engine.engine_core.shutdown()


class _DataParallelEngine:
    """Data-parallel copies; vLLM's client spreads the requests by load."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._done: queue.Queue[Finished | BaseException] = queue.Queue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._engine = self._wait(self._start(arguments))
        self.front = self._engine.input_processor
        self.quantization = self._engine.vllm_config.model_config.quantization

    async def _start(self, arguments: dict[str, Any]) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def add(self, key: str, ids: Sequence[int], params: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._run(key, ids, params), self._loop)

    async def _run(self, key: str, ids: Sequence[int], params: Any) -> None:
        try:
            async for output in self._engine.generate(_prompt(ids), params, key):
                if output.finished:
                    self._done.put(_finished(output))
        except BaseException as error:  # raised in the caller by `step`
            self._done.put(error)

    def step(self, timeout: float | None) -> list[Finished]:
        try:
            items = [self._done.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._done.empty():
            items.append(self._done.get())
        for item in items:
            if isinstance(item, BaseException):
                raise EngineError(f"vLLM: a request failed: {item}") from item
        return [item for item in items if isinstance(item, Finished)]

    def histories(self, keys: Sequence[str]) -> list[Any]:
        return _merge_histories(self._call_workers("slowthink_histories", list(keys)), keys)

    def open(self) -> list[Any]:
        return _merge_open(self._call_workers("slowthink_open"))

    def _call_workers(self, method: str, *arguments: Any) -> list[Any]:
        """Replies of all copies' workers; `AsyncLLM.collective_rpc` returns the first copy's."""
        core = self._engine.engine_core
        call = core.call_utility_all_async("collective_rpc", method, None, arguments, None)
        return [reply for replies in self._wait(call) for reply in replies]

    def abort(self, keys: Sequence[str]) -> None:
        self._wait(self._engine.abort(list(keys)))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._engine.shutdown)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)


def stop_id_of(front: Any) -> int:
    """The id that ends a request; `front` is vLLM's input processor."""
    stop_id: int | None = front.renderer.get_eos_token_id()
    return stop_id if stop_id is not None else min(eos_ids_of(front), default=0)


def eos_ids_of(front: Any) -> frozenset[int]:
    """All ids at which vLLM ends a request: the generation config's and the tokenizer's."""
    configured = front.generation_config_fields.get("eos_token_id")
    return eos_ids(configured, front.renderer.get_eos_token_id())


def _prompt(ids: Sequence[int]) -> dict[str, Any]:
    return {"type": "token", "prompt_token_ids": list(ids)}


def _finished(output: Any) -> Finished:
    only = output.outputs[0]
    return Finished(
        key=output.request_id,
        ids=tuple(only.token_ids),
        reason=only.finish_reason,
        num_cached=output.num_cached_tokens or 0,
    )


def _merge_histories(replies: Sequence[Any], keys: Sequence[str]) -> list[Any]:
    """One history per request, from a worker that drew for it."""
    return [
        max((r[place] for r in replies if r and r[place] is not None), key=len, default=None)
        for place in range(len(keys))
    ]


def _merge_open(replies: Sequence[Any]) -> list[Any]:
    """Each request once: all workers of one copy report it."""
    by_name = {request[0]: request for reply in replies for request in reply or ()}
    return list(by_name.values())
