"""Keys and values of a batch: one slot per sequence, one column per position.

The token at position p of the sequence in slot s is in column p of row s. What lies in later
columns is masked and overwritten, so cutting a sequence, at a branch or a roll-back, means to feed
its next token at an earlier position: nothing is copied. Buffers keep their addresses until
`reserve` enlarges them, so that a forward pass can be captured in a CUDA graph.

Legend: S slots, B rows fed, T tokens fed at once, N columns, H key heads, G query heads per key
head, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "slowthink"
"""Name under which transformers knows `attend`."""
_COLUMNS_CLEARED = 64
"""Columns that are cleared at once, when they are first read."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of the buffers that a forward pass uses: `positions_BT` of the slots from
    `first_slot` on are written, and their first `num_columns` columns are read."""

    first_slot: int
    positions_BT: torch.Tensor
    num_columns: int


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's buffers (S, H, N, D), allocated at its first update."""

    def __init__(self, owner: KeyValues) -> None:
        super().__init__()
        self.owner = owner
        self.buffers: list[torch.Tensor] = []
        self.forms: list[torch.Tensor] = []
        """Empty tensors with the heads, their size and the type of the buffers."""
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values (B, H, T, D) to the window; returns those of its columns."""
        window, states = self.owner.window, (key_states, value_states)
        if not self.buffers:
            self.forms = [new[:0, :, :0].clone() for new in states]
            self.buffers = [self.owner.allocate(new) for new in states]
        B = key_states.shape[0]
        rows_B1 = torch.arange(B, device=key_states.device)[:, None]
        slots = slice(window.first_slot, window.first_slot + B)
        for buffer, new in zip(self.buffers, states, strict=True):
            by_column = buffer[slots].transpose(1, 2)
            by_column.index_put_((rows_B1, window.positions_BT), new.transpose(1, 2))
        keys, values = (buffer[slots, :, : window.num_columns] for buffer in self.buffers)
        return keys, values

    def get_seq_length(self) -> int:
        """Number of columns that the window reads."""
        return self.owner.window.num_columns


class KeyValues:
    """The buffers of all layers."""

    def __init__(self, num_layers: int, device: Any) -> None:
        self.window = Window(
            first_slot=0,
            positions_BT=torch.zeros(0, 0, dtype=torch.long, device=device),
            num_columns=0,
        )
        self.num_slots, self.num_columns = 0, 0
        self._num_cleared = 0
        self.layers = [_Layer(self) for _ in range(num_layers)]
        self.cache = Cache(layers=self.layers)

    def holds(self, num_slots: int, num_columns: int) -> bool:
        """Whether the buffers have this many slots and columns."""
        return num_slots <= self.num_slots and num_columns <= self.num_columns

    def reserve(self, sizes: Sequence[tuple[int, int]], *, num_kept: int = 0) -> None:
        """Replace the buffers by ones of the first of these numbers of slots and of columns for
        which there is memory; the first `num_kept` slots keep their contents. Buffers of a layer
        that was never used are allocated at its first update.

        Raises torch.OutOfMemoryError.
        """
        for num_slots, num_columns in sizes:
            self.num_slots = max(num_slots, num_kept)
            self.num_columns = max(num_columns, self._num_cleared if num_kept else 0)
            try:
                if num_kept:
                    self._enlarge(num_kept)
                else:
                    self._renew()
                return
            except torch.OutOfMemoryError:
                if (num_slots, num_columns) == sizes[-1]:
                    raise

    def _enlarge(self, num_kept: int) -> None:
        """Allocate one buffer after the other again, and copy what is kept."""
        for layer in self.layers:
            layer.buffers = [self._enlarged(buffer, num_kept) for buffer in layer.buffers]

    def _enlarged(self, buffer: torch.Tensor, num_kept: int) -> torch.Tensor:
        new = self.allocate(buffer)
        columns = slice(self._num_cleared)
        new[:num_kept, :, columns] = buffer[:num_kept, :, columns]
        return new

    def free(self) -> None:
        """Free all buffers."""
        self._num_cleared = 0
        for layer in self.layers:
            layer.buffers = []

    def _renew(self) -> None:
        """Allocate all buffers again; the old ones are freed before."""
        self.free()
        for layer in self.layers:
            layer.buffers = [self.allocate(form) for form in layer.forms]

    def allocate(self, like: torch.Tensor) -> torch.Tensor:
        """A buffer (S, H, N, D), with H, D and the type of this tensor. Only the columns that are
        read are cleared: on a CPU, the memory of the others is not used."""
        num_heads, head_size = like.shape[1], like.shape[3]
        buffer = like.new_empty(self.num_slots, num_heads, self.num_columns, head_size)
        buffer[:, :, : self._num_cleared] = 0
        return buffer

    def use(self, window: Window) -> None:
        """Set the window of the next forward pass."""
        self.window = window
        if window.num_columns > self._num_cleared:
            start, end = self._num_cleared, min(_round_up(window.num_columns), self.num_columns)
            for layer in self.layers:
                for buffer in layer.buffers:
                    buffer[:, :, start:end] = 0
            self._num_cleared = end

    def copy(self, sources: Sequence[int], targets: Sequence[int], num_columns: int) -> None:
        """Copy the first columns of some slots to others. Their numbers go to the device once, not
        for each layer: every such copy waits for the device."""
        if not sources:
            return
        device = self.window.positions_BT.device
        from_B, to_B = (torch.tensor(list(slots), device=device) for slots in (sources, targets))
        for layer in self.layers:
            for buffer in layer.buffers:
                buffer[to_B, :, :num_columns] = buffer[from_B, :, :num_columns]


def _round_up(num_columns: int) -> int:
    return -(-num_columns // _COLUMNS_CLEARED) * _COLUMNS_CLEARED


def causal_mask(positions_BT: torch.Tensor, num_columns: int, dtype: torch.dtype) -> torch.Tensor:
    """The mask (B, 1, T, N) to add to attention scores: 0 up to a token's own column, then minus
    infinity."""
    columns_N = torch.arange(num_columns, device=positions_BT.device)
    later_BTN = columns_N > positions_BT[:, :, None]
    mask = torch.zeros(later_BTN.shape, dtype=dtype, device=positions_BT.device)
    return mask.masked_fill_(later_BTN, float("-inf"))[:, None]


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor, scaling: float | None = None,
    spans: Sequence[tuple[slice, int]] = (), **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Grouped-query attention as scaled dot-product attention over H heads of G * T queries.

    So keys and values are read once, not repeated for each query head. `spans` are consecutive rows
    with the number of columns that they need; without, all rows read all columns.
    """
    B, heads, T, D = query.shape
    H = key.shape[1]
    G = heads // H
    grouped = query.reshape(B, H, G * T, D)
    mask = attention_mask if T == 1 else attention_mask.repeat(1, 1, G, 1)
    outs = [
        torch.nn.functional.scaled_dot_product_attention(
            grouped[rows], key[rows, :, :width], value[rows, :, :width],
            attn_mask=mask[rows, ..., :width], scale=scaling,
        )
        for rows, width in spans or [(slice(B), key.shape[2])]
    ]  # fmt: skip
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out.reshape(B, heads, T, value.shape[3]).transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
