"""A forward pass without padding: the examples of a part one after another in a single row.

Each example attends to itself alone. Shapes: T tokens in the row, H heads, D numbers per head.
On a GPU flash attention does this from `cu_seq_lens_*`; elsewhere `attend_apart` does, one call
per example. Other attention (sliding windows, soft caps) is left to transformers, which builds the
block mask from the positions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from slowthink.stages.train.examples import TrainingExample

IGNORED = -100
"""Label of a token that is not learnt."""
ATTENTION = "slowthink_packed"
_OTHER_ATTENTION = ("attn_logit_softcapping", "sliding_window", "attention_chunk_size")


def pack(parts: Sequence[Sequence[TrainingExample]]) -> dict[str, Any]:
    """The model's inputs for one part; a collator, so `parts` holds exactly one.

    An empty part (the last step of an epoch, over more devices than examples) becomes two ignored
    tokens: every device takes part in every step.
    """
    import torch

    (examples,) = parts
    rows = [_labelled(example) for example in examples] or [([0, 0], [IGNORED, IGNORED])]
    lengths = [len(ids) for ids, _ in rows]
    bounds = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[i for ids, _ in rows for i in ids]]),
        "labels": torch.tensor([[label for _, labels in rows for label in labels]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }


def _labelled(example: TrainingExample) -> tuple[list[int], list[int]]:
    """Ids and labels; a label is the token's own id, also where that id doubles as padding."""
    ids = [*example.prompt_ids, *example.completion_ids]
    return ids, [IGNORED] * len(example.prompt_ids) + list(example.completion_ids)


def attention_name(config: Any, device_type: str) -> str:
    """How this model attends to packed rows on this device."""
    if device_type == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        return "flash_attention_2"
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    special = any(getattr(config, name, None) for name in _OTHER_ATTENTION)
    if layers == {"full_attention"} and not special:
        _register()
        return ATTENTION
    return "sdpa"


def attend_apart(
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
    """Causal attention of each example to itself; (1, H, T, D) in, (1, T, H, D) out."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    lengths = cu_seq_lens_q.diff().tolist()
    pieces = [
        scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=dropout, scale=scaling, enable_gqa=True
        )
        for q, k, v in zip(
            query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True
        )
    ]
    return torch.cat(pieces, 2).transpose(1, 2).contiguous(), None


def _register() -> None:
    """Make `attend_apart` known to transformers; it needs no mask."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attend_apart)
    AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)
