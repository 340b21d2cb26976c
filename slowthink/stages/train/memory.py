"""Memory of training on one device, predicted from the model's config. Loads no torch.

H hidden size, I width of the feed-forward layer, Q and K widths of all query and all key heads, L
layers, V vocabulary, N devices. Bytes per trained weight, under the data types of `precision`:

| | weight | master | AdamW | gradient |
| --- | --- | --- | --- | --- |
| one device | 2 | 4 | 8 | 2 |
| without bf16 | 4 | – | 8 | 4 |
| N GPUs, `data` | 4, and 2 as a copy in bf16 | – | 8 | 4, and 4 in buckets |
| FSDP2 over N | 4 / N, and two layers and the embeddings in bf16 | – | 8 / N | 4 / N |
| LoRA | 4; the frozen weights 2 | – | 8 | 4 |
| QLoRA | 2; the frozen weights 0.52 | 4 | 8 | 2 |

AdamW in 8 bits: 2 instead of 8. Activations per token, twice as much without bf16:

    a layer              24 H (two norms in fp32), 4 Q + 4 K (attention), 8 I (gate, up, product)
    under autocast       32 H instead of 24 H: the residual stream is in fp32
    LoRA                 and each layer's inputs again: 4 (5 H + Q + I) in fp32, or 2 by autocast
    with checkpointing   2 H per layer, and one layer as above

At the end of the forward pass there are activations and a tile of logits, at the end of the
backward pass gradients: the larger of the two counts. On a CPU the process itself is added.
Measured on a CPU by `python -m benchmarks.memory`; not on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from slowthink.engines.auto import Choice, Machine
from slowthink.recipe import Recipe, TrainConfig
from slowthink.stages.train.shapes import (
    Shape,
    active_width,
    adapter_weights,
    attention_widths,
    embedding_weights,
    find_config,
    layer_weights,
    num_weights,
)

LOGITS_PER_TILE = 2**26
"""Logits that `loss` computes at a time."""
LOGIT_BYTES = 8
"""In bf16 and fp32, and their gradient in bf16."""
NF4_BYTES = 0.516
"""4 bits, and quantised scales: 8 bits for each 64 weights and 32 for each 16,384."""
PROCESS_BYTES = 0.8e9
"""Python, torch, transformers and TRL, and freed memory that is kept: resident on a CPU."""
CUDA_BYTES = 0.6e9
"""The context and workspaces of CUDA, which `max_memory_allocated` does not count."""
_UPDATE_BYTES = 64e6
"""fp32 gradients of a group of weights, see `masters`."""
_MARGIN = 0.25
"""Share of a GPU's memory left for fragments and what the estimate omits: unmeasured on a GPU."""
_STEP = 1024
"""Estimates of tokens are rounded down to a multiple of so many."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a model is trained, as far as memory depends on it."""

    config: TrainConfig
    num_devices: int = 1
    on_gpu: bool = True
    has_bf16: bool = True
    """Whether the device computes in bf16; else all is in fp32."""

    @property
    def is_quantized(self) -> bool:
        """Whether the frozen weights are in 4 bits."""
        return self.config.lora is not None and self.config.lora.quantize is not None

    @property
    def has_masters(self) -> bool:
        """Whether the trained weights are in bf16, with masters in fp32."""
        several = self.num_devices > 1
        full = self.config.lora is None and not self.is_sharded and not (several and self.on_gpu)
        return self.has_bf16 and (full or self.is_quantized)

    @property
    def is_sharded(self) -> bool:
        """Whether each device holds a share of the weights (FSDP2)."""
        if self.num_devices == 1 or self.config.parallel != "auto":
            return self.config.parallel == "fsdp2" and (self.num_devices > 1 or self.config.offload)
        return self.on_gpu and self.config.lora is None

    @property
    def is_autocast(self) -> bool:
        """Whether bf16 is computed from weights in fp32, or beside adapters in fp32."""
        several = self.num_devices > 1 and not self.is_sharded
        return self.on_gpu and (several or self.config.lora is not None)


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes on one device."""

    weights: float
    """With copies and gathered layers."""
    masters: float
    optimizer: float
    gradients: float
    activations: float
    logits: float
    process: float
    """Of the process on a CPU, of CUDA's context on a GPU."""

    @property
    def total(self) -> float:
        """The peak."""
        kept = self.weights + self.masters + self.optimizer + self.process
        return kept + max(self.gradients, self.activations + self.logits)


