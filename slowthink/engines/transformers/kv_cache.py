"""Keys and values of a batch of sequences that grow, shrink, fork and roll back.

A column of the buffers has one fed token per row; `positions_BN` is its position in the row's
sequence, or -1 for a hole (padding, or a token rolled back). Holes are masked, so a row can be cut
at any token, and answers branch off a chain without prefilling it again.

Legend: B rows, T tokens fed at once, N columns, H key heads, G query heads per key head, D head
size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "slowthink"
"""Name under which transformers knows `attend`."""
_EXTRA_COLUMNS = 128
"""Columns allocated in advance."""


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's buffers; appending does not copy earlier columns."""

    def __init__(self) -> None:
        super().__init__()
        self.num_columns = 0
        self.buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (B, H, T, D); returns those of all columns."""
        end = self.num_columns + key_states.shape[2]
        if not self.buffers or self.buffers[0].shape[2] < end:
            self._grow(key_states, end)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.num_columns : end] = states
        self.num_columns = end
        keys, values = (buffer[:, :, :end] for buffer in self.buffers)
        return keys, values

    def _grow(self, states: torch.Tensor, num_columns: int) -> None:
        B, H, _, D = states.shape
        buffers = [states.new_zeros(B, H, num_columns + _EXTRA_COLUMNS, D) for _ in range(2)]
        for new, old in zip(buffers, self.buffers, strict=False):
            new[:, :, : self.num_columns] = old[:, :, : self.num_columns]
        self.buffers = buffers
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Number of filled columns."""
        return self.num_columns


class KeyValues:
    """The cache of one batch, with the position of every token in its row's sequence."""

    def __init__(self, num_layers: int, num_rows: int, device: Any) -> None:
        self.layers = [_Layer() for _ in range(num_layers)]
        self.cache = Cache(layers=self.layers)
        self.positions_BN = torch.empty(num_rows, 0, dtype=torch.long, device=device)

    @property
    def num_columns(self) -> int:
        """Number of filled columns."""
        return self.positions_BN.shape[1]

    def append(self, positions_BT: torch.Tensor) -> torch.Tensor:
        """Add the positions of T columns; returns their attention mask (B, 1, T, N + T).

        A new token attends to its row's earlier tokens and itself: True in the mask.
        """
        old_BN = self.positions_BN
        valid_BN = old_BN >= 0
        T = positions_BT.shape[1]
        causal_TT = torch.ones(T, T, dtype=torch.bool, device=old_BN.device).tril()
        new_BTT = (positions_BT >= 0)[:, None, :] & causal_TT
        # Padding attends to itself; without, its softmax would be NaN.
        new_BTT |= torch.eye(T, dtype=torch.bool, device=old_BN.device)
        mask_BTN = torch.cat([valid_BN[:, None, :].expand(-1, T, -1), new_BTT], -1)
        self.positions_BN = torch.cat([old_BN, positions_BT], 1)
        return mask_BTN[:, None]

    def crop_row(self, row: int, length: int) -> None:
        """Keep a row's first `length` tokens; later ones become holes."""
        positions_N = self.positions_BN[row]
        positions_N[positions_N >= length] = -1

    def take(self, rows: Sequence[int]) -> KeyValues:
        """Copy these rows (repeats allowed), without columns that are holes in all of them."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.positions_BN.device)
        positions = self.positions_BN[index]
        columns = (positions >= 0).any(0).nonzero()[:, 0]
        taken = KeyValues(len(self.layers), len(rows), self.positions_BN.device)
        taken.positions_BN = positions[:, columns]
        for old, new in zip(self.layers, taken.layers, strict=True):
            states = (
                buffer.index_select(0, index).index_select(2, columns) for buffer in old.buffers
            )
            new.update(*states)
        return taken


def join(caches: Sequence[KeyValues]) -> KeyValues:
    """Join the rows of several caches, shorter ones padded with holes on the left."""
    if len(caches) == 1:
        return caches[0]
    num_columns = max(kv.num_columns for kv in caches)
    joined = KeyValues(len(caches[0].layers), 0, caches[0].positions_BN.device)
    joined.positions_BN = torch.cat(
        [_pad(kv.positions_BN, num_columns, dim=1, value=-1) for kv in caches]
    )
    for layer_index, layer in enumerate(joined.layers):
        filled = [
            [buffer[:, :, : kv.num_columns] for buffer in kv.layers[layer_index].buffers]
            for kv in caches
        ]
        keys, values = (
            torch.cat([_pad(states, num_columns, dim=2, value=0) for states in of_caches])
            for of_caches in zip(*filled, strict=True)
        )
        layer.update(keys, values)
    return joined


def _pad(tensor: torch.Tensor, length: int, *, dim: int, value: int) -> torch.Tensor:
    """Pad a dimension on the left."""
    shape = list(tensor.shape)
    shape[dim] = length - tensor.shape[dim]
    return torch.cat([tensor.new_full(shape, value), tensor], dim) if shape[dim] else tensor


def additive_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask as a tensor to add to attention scores: 0 if True, otherwise minus infinity."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, float("-inf")
    )


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor, scaling: float | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Grouped-query attention as scaled dot-product attention over H heads of G * T queries.

    So keys and values are read once, not repeated for each query head.
    """
    B, heads, T, D = query.shape
    H = key.shape[1]
    G = heads // H
    grouped = query.reshape(B, H, G * T, D)
    mask = attention_mask if T == 1 else attention_mask.repeat(1, 1, G, 1)
    out = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=mask, scale=scaling
    )
    return out.reshape(B, heads, T, D).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
