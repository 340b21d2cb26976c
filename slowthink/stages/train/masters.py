"""AdamW with fp32 master weights for a model in bf16.

Casting the weights in every forward pass (autocast) costs a tenth of the time and a second copy per
step; here the bf16 weights are updated once per step. The masters are part of the optimiser's
state, so checkpoints contain them. Of weights in shares (FSDP2) each process updates its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch

from slowthink.stages.train.processes import local

NUMBERS_PER_GROUP = 2**24
"""Weights are updated together up to this size: few calls, and 64 MB of fp32 gradients."""


FUSED_ADAMW = partial(torch.optim.AdamW, fused=True)


class MasterAdamW(torch.optim.Optimizer):
    """AdamW with fp32 masters: reads the model's gradients and updates its weights.

    A weight in fp32, or a share of one, is its own master. `base` updates the masters: PyTorch's
    AdamW, or one whose averages are in 8 bits.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        base: Callable[..., torch.optim.Optimizer] = FUSED_ADAMW,
        **settings: Any,
    ) -> None:
        groups = [{**group, "params": list(group["params"])} for group in groups]
        self.weights = [weight for group in groups for weight in group["params"]]
        for group in groups:
            group["params"] = [_make_master(weight) for weight in group["params"]]
        self.base = base(groups, **settings)
        super().__init__(self.base.param_groups, self.base.defaults)
        self.state = self.base.state
        self.masters = [master for group in self.param_groups for master in group["params"]]
        self._groups = _groups_by_size(self.weights)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update group by group of weights, so that few fp32 gradients exist at a time."""
        gradients = [None if weight.grad is None else local(weight.grad) for weight in self.weights]
        self.zero_grad()
        for group in self._groups:
            pairs = [(i, gradients[i]) for i in group if gradients[i] is not None]
            if not pairs:
                continue
            masters = [self.masters[i] for i, _ in pairs]
            for master, gradient in zip(masters, _as_float([g for _, g in pairs]), strict=True):
                master.grad = gradient
            self.base.step(closure)
            for master in masters:
                master.grad = None
            for i, _ in pairs:
                gradients[i] = None
            torch._foreach_copy_([local(self.weights[i]) for i, _ in pairs], masters)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Delete the gradients."""
        for weight in self.weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state and the masters."""
        return self.base.state_dict() | {"masters": [master.detach() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, the masters and the model's weights."""
        state_dict = dict(state_dict)
        for weight, master, saved in zip(
            self.weights, self.masters, state_dict.pop("masters"), strict=True
        ):
            master.copy_(saved)
            local(weight).copy_(master)
        self.base.load_state_dict(state_dict)
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def promote(self, model: torch.nn.Module) -> None:
        """Replace the model's weights in bf16, or those of the same memory that stand in for them,
        by the fp32 masters, to save them; shares are in fp32 already."""
        halves = {
            weight.data_ptr(): master
            for weight, master in zip(self.weights, self.masters, strict=True)
            if weight.dtype is not torch.float32
        }
        for weight in model.parameters() if halves else ():
            if weight.data_ptr() in halves:
                weight.data = halves[weight.data_ptr()].detach()


def _make_master(weight: Any) -> Any:
    """The fp32 copy of a weight; a weight in fp32 itself, or its share, in the same memory."""
    if weight.dtype is torch.float32 and local(weight) is weight:
        return weight
    return local(weight.detach()).float().requires_grad_(True)


def _groups_by_size(weights: Sequence[Any]) -> list[list[int]]:
    """Indices of the weights, in groups of limited size; a larger weight is alone."""
    groups: list[list[int]] = []
    size = 0
    for index, weight in enumerate(weights):
        size += weight.numel()
        if not groups or size > NUMBERS_PER_GROUP:
            groups.append([])
            size = weight.numel()
        groups[-1].append(index)
    return groups


def _as_float(gradients: list[Any]) -> list[Any]:
    """The gradients in fp32; several are cast into one block of memory by one call."""
    if len(gradients) == 1 or all(gradient.dtype is torch.float32 for gradient in gradients):
        return [gradient.float() for gradient in gradients]
    sizes = [gradient.numel() for gradient in gradients]
    block: Any = torch.empty(sum(sizes), dtype=torch.float32, device=gradients[0].device)
    views = [
        part.view_as(gradient) for part, gradient in zip(block.split(sizes), gradients, strict=True)
    ]
    torch._foreach_copy_(views, gradients)
    return views