def estimate_memory(model: Shape, setup: Setup, num_tokens: int) -> MemoryEstimate:
    """Memory of a micro-batch of so many tokens."""
    lora = setup.config.lora
    trained = num_weights(model) if lora is None else adapter_weights(model, lora.rank)
    shares = setup.num_devices if setup.is_sharded else 1
    if setup.is_sharded and setup.config.offload:
        trained = 0  # in the machine's memory
    vocabulary = int(model["vocab_size"])
    head_gradient = 0 if lora else 2 * vocabulary * model["hidden_size"]
    buckets = 4 if setup.num_devices > 1 and not setup.is_sharded else 0
    per_weight = (2 if setup.has_masters else 4) + buckets
    adam = 2 if setup.config.optimizer == "adamw-8bit" else 8
    return MemoryEstimate(
        weights=_weight_bytes(model, setup, trained),
        masters=4 * trained if setup.has_masters else 0,
        optimizer=adam * trained / shares,
        gradients=per_weight * trained / shares + _UPDATE_BYTES,
        activations=num_tokens * activation_bytes(model, setup),
        logits=LOGIT_BYTES * min(LOGITS_PER_TILE, num_tokens * vocabulary) + head_gradient,
        process=CUDA_BYTES if setup.on_gpu else PROCESS_BYTES,
    )


def activation_bytes(model: Shape, setup: Setup) -> float:
    """Bytes per token of a micro-batch that the backward pass needs."""
    queries, keys = attention_widths(model)
    hidden, wide = model["hidden_size"], active_width(model)
    norms = 32 if setup.is_autocast else 24
    layer = norms * hidden + 4 * (queries + keys) + 8 * wide
    if setup.config.lora is not None and not setup.is_quantized and setup.has_bf16:
        layer += (2 if setup.is_autocast else 4) * (5 * hidden + queries + wide)
    layers = int(model["num_hidden_layers"])
    checkpointed = layers * 2 * hidden + layer
    total = checkpointed if setup.config.gradient_checkpointing else layers * layer
    return float(total * (1 if setup.has_bf16 else 2))


def largest_micro_batch(model: Shape, setup: Setup, memory_bytes: float) -> int:
    """Tokens that fit into so many bytes; 0 if not even the weights do."""
    empty = estimate_memory(model, setup, 0)
    full_tile = estimate_memory(model, setup, LOGITS_PER_TILE)
    if empty.total > memory_bytes:
        return 0
    free = memory_bytes - (empty.total - max(empty.gradients, empty.logits)) - full_tile.logits
    return max(int(free / activation_bytes(model, setup)), 1)


def _weight_bytes(model: Shape, setup: Setup, trained: float) -> float:
    number, compute = num_weights(model), 2 if setup.has_bf16 else 4
    if setup.config.lora is not None:
        linear = layer_weights(model) * int(model["num_hidden_layers"])
        per_linear = NF4_BYTES if setup.is_quantized else compute
        frozen = per_linear * linear + compute * (number - linear)
        return frozen + (2 if setup.has_masters else 4) * trained
    if setup.is_sharded:
        gathered = 2 * layer_weights(model) + embedding_weights(model)
        return 4 * trained / setup.num_devices + compute * gathered
    if setup.has_masters:
        return 2.0 * number
    return (6.0 if setup.is_autocast else 4.0) * number


def setup_on(machine: Machine, config: TrainConfig, *, num_devices: int) -> Setup:
    """The setup with so many of the machine's GPUs, or processes on its CPU."""
    has_bf16 = machine.cpu_bfloat16 is not False
    if machine.gpus:
        has_bf16 = all(gpu.has_bfloat16 for gpu in machine.gpus)
    return Setup(
        config=config, num_devices=num_devices, on_gpu=bool(machine.gpus), has_bf16=has_bf16
    )


def choose_micro_batch_size(config: TrainConfig, recipe: Recipe, machine: Machine) -> Choice:
    """Tokens per forward pass that this machine's smallest GPU is estimated to hold; at least 1,
    which puts each example alone."""
    if not machine.gpus:
        return Choice(None, "no NVIDIA GPU")
    model = find_config(recipe.model, recipe.revision, fetch=True)
    if model is None:
        return Choice(None, f"the config of {recipe.model} is unavailable")
    gpu = min(machine.gpus, key=lambda gpu: gpu.memory_gb)
    setup = setup_on(machine, config, num_devices=recipe.processes)
    tokens = usable_tokens(model, setup, gpu.memory_gb * 1e9)
    return Choice(f"{tokens} tokens", f"estimated for {gpu.name} with {gpu.memory_gb:.0f} GB")


def usable_tokens(model: Shape, setup: Setup, memory_bytes: float) -> int:
    """Tokens of a micro-batch on a device of so much memory, with a margin; at least 1."""
    tokens = largest_micro_batch(model, setup, memory_bytes * (1 - _MARGIN))
    return max(tokens // _STEP * _STEP if tokens >= _STEP else tokens, 1)
