"""vLLM without slowthink, and s1's loop on it: what forcing in flight is compared with.

    with PlainVllm("smollm2-135m", dtype="bfloat16", context=1024) as plain:
        plain.generate([[5, 6, 7]], [16], temperature=0.0)    # PlainOutput(ids=…, seconds=0.05)

The engine has a process of its own, so that it has vLLM's own defaults (model runner, scheduling)
whatever slowthink sets in this one, and no logits processor. It decodes in that process, as
slowthink's engine does in this one (`VLLM_ENABLE_V1_MULTIPROCESSING=0`).
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from slowthink.records import Budget, ThinkingFormat

CPU_ARGUMENTS = {"kv_cache_memory_bytes": 2 << 30, "block_size": 32}
"""As in slowthink's engine: on a CPU vLLM would take most of the memory."""
CUDA_CACHE_BYTES = 8 << 30


@dataclass(frozen=True)
class PlainOutput:
    """Output ids of each request, and the seconds of the whole batch."""

    ids: list[list[int]]
    seconds: float

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all requests."""
        return sum(map(len, self.ids))


class PlainVllm:
    """vLLM in a process of its own. The constructor returns at once; the first call waits."""

    def __init__(self, model: str, *, dtype: str, context: int, **arguments: Any) -> None:
        """`arguments`: more arguments of `vllm.LLM`."""
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        settings = {"dtype": dtype, "max_model_len": context, **arguments}
        self._process = spawn.Process(target=_serve, args=(theirs, model, settings))
        self._process.start()
        theirs.close()
        self._facts: dict[str, Any] | None = None

    def __enter__(self) -> PlainVllm:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()

    @property
    def facts(self) -> dict[str, Any]:
        """The engine's facts: see `engine_facts`. Waits until it has started."""
        if self._facts is None:
            self._facts = self._receive()
        return self._facts

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: Sequence[int], **settings: Any
    ) -> PlainOutput:
        """Decode all prompts in one batch; `settings` of vLLM's SamplingParams."""
        assert self.facts is not None
        self._connection.send((list(map(list, prompts)), list(max_tokens), settings))
        return PlainOutput(*self._receive())

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError("plain vLLM ended; expected a reply. See stderr above.") from None


def _serve(connection: Connection, model: str, settings: dict[str, Any]) -> None:
    """Answer requests until the parent ends this process."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    from slowthink.engines.models import resolve_model

    llm = LLM(model=str(resolve_model(model)), **{**device_arguments(), **settings})
    connection.send(engine_facts(llm.llm_engine.vllm_config))
    while True:
        prompts, limits, sampling = connection.recv()
        params = [
            SamplingParams(
                max_tokens=limit, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY,
                **sampling,
            )
            for limit in limits
        ]  # fmt: skip
        started = time.perf_counter()
        outputs = llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False
        )
        seconds = time.perf_counter() - started
        connection.send(([list(output.outputs[0].token_ids) for output in outputs], seconds))


def device_arguments() -> dict[str, Any]:
    """Arguments with which two engines fit on this machine side by side."""
    import torch

    if not torch.cuda.is_available():
        return dict(CPU_ARGUMENTS)
    total = torch.cuda.get_device_properties(0).total_memory
    return {
        "gpu_memory_utilization": 0.3,
        "kv_cache_memory_bytes": min(CUDA_CACHE_BYTES, int(0.25 * total)),
    }


def override_engine_arguments(arguments: Mapping[str, Any]) -> None:
    """Have every vLLM engine of this process, slowthink's among them, use these arguments."""
    from vllm import EngineArgs

    initialise = EngineArgs.__init__

    def with_arguments(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **{**kwargs, **arguments})

    EngineArgs.__init__ = with_arguments


