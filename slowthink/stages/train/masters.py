"""AdamW with fp32 master weights for a model in bf16, for CPUs.

Casting the weights in every forward pass (autocast) costs a tenth of the time and a second copy per
step; here the bf16 weights are updated once per step. The masters are part of the optimiser's
state, so checkpoints contain them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MasterAdamW(torch.optim.AdamW):
    """AdamW with fp32 masters: reads the model's gradients and updates its weights.

    A weight in fp32 is its own master.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **settings: Any) -> None:
        groups = [{**group, "params": list(group["params"])} for group in groups]
        self.weights = [weight for group in groups for weight in group["params"]]
        for group in groups:
            group["params"] = [_make_master(weight) for weight in group["params"]]
        super().__init__(groups, fused=True, **settings)
        self.masters = [master for group in self.param_groups for master in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update weight by weight, so that only one fp32 gradient exists at a time."""
        gradients = [weight.grad for weight in self.weights]
        self.zero_grad()
        for weight, master in zip(self.weights, self.masters, strict=True):
            gradient = gradients.pop(0)
            if gradient is not None:
                master.grad = gradient.float()
                super().step(closure)
                master.grad = None
                weight.copy_(master)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Delete the gradients."""
        for weight in self.weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state and the masters."""
        return super().state_dict() | {"masters": [master.detach() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, the masters and the model's weights."""
        state_dict = dict(state_dict)
        for weight, master, saved in zip(
            self.weights, self.masters, state_dict.pop("masters"), strict=True
        ):
            master.copy_(saved)
            weight.copy_(master)
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def promote(self) -> None:
        """Replace the model's weights by the fp32 masters, to save them after training."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.data = master.detach()


def _make_master(weight: Any) -> Any:
    """The fp32 copy of a weight; a weight in fp32 itself."""
    if weight.dtype is torch.float32:
        return weight
    return weight.detach().float().requires_grad_(True)
