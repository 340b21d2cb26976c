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
from statistics import mean
from typing import Any

from slowthink.environment import CudaDevice, bfloat16_instructions, cuda_devices
from slowthink.recipe import EngineConfig

VLLM_START_SECONDS = 60
"""Time that vLLM takes longer than transformers to start: imports, compilation, profiling, graphs.
An estimate."""
CAPTURE_SECONDS = 6
"""Time that the transformers engine takes to capture its graphs: an estimate from some 20 shapes,
each run eagerly, and checked, twice, at the 60 to 85 ms of an eager step on that machine."""
VLLM_TOKENS_PER_SECOND = 10_500
TRANSFORMERS_TOKENS_PER_SECOND = (825, 5_250)
"""Decoded tokens per second at a batch of 64, SmolLM2-135M on one H100 with slow cores, used for
any model and GPU. Single measurements at commit c3a0f1e, when the transformers engine decoded
without graphs; its second number is what graphs are to reach, half of vLLM's, and unmeasured."""
CPU_BATCH_SIZE, CPU_BATCH_TOKENS = 48, 32_768
GPU_BATCH_SIZE = 256
"""An estimate, not measured on a card. A step reads all weights once, and computes 2 FLOP for each
weight of 2 bytes and sequence: by their peaks in bfloat16, an A100 of 80 GB computes for longer
than it reads from 153 sequences on, an H100 from 295, an L4 from 403. The fixed time of a step,
which is most of a small model's, counts once too. A power of two pads no row of a full batch, and
it needs no more graphs: 1,000 chains of three lengths (`test_static_step`) have 14, 23 and 30
shapes in batches of 256, which the 32 kept graphs hold, with 14 to 18 % of padded rows; in batches
of 48 there are 18, 36 and 42, with 13 to 17 %."""
_BATCH_SHARE, _TOKEN_BYTES = 0.4, 32 << 10
"""Share of a GPU's memory that a batch's keys and values may take by default (0.6 with sizes
rounded up, so that a scorer has room), and bytes of a token: an estimate for models of 1.5B to 7B,
28 and 56 KiB in bfloat16. Where the model needs more, the engine takes what fits beside it."""


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
    for name, choose in BY_MACHINE.items():
        if getattr(config, name) == "auto":
            values[name] = choose(config, machine).value
    return config.model_copy(update=values)


def choose_kind(config: EngineConfig, workload: Callable[[], Workload], machine: Machine) -> Choice:
    """The engine's kind: vLLM where it saves more time in decoding than it takes to start.

    The time saved is the mean of those at the transformers engine's slow and fast speed: whichever
    it has, a wrong choice then costs at most the time of a start. `workload` is called only where
    that decides.
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
    tokens = f"about {work.num_tokens:,} tokens"
    if _saved_seconds(work) <= (VLLM_START_SECONDS - CAPTURE_SECONDS) * work.num_starts:
        return Choice("transformers", f"{tokens} do not repay the start of vLLM")
    return Choice("vllm", f"{tokens} repay its start on {gpus[0].name}")


def _saved_seconds(work: Workload) -> float:
    """By how much faster vLLM decodes."""
    return work.num_tokens * mean(
        1 / speed - 1 / VLLM_TOKENS_PER_SECOND for speed in TRANSFORMERS_TOKENS_PER_SECOND
    )


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


def choose_batch_size(config: EngineConfig, machine: Machine) -> Choice:
    """Sequences that the transformers engine decodes together."""
    if gpus := _gpus_for(config, machine):
        return Choice(GPU_BATCH_SIZE, f"estimated for a GPU such as {gpus[0].name}")
    return Choice(CPU_BATCH_SIZE, "no NVIDIA GPU")


def choose_batch_tokens(config: EngineConfig, machine: Machine) -> Choice:
    """Tokens of such a batch: on a GPU, those whose keys and values take a share of its memory."""
    gpus = _gpus_for(config, machine)
    if not gpus:
        return Choice(CPU_BATCH_TOKENS, "no NVIDIA GPU")
    gpu = min(gpus, key=lambda gpu: gpu.memory_gb)
    tokens = int(_BATCH_SHARE * gpu.memory_gb * 1e9 / _TOKEN_BYTES) // 1024 * 1024
    return Choice(max(1024, tokens), f"estimated for {gpu.name} with {gpu.memory_gb:.0f} GB")


BY_MACHINE: dict[str, Callable[[EngineConfig, Machine], Choice]] = {
    "dtype": choose_dtype,
    "batch_size": choose_batch_size,
    "batch_tokens": choose_batch_tokens,
}
"""Rules of the settings that the machine alone decides, by name."""


def is_first_gpu(device: str) -> bool:
    """Whether this is the first GPU, or leaves open which: vLLM takes the first that it sees."""
    return device.partition(":")[2] in ("", "0")


def _gpus_for(config: EngineConfig, machine: Machine) -> tuple[CudaDevice, ...]:
    """The NVIDIA GPUs that the configured device may be."""
    name, _, index = config.device.partition(":")
    if name not in ("auto", "cuda"):
        return ()
    return machine.gpus[int(index) :][:1] if index.isdecimal() else machine.gpus
