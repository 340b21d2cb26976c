"""What training will need, from the recipe and the model's config alone: memory, time, disk.

    forecast(recipe, machine, memory_bytes=16e9, rows=TrainingSize(number=1000, mean_tokens=5000))

Nothing here is measured: time is by arithmetic, at an assumed share of the GPU's peak (MFU).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from slowthink.engines.auto import Machine, this_machine
from slowthink.environment import CudaDevice
from slowthink.errors import ConfigError
from slowthink.recipe import Recipe, TrainConfig
from slowthink.stages.train.checkpoint import NUM_KEPT
from slowthink.stages.train.memory import (
    MemoryEstimate,
    Setup,
    estimate_memory,
    setup_on,
    usable_tokens,
)
from slowthink.stages.train.schedule import num_steps
from slowthink.stages.train.shapes import (
    Shape,
    adapter_weights,
    attention_widths,
    find_config,
    flops_weights,
    num_weights,
)

MFU = 0.3
"""Assumed share of the peak; packed rows on one card reach more, FSDP2 over slow links less."""
PEAK_TFLOPS = {
    "B200": 2250, "H200": 989, "H200 NVL": 835, "H100": 989, "H100 PCIE": 756, "H100 NVL": 835,
    "H800": 989, "H800 PCIE": 756, "A100": 312, "A100 PCIE": 312, "A800": 312, "A800 PCIE": 312,
    "L40S": 362, "L40": 181, "A40": 150, "A6000": 155, "A30": 165, "A10": 125, "L4": 121,
    "4090": 165, "3090": 71, "V100": 125, "V100 PCIE": 112, "T4": 65,
}  # fmt: skip
"""Dense, in bf16 (V100, T4: fp16), by the words of the name that tell a GPU's form. From NVIDIA's
data sheets (nvidia.com/en-us/data-center/h100 and so on), which give twice as much, with sparsity,
from Ampere on; GeForce: the white papers of Ada and GA102, with fp32 accumulation."""
_COMMON_WORD = re.compile(r"NVIDIA|TESLA|GEFORCE|RTX|SXM\d?|HBM\w*|\d+GB")
"""Words of a GPU's name that do not change its peak."""
MEMORY_GB = {
    "B200": 180, "H200": 141, "H100": 80, "H800": 80, "A100": 80, "A800": 80, "L40S": 48,
    "A6000": 48, "A10": 24, "L4": 24, "4090": 24, "3090": 24, "V100": 32, "T4": 16,
}  # fmt: skip
_WITHOUT_BF16 = ("V100", "T4")
_STORED_BYTES = 2
"""Bytes of a weight of the model that is served."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes on disk while training."""

    checkpoint: float
    num_checkpoints: int
    """At most at a time, with the one being written."""
    model: float
    num_models: int
    """The trained one, and those from which `checkpoint: dev` chooses."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.num_checkpoints * self.checkpoint + self.num_models * self.model


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What training will need on a machine."""

    setup: Setup
    device: str
    device_bytes: float
    memory: MemoryEstimate
    """Without activations."""
    memory_by_tokens: dict[int, float]
    """Bytes in all, by the tokens of a micro-batch."""
    max_tokens: int
    """Tokens of a micro-batch that fit, with a margin."""
    tokens_per_second: float | None
    """Of all devices; None if unknown."""
    num_tokens: int
    """Tokens that are trained on; 0 if unknown."""
    disk: Disk

    @property
    def fits(self) -> bool:
        """Whether the weights and what goes with them fit."""
        return self.memory.total <= self.device_bytes

    def memory_text(self) -> str:
        """The parts of the memory on each device."""
        names = ("weights", "masters", "optimizer", "gradients", "process")
        parts = {name: getattr(self.memory, name) for name in names}
        return ", ".join(f"{name} {_gb(size)}" for name, size in parts.items() if size > 5e7)

    def activations_text(self) -> str:
        """Memory in all for micro-batches of several sizes, and the largest that fits."""
        sizes = [f"{tokens:,}: {_gb(size)}" for tokens, size in self.memory_by_tokens.items()]
        room = f"up to {self.max_tokens:,} tokens fit" if self.fits else "the weights do not fit"
        return f"in all, by its tokens: {', '.join(sizes)}; {room}"

    def disk_text(self) -> str:
        """Checkpoints and the model."""
        return (
            f"{_gb(self.disk.total)}: {self.disk.num_checkpoints} checkpoints of "
            f"{_gb(self.disk.checkpoint)}, {self.disk.num_models} models of {_gb(self.disk.model)}"
        )

    def time_text(self) -> str:
        """Speed, and the duration if the number of tokens is known."""
        if self.tokens_per_second is None:
            return "unknown here; `train.max_steps: auto` measures the speed"
        speed = f"{self.tokens_per_second:,.0f} tokens/s"
        if not self.num_tokens:
            return f"{speed}; the training set is unknown before select"
        seconds = self.num_tokens / self.tokens_per_second
        return f"about {_duration(seconds)} for {self.num_tokens:,} tokens at {speed}"


@dataclass(frozen=True, kw_only=True)
class TrainingSize:
    """The training set, as far as time depends on it."""

    number: int = 0
    """0 if unknown."""
    mean_tokens: float = 0.0
    """0 if unknown."""


