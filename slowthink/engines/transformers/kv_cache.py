"""Keys and values of a batch of sequences that grow, shrink, fork and roll back.

Every column of the buffers is one fed token per row; `positions_BN` is its position in the row's
sequence, or -1 for a hole (padding, or a token rolled back). A mask over positions is all that is
needed to cut a row at any token, so answers branch off a chain without prefilling it again.

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
_GROWTH = 128


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's buffers; appending does not copy earlier columns."""

    def __init__(self) -> None:
        super().__init__()
        self.num_columns = 0
        self.buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (B, H, T, D); returns all so far."""
        end = self.num_columns + key_states.shape[2]
        if not self.buffers or self.buffers[0].shape[2] < end:
            self._grow(key_states, end)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.num_columns : end] = states
        self.num_columns = end
        keys, values = (buffer[:, :, :end] for buffer in self.buffers)
        return keys, values

    def _grow(self, like: torch.Tensor, end: int) -> None:
        B, H, _, D = like.shape
        fresh = [like.new_zeros(B, H, end + _GROWTH, D) for _ in range(2)]
        for new, old in zip(fresh, self.buffers, strict=False):
            new[:, :, : self.num_columns] = old[:, :, : self.num_columns]
        self.buffers = fresh
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Columns filled."""
        return self.num_columns


class KeyValues:
    """The cache of one batch, with the position of every column in its row's sequence."""

    def __init__(self, num_layers: int, num_rows: int, device: Any) -> None:
        self.layers = [_Layer() for _ in range(num_layers)]
        self.cache = Cache(layers=self.layers)
        self.positions_BN = torch.empty(num_rows, 0, dtype=torch.long, device=device)

    @property
    def num_columns(self) -> int:
        """Columns filled."""
        return self.positions_BN.shape[1]

    def append(self, positions_BT: torch.Tensor) -> torch.Tensor:
        """Add T columns; returns their attention mask (B, 1, T, N + T), True: attended.

        A new token attends to its row's earlier tokens and itself.
        """
        old_BN = self.positions_BN
        seen_BN = old_BN >= 0
        T = positions_BT.shape[1]
        causal_TT = torch.ones(T, T, dtype=torch.bool, device=old_BN.device).tril()
        new_BTT = (positions_BT >= 0)[:, None, :] & causal_TT
        # Padding attends to itself, or it would be NaN.
        new_BTT |= torch.eye(T, dtype=torch.bool, device=old_BN.device)
        mask_BTN = torch.cat([seen_BN[:, None, :].expand(-1, T, -1), new_BTT], -1)
        self.positions_BN = torch.cat([old_BN, positions_BT], 1)
        return mask_BTN[:, None]

    def crop_row(self, row: int, length: int) -> None:
        """Keep a row's first `length` tokens; later ones become holes."""
        positions_N = self.positions_BN[row]
        positions_N[positions_N >= length] = -1

    def take(self, rows: Sequence[int]) -> KeyValues:
        """A copy with these rows (repeats allowed), without columns that none of them uses."""
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


def join(parts: Sequence[KeyValues]) -> KeyValues:
    """All rows of several caches in one, shorter ones padded with holes on the left."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.num_columns for part in parts)
    first = parts[0]
    joined = KeyValues(len(first.layers), 0, first.positions_BN.device)
    joined.positions_BN = torch.cat(
        [_pad(part.positions_BN, width, dim=1, value=-1) for part in parts]
    )
    for number, layer in enumerate(joined.layers):
        states = [
            torch.cat([_pad(_filled(part, number, which), width, dim=2, value=0) for part in parts])
            for which in range(2)
        ]
        layer.update(*states)
    return joined


def _filled(part: KeyValues, layer: int, which: int) -> torch.Tensor:
    return part.layers[layer].buffers[which][:, :, : part.num_columns]


def _pad(tensor: torch.Tensor, width: int, *, dim: int, value: int) -> torch.Tensor:
    missing = width - tensor.shape[dim]
    if not missing:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = missing
    return torch.cat([tensor.new_full(shape, value), tensor], dim)


def additive_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask to add to scores, made once for all layers: 0 where True, else minus infinity."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, float("-inf")
    )


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor, scaling: float | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Scaled dot-product attention with the query heads of a key head as rows of one product.

    Keys and values are read once and never repeated per query head.
    """
    B, heads, T, D = query.shape
    H = key.shape[1]
    G = heads // H
    folded = query.reshape(B, H, G * T, D)
    mask = attention_mask if T == 1 else attention_mask.repeat(1, 1, G, 1)
    out = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=mask, scale=scaling
    )
    return out.reshape(B, heads, T, D).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
