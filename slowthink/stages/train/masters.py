"""AdamW on fp32 masters of weights that compute in bf16: what a CPU needs.

Casting the weights in every forward pass (autocast) costs a tenth of the time and a second copy per
step; here the bf16 copy is refreshed once per step. The masters are in the optimiser's state, so a
checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MasterAdamW(torch.optim.AdamW):
    """AdamW on fp32 masters; the gradients are the model's own, and its weights are refreshed.

    A weight that is fp32 already is its own master.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **settings: Any) -> None:
        own = [{**group, "params": list(group["params"])} for group in groups]
        self.weights = [weight for group in own for weight in group["params"]]
        for group in own:
            group["params"] = [_master(weight) for weight in group["params"]]
        super().__init__(own, fused=True, **settings)
        self.masters = [master for group in self.param_groups for master in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update. Goes weight by weight, so that one fp32 gradient is alive at a time."""
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
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state and the masters."""
        return super().state_dict() | {"masters": [master.detach() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back the state, the masters, and the model's weights."""
        state_dict = dict(state_dict)
        for weight, master, saved in zip(
            self.weights, self.masters, state_dict.pop("masters"), strict=True
        ):
            master.copy_(saved)
            weight.copy_(master)
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def promote(self) -> None:
        """Make the model's weights the fp32 masters: at the end, before saving."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.data = master.detach()


def _master(weight: Any) -> Any:
    if weight.dtype is torch.float32:
        return weight
    return weight.detach().float().requires_grad_(True)
