"""Linear layers with weights in oneDNN's packed layout: for bfloat16 and float32 on x86 CPUs.

In each call, torch packs a bfloat16 weight again; for a few rows that takes longer than the
product. Packing it once makes 1 to 48 rows of SmolLM2's layers 1.2 to 2.3 times as fast (2 cores),
with the same bits. A float32 product is MKL's in torch; oneDNN's, packed, is 1.1 to 2.1 times as
fast for 1 to 32 rows (one core with AVX-512; 1.2 times for 32 rows with AVX2), with other rounding.

    pack(model)     # every nn.Linear of the model, in place
"""

from __future__ import annotations

import platform

import torch

_LAYOUT_ROWS = 32
"""Number of rows that the layout is optimised for; any number may be fed."""


class PackedLinear(torch.nn.Module):
    """A linear layer for inference; keeps only the packed weight."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _LAYOUT_ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (…, in) → (…, out)."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self.bias, "none", [], ""
        )
        return y


def pack(model: torch.nn.Module) -> None:
    """Replace the model's linear layers, if this torch and CPU support it."""
    if not can_pack(model):
        return
    with torch.inference_mode():
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if type(child) is torch.nn.Linear:
                    setattr(module, name, PackedLinear(child))


def can_pack(model: torch.nn.Module) -> bool:
    """Whether the model is float32 on an x86 CPU, or bfloat16 on one that computes in it."""
    parameter = next(model.parameters())
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    if parameter.device.type != "cpu" or not is_x86:
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if parameter.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return parameter.dtype == torch.float32
