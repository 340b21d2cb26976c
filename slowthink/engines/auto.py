"""What `auto` means for an engine's settings on this machine. No model and no torch is loaded.

choose_dtype(EngineConfig())
Choice(value="float32", reason="this CPU has no bfloat16 instructions")
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.environment import CudaDevice, bfloat16_instructions, cuda_devices
from slowthink.recipe import EngineConfig

VLLM_START_SECONDS = 60
"""Time that vLLM takes longer than transformers to start: imports, profiling, CUDA graphs. An
estimate."""
VLLM_TOKENS_PER_SECOND = 10_500
TRANSFORMERS_TOKENS_PER_SECOND = 825
"""Decoded tokens per second at a batch of 64, SmolLM2-135M on one H100; single measurements at
commit c3a0f1e, used as estimates for any model and GPU."""


@dataclass(frozen=True)
class Choice:
    """The value that an `auto` setting is given, and why."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Workload:
    """What an engine is expected to do."""

    num_tokens: int = 0
    """Tokens to decode."""
    num_starts: int = 1
    """Models to load."""


@dataclass(frozen=True)
class Machine:
    """What decides the choices on a machine."""

    gpus: tuple[CudaDevice, ...] = ()
    """NVIDIA GPUs that torch can use."""
    has_other_gpu: bool = False
    """An AMD or Apple GPU."""
    cpu_bfloat16: bool | None = None
    """Whether the CPU has instructions for bfloat16; None: unknown."""
    has_vllm: bool = False
    """Whether vLLM is installed."""


def this_machine() -> Machine:
    """The machine that this process runs on."""
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return Machine(
        gpus=cuda_devices(),
        has_other_gpu=is_apple or Path("/dev/kfd").exists(),
        cpu_bfloat16=bfloat16_instructions(),
        has_vllm=importlib.util.find_spec("vllm") is not None,
    )


def resolve_engine(config: EngineConfig) -> EngineConfig:
    """The settings with `auto` replaced, for few tokens on this machine."""
    machine, values = this_machine(), {}
    if config.kind == "auto":
        values["kind"] = choose_kind(config, Workload, machine).value
    if config.dtype == "auto":
        values["dtype"] = choose_dtype(config, machine).value
    return config.model_copy(update=values)


def choose_kind(config: EngineConfig, workload: Callable[[], Workload], machine: Machine) -> Choice:
    """The engine's kind: vLLM where it saves more time in decoding than it takes to start.

    `workload` is called only where that decides.
    """
    if config.endpoints is not None:
        return Choice("openai", "engine.endpoints is given")
    if config.replay is not None:
        return Choice("replay", "engine.replay is given")
    if not machine.has_vllm:
        return Choice("transformers", "vLLM is not installed")
    gpus = _gpus_for(config, machine)
    if not gpus:
        return Choice("transformers", "torch finds no NVIDIA GPU")
    if not is_first_gpu(config.device):
        return Choice("transformers", f"vLLM would not use {config.device}")
    work = workload()
    slow, fast = TRANSFORMERS_TOKENS_PER_SECOND, VLLM_TOKENS_PER_SECOND
    saved_seconds = work.num_tokens / slow - work.num_tokens / fast
    tokens = f"about {work.num_tokens:,} tokens"
    if saved_seconds <= VLLM_START_SECONDS * work.num_starts:
        return Choice("transformers", f"{tokens} do not repay the start of vLLM")
    return Choice("vllm", f"{tokens} repay its start on {gpus[0].name}")


def choose_dtype(config: EngineConfig, machine: Machine) -> Choice:
    """The data type: bfloat16 where the device has it."""
    gpus = _gpus_for(config, machine)
    if gpus:
        gpu = min(gpus, key=lambda gpu: gpu.capability)
        if gpu.has_bfloat16:
            return Choice("bfloat16", f"{gpu.name} has bfloat16")
        dtype = "float16" if gpu.capability >= (7, 0) else "float32"
        return Choice(dtype, f"{gpu.name} has no bfloat16")
    if machine.has_other_gpu and config.device != "cpu":
        return Choice("bfloat16", "an AMD or Apple GPU")
    if machine.cpu_bfloat16 is None:
        return Choice("float32", "unknown whether this CPU has bfloat16 instructions")
    if machine.cpu_bfloat16:
        return Choice("bfloat16", "this CPU has bfloat16 instructions")
    return Choice("float32", "this CPU has no bfloat16 instructions")


def is_first_gpu(device: str) -> bool:
    """Whether this is the first GPU, or leaves open which: vLLM takes the first that it sees."""
    return device.partition(":")[2] in ("", "0")


def _gpus_for(config: EngineConfig, machine: Machine) -> tuple[CudaDevice, ...]:
    """The NVIDIA GPUs that the configured device may be."""
    name, _, index = config.device.partition(":")
    if name not in ("auto", "cuda"):
        return ()
    return machine.gpus[int(index) :][:1] if index.isdecimal() else machine.gpus
