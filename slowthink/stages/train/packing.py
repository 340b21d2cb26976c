"""Pack the examples of a micro-batch into a single row, without padding.

Each example attends only to itself. Shapes: T tokens in the row, H heads, D dimensions per head.
On a GPU, FlashAttention does this by `cu_seq_lens_*`; elsewhere `packed_attention` does, with one
call per example. For sliding windows and soft caps transformers builds a mask from the positions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from slowthink.stages.train.examples import TrainingExample

IGNORE_INDEX = -100
"""Label of a token without loss."""
ATTENTION = "slowthink_packed"
_UNSUPPORTED_ATTENTION = ("attn_logit_softcapping", "sliding_window", "attention_chunk_size")


def pack(micro_batches: Sequence[Sequence[TrainingExample]]) -> dict[str, Any]:
    """The model's inputs for one micro-batch. A data collator: the list contains exactly one.

    An empty micro-batch (the last step of an epoch, with more devices than examples) becomes two
    tokens without loss, since every device needs a batch in every step.
    """
    import torch

    (examples,) = micro_batches
    rows = [_ids_and_labels(example) for example in examples] or [([0, 0], [IGNORE_INDEX] * 2)]
    lengths = [len(ids) for ids, _ in rows]
    bounds = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[token_id for ids, _ in rows for token_id in ids]]),
        "labels": torch.tensor([[label for _, labels in rows for label in labels]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def _ids_and_labels(example: TrainingExample) -> tuple[list[int], list[int]]:
    """Token ids, and labels for the completion. EOS has a label even if it is the padding token."""
    ids = [*example.prompt_ids, *example.completion_ids]
    return ids, [IGNORE_INDEX] * len(example.prompt_ids) + list(example.completion_ids)


def attention_name(config: Any, device_type: str) -> str:
    """Name of the attention implementation for packed rows of this model on this device."""
    if device_type == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        return "flash_attention_2"
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    unsupported = any(getattr(config, name, None) for name in _UNSUPPORTED_ATTENTION)
    if layers == {"full_attention"} and not unsupported:
        _register_packed_attention()
        return ATTENTION
    return "sdpa"


def packed_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Any = None,
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention within each example; (1, H, T, D) → (1, T, H, D)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    lengths = cu_seq_lens_q.diff().tolist()
    outputs = [
        scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=True
        )
        for q, k, v in zip(
            query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True
        )
    ]
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _register_packed_attention() -> None:
    """Register `packed_attention` with transformers; it needs no mask."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)