def forecast(
    recipe: Recipe,
    machine: Machine,
    *,
    memory_bytes: float,
    rows: TrainingSize,
    tokens_per_second: float | None = None,
) -> Forecast | None:
    """What the recipe's training needs on this machine; None if the model's shape is unknown.

    `memory_bytes` is the machine's, without GPUs. `tokens_per_second` is a measured speed of all
    devices, instead of that at `MFU`.
    """
    model, config = find_config(recipe.model, recipe.revision), recipe.train
    if model is None or config is None:
        return None
    setup = setup_on(machine, config, num_devices=len(machine.gpus) or recipe.processes)
    gpu = min(machine.gpus, key=lambda gpu: gpu.memory_gb, default=None)
    device_bytes = gpu.memory_gb * 1e9 if gpu else memory_bytes / setup.num_devices
    steps = num_steps(rows.number, config) if rows.number else config.step_limit
    num_trained = min((steps or 0) * config.batch_size, rows.number * config.epochs or 10**12)
    speed = device_speed(model, setup, gpu) if gpu else None
    lengths = sorted({1024, 4096, config.max_length})
    return Forecast(
        setup=setup, device=gpu.name if gpu else "CPU", device_bytes=device_bytes,
        memory=estimate_memory(model, setup, 1),
        memory_by_tokens={n: estimate_memory(model, setup, n).total for n in lengths},
        max_tokens=usable_tokens(model, setup, device_bytes),
        tokens_per_second=tokens_per_second or (speed and speed * setup.num_devices),
        num_tokens=round(num_trained * rows.mean_tokens),
        disk=disk_needed(model, setup, num_steps=steps),
    )  # fmt: skip


def setup_here(recipe: Recipe, config: TrainConfig) -> Setup:
    """The setup of a run on this machine: in the recipe's processes, or in those that torchrun or
    Slurm has started."""
    number = max(recipe.processes, int(os.environ.get("WORLD_SIZE", "1")))
    return setup_on(this_machine(), config, num_devices=number)


def disk_needed(model: Shape, setup: Setup, *, num_steps: int | None) -> Disk:
    """Disk for the checkpoints of a run and its model. `num_steps` is None if unknown."""
    config, weights = setup.config, num_weights(model)
    trained = adapter_weights(model, config.lora.rank) if config.lora else weights
    adam = 2 if config.optimizer == "adamw-8bit" else 8
    stored = 0 if setup.is_sharded else 2 if setup.has_masters else 4
    every = config.save_every_steps
    number = 0 if every is None else NUM_KEPT + 1
    if every is not None and num_steps is not None:
        number = min(number, num_steps // every)
    adapters = 4 * trained if config.lora else 0
    merged = 0 if config.lora and not config.lora.merge else _STORED_BYTES * weights
    num_models = config.epochs // config.dev.every_epochs if config.checkpoint == "dev" else 1
    return Disk(
        checkpoint=(stored + 4 + adam) * trained, num_checkpoints=number,
        model=merged + adapters, num_models=max(num_models, 1),
    )  # fmt: skip


def device_speed(model: Shape, setup: Setup, gpu: CudaDevice) -> float | None:
    """Tokens per second on one GPU at `MFU`; None if its peak is unknown."""
    peak = peak_flops(gpu.name)
    if peak is None:
        return None
    return peak * MFU / token_flops(model, setup.config, num_tokens=1024)


def peak_flops(name: str) -> float | None:
    """A GPU's peak in operations a second, by its name; None if it is unknown, as is that of a part
    (MIG) or of another form (Laptop, Ti)."""
    words = [w for w in re.findall(r"[^\W_]+", name.upper()) if not _COMMON_WORD.fullmatch(w)]
    peak = PEAK_TFLOPS.get(" ".join(words))
    return peak and peak * 1e12


def token_flops(model: Shape, config: TrainConfig, *, num_tokens: int) -> float:
    """Operations to train on a token of a row of so many: 2 a weight forward, 2 for the gradient of
    the activations, 2 for that of the weights (not under a LoRA); attention; recomputation."""
    queries, _ = attention_widths(model)
    attention = 2 * int(model["num_hidden_layers"]) * queries * num_tokens
    passes = (2 if config.lora else 3) + (1 if config.gradient_checkpointing else 0)
    return passes * (2 * flops_weights(model) + attention)


def parse_gpus(text: str) -> tuple[CudaDevice, ...]:
    """GPUs by number and name, `8xH100` or `4xA100-40GB`. Raises ConfigError."""
    match = re.fullmatch(r"(?:(\d+)x)?(\w+?)(?:-(\d+)GB)?", text, re.I)
    name = match[2].upper() if match else ""
    if match is None or not (match[3] or name in MEMORY_GB) or match[1] == "0":
        raise ConfigError(
            f"--gpus {text}: expected a number and a name, one of {', '.join(MEMORY_GB)}, or any "
            "name with its memory. For example: --gpus 8xH100, --gpus 2xMINE-48GB"
        )
    size = float(match[3] or MEMORY_GB[name])
    capability = (7, 0) if name in _WITHOUT_BF16 else (9, 0)
    gpu = CudaDevice(name=name, capability=capability, memory_gb=size)
    return (gpu,) * int(match[1] or 1)


def describe(setup: Setup) -> str:
    """How the model is trained, e.g. `all weights by fsdp2`."""
    lora = setup.config.lora
    kind = "all weights" if lora is None else "QLoRA" if setup.is_quantized else "LoRA"
    kind += " with checkpointing" if setup.config.gradient_checkpointing else ""
    if setup.num_devices == 1:
        return kind
    return f"{kind} by {'fsdp2' if setup.is_sharded else 'data'}"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(seconds / 60, 1):.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
