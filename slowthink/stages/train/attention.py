"""Attention within each example of a packed row, by the fastest implementation that there is.

| where | implementation |
| --- | --- |
| CUDA, full attention | PyTorch's `varlen_attn` (FlashAttention): one call per layer |
| CUDA, else | FlashAttention by transformers, if flash-attn is installed |
| CUDA, else | `flex_attention` by transformers, whose block mask is built once per micro-batch |
| elsewhere, full attention | `scaled_dot_product_attention`, one call per example and layer |
| elsewhere | transformers' SDPA, with a mask built from the positions |

Full attention: no sliding window, no chunks, no soft cap of the scores. The lengths of the
examples are Python ints, so that no layer waits for the device.
Shapes: T tokens in the row, H query and K key heads, D dimensions per head.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

APART = "slowthink_apart"
VARLEN = "slowthink_varlen"
_UNSUPPORTED_SETTINGS = (
    "attn_logit_softcapping", "sliding_window", "attention_chunk_size", "attention_dropout",
)  # fmt: skip
_MAX_HEAD_DIM = 192
"""Above it FlashAttention has no backward pass on some cards (compute capability 8.6, 8.9, 12)."""
_KERNEL_DTYPE = torch.bfloat16
"""Dtype in which fp32 heads are attended: the kernel takes only half precision."""
_AMPERE = (8, 0)
"""First compute capability with bf16 and FlashAttention 2."""


def attention_name(config: Any, device_type: str) -> str:
    """Name of the attention implementation for packed rows of this model on this device."""
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    full = layers == {"full_attention"} and not any(
        getattr(config, name, None) for name in _UNSUPPORTED_SETTINGS
    )
    if full:
        _register()
    if device_type == "cuda":
        ampere = cuda_capability() >= _AMPERE
        if full and ampere and supports_head_dim(config) and _varlen_keywords() is not None:
            return VARLEN
        if ampere and flash_attn_installed():
            return "flash_attention_2"
        if ampere:
            return "flex_attention"
    return APART if full else "sdpa"


def cuda_capability() -> tuple[int, int]:
    """Compute capability of the current CUDA device."""
    return torch.cuda.get_device_capability()


def flash_attn_installed() -> bool:
    """True if flash-attn 2 is installed, whose module's name version 4 has, too."""
    from transformers.utils import is_flash_attn_2_available

    return bool(is_flash_attn_2_available())


def supports_head_dim(config: Any) -> bool:
    """True if FlashAttention trains heads of this size on every card since Ampere: queries, keys
    and values alike, unlike those of DeepSeek's latent attention."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    sizes = {getattr(config, name, None) or size for name in ("qk_head_dim", "v_head_dim")}
    return bool(sizes == {size} and size % 8 == 0 and size <= _MAX_HEAD_DIM)


def attend_apart(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    lengths: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention, one call per example; (1, H, T, D) → (1, T, H, D)."""
    from torch.nn.functional import scaled_dot_product_attention

    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1 and query.device.type != "cpu":
        # CUDA's kernel for fp32 has no grouped heads: the one that stores all scores would be taken
        key, value = (heads.repeat_interleave(num_groups, 1) for heads in (key, value))
    sizes = list(lengths)
    outputs = [
        scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=True
        )
        for q, k, v in zip(
            query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True
        )
    ]
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def attend_varlen(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    cu_seq_lens_q: Any,
    max_length_q: int,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention, one call for all examples; (1, H, T, D) → (1, T, H, D).

    Under autocast the rotation leaves queries and keys in fp32: all are cast to the values' dtype.
    """
    from torch.nn.attention import varlen

    dtype = _KERNEL_DTYPE if value.dtype is torch.float32 else value.dtype
    q, k, v = (heads[0].transpose(0, 1).to(dtype) for heads in (query, key, value))
    output: Any = varlen.varlen_attn(
        q, k, v, cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q,
        scale=scaling, **(_varlen_keywords() or {}),
    )  # fmt: skip
    return output[None], None


@cache
def _varlen_keywords() -> dict[str, Any] | None:
    """Arguments for causal attention with grouped queries; None where PyTorch cannot (< 2.11).

    PyTorch 2.11 groups queries without being asked; since 2.12 it must be asked.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    if not {"window_size", "scale"} <= known.keys():
        return None
    return {"window_size": (-1, 0)} | ({"enable_gqa": True} if "enable_gqa" in known else {})


def leave_uncompiled() -> None:
    """Let compiled layers call `attend_apart` as it is: it depends on the examples' lengths."""
    from transformers import AttentionInterface

    uncompiled = torch.compiler.disable(attend_apart)  # type: ignore[no-untyped-call]
    AttentionInterface.register(APART, uncompiled)


def _register() -> None:
    """Register both functions with transformers.

    No mask is registered with them: transformers then makes none, and does not read the positions
    from the device to find out whether a row is packed.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(APART, attend_apart)
    AttentionInterface.register(VARLEN, attend_varlen)
