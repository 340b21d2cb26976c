"""The data types of training: the one place where they are chosen.

| where | weights | masters | autocast |
| --- | --- | --- | --- |
| CPU with bf16 instructions | bf16 | fp32 | no |
| one CUDA device with bf16 | bf16 | fp32 | no |
| CUDA, LoRA | bf16, frozen; adapters in fp32 | – | bf16 |
| QLoRA | nf4, frozen; adapters in bf16 | fp32 | with CUDA |
| several CUDA devices, `data` | fp32 | the weights | bf16 |
| FSDP2 | fp32 in shares, gathered in bf16 | the shares | no |
| elsewhere | fp32 | – | no |

Weights in bf16 with fp32 masters need 16 bytes per weight (2 + 2 + 4 + 8), as do fp32 weights under
autocast (4 + 4 + 8), which adds a bf16 copy of every weight in every forward pass and keeps norms,
rotations and the residual stream in fp32: twice their memory and traffic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slowthink.recipe import TrainConfig
from slowthink.stages.train.processes import is_sharded, world_size


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Data types of weights, optimiser and compute."""

    weights: torch.dtype
    """Dtype in which the model is loaded."""
    masters: bool = False
    """The optimiser keeps fp32 masters of weights in bf16 (`MasterAdamW`)."""
    autocast: bool = False
    """Compute in bf16 from weights in another dtype."""
    gathered: torch.dtype | None = None
    """Dtype in which the shares of FSDP2 are gathered, if not their own."""

    def __str__(self) -> str:
        name = str(self.weights).removeprefix("torch.")
        if self.gathered is not None:
            return f"{name} shares, {str(self.gathered).removeprefix('torch.')} compute"
        if self.autocast:
            return f"{name} weights, bfloat16 autocast"
        return f"{name} compute, float32 masters" if name == "bfloat16" else name


def choose_precision(config: TrainConfig) -> Precision:
    """The fastest precision that this machine supports; see the table above."""
    bf16 = _has_bf16()
    if is_sharded(config):
        gathered = torch.bfloat16 if bf16 else None
        return Precision(weights=torch.float32, masters=True, gathered=gathered)
    if config.lora is not None and config.lora.quantize is not None:
        weights = torch.bfloat16 if bf16 else torch.float32
        return Precision(weights=weights, masters=True, autocast=bf16 and torch.cuda.is_available())
    if torch.cuda.is_available():
        return _choose_for_cuda(config) if bf16 else Precision(weights=torch.float32)
    if torch.mps.is_available():
        return Precision(weights=torch.float32)
    return Precision(weights=torch.bfloat16 if bf16 else torch.float32, masters=True)


def _has_bf16() -> bool:
    """True if this machine computes in bf16 by instructions of its own."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _choose_for_cuda(config: TrainConfig) -> Precision:
    if config.lora is not None:
        return Precision(weights=torch.bfloat16, autocast=True)
    if world_size() > 1:
        return Precision(weights=torch.float32, masters=True, autocast=True)
    return Precision(weights=torch.bfloat16, masters=True)