def engine_facts(config: Any) -> dict[str, Any]:
    """What a vLLM engine runs with, from its VllmConfig."""
    compilation = config.compilation_config
    return {
        "v2_runner": bool(config.use_v2_model_runner),
        "async_scheduling": bool(config.scheduler_config.async_scheduling),
        "dtype": str(config.model_config.dtype),
        "enforce_eager": bool(config.model_config.enforce_eager),
        "compilation_mode": str(compilation.mode),
        "cudagraph_mode": str(compilation.cudagraph_mode),
        "prefix_caching": bool(config.cache_config.enable_prefix_caching),
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
    }


# --- s1's loop ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class S1Ids:
    """What s1's loop appends and stops at, in ids of one tokenizer."""

    triggers: frozenset[int]
    eos_ids: frozenset[int]
    wait: list[int]
    newline: list[int]
    closing: list[int]
    """Delimiter and cue."""

    @classmethod
    def of(
        cls, tokenizer: Any, format: ThinkingFormat, budget: Budget, eos_ids: frozenset[int]
    ) -> S1Ids:
        """Encode a format and a budget with a tokenizer."""

        def encode(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False)) if text else []

        return cls(
            triggers=eos_ids | {encode(text)[0] for text in format.end_triggers},
            eos_ids=eos_ids,
            wait=encode(budget.wait_strings[0]),
            newline=encode("\n"),
            closing=encode(format.end) + encode(budget.final_answer_cue or ""),
        )


class S1Rounds:
    """The loop of s1's evaluation code on a whole batch: all requests think until the last has
    stopped, then the wait string is appended to those with budget left; finally all answer."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        ids: S1Ids,
        *,
        cap: int,
        waits: int,
        answer_tokens: int,
    ) -> None:
        self.prompts, self.ids, self.cap, self.waits = prompts, ids, cap, waits
        self.answer_tokens = answer_tokens
        self.thinking: list[list[int]] = [[] for _ in prompts]
        self.done = [False] * len(prompts)

    def run(self, plain: PlainVllm, **settings: Any) -> tuple[int, float]:
        """Number of tokens of thinking, closings and answers; seconds in vLLM."""
        seconds = 0.0
        for waits_left in range(self.waits, -1, -1):
            active = [i for i, done in enumerate(self.done) if not done]
            if not active:
                break
            output = plain.generate(
                [[*self.prompts[i], *self.thinking[i]] for i in active],
                [max(1, self.cap - len(self.thinking[i])) for i in active],
                temperature=0.0, stop_token_ids=sorted(self.ids.triggers), **settings,
            )  # fmt: skip
            seconds += output.seconds
            for i, ids in zip(active, output.ids, strict=True):
                self._add_thinking(i, ids, is_last=not waits_left)
        closings = [self._closing(i) for i in range(len(self.prompts))]
        parts = zip(self.prompts, self.thinking, closings, strict=True)
        answers = plain.generate(
            [[*prompt, *thinking, *closing] for prompt, thinking, closing in parts],
            [self.answer_tokens] * len(self.prompts),
            temperature=0.0,
            **settings,
        )
        num_answer = sum(len(ids) - (ids[-1] in self.ids.eos_ids) for ids in answers.ids)
        num_tokens = sum(map(len, self.thinking)) + sum(map(len, closings)) + num_answer
        return num_tokens, seconds + answers.seconds

    def _add_thinking(self, i: int, ids: Sequence[int], *, is_last: bool) -> None:
        """Add a round's ids, without a trigger at their end; append the wait string if it fits."""
        ended = bool(ids) and ids[-1] in self.ids.triggers
        self.thinking[i] += ids[:-1] if ended else ids
        fits = len(self.thinking[i]) + len(self.ids.wait) + 1 <= self.cap
        if ended and not is_last and fits:
            self.thinking[i] += self.ids.wait
        else:
            self.done[i] = True

    def _closing(self, i: int) -> list[int]:
        newline = [] if self.thinking[i][-1:] == self.ids.newline else self.ids.newline
        return [*newline, *self.ids.closing]
