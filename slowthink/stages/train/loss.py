"""Cross-entropy of the completion tokens, without the logits of the whole row in memory.

Only hidden states that predict a completion token reach the model's head. `TiledCrossEntropy`
takes the head's place: it computes the logits of a tile of tokens, their loss and their gradient,
and drops them before the next tile. Memory stays at one tile (256 MB in fp32) for rows of any
length, and no product is computed twice, as in Liger's fused loss (arXiv:2410.10989).
Shapes: N tokens with loss, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from slowthink.stages.train.memory import LOGITS_PER_TILE

_HOST_INPUTS = ("labels", "loss_positions")


def completion_loss(
    model: Any, inputs: dict[str, Any], num_tokens: Any = None, *, num_correct: Any = None
) -> Any:
    """Cross-entropy of the completion tokens: sum divided by `num_tokens` (default: their number).

    `inputs` are those of `pack`, on the model's device. To `num_correct`, an int64 tensor (),
    the number of tokens is added than which none was more likely. Nothing here waits for the
    device.
    """
    positions = inputs["loss_positions"]
    targets = inputs["labels"][0, positions + 1]
    model_inputs = {name: value for name, value in inputs.items() if name not in _HOST_INPUTS}
    model_inputs |= {"logits_to_keep": positions, "use_cache": False}
    if num_correct is None:
        num_correct = torch.zeros((), dtype=torch.long, device=targets.device)
    total = _loss_by_tiles(model, model_inputs, targets, num_correct)
    if total is None:
        logits = model(**model_inputs).logits[0]
        _count_correct(logits.detach(), targets[:, None], num_correct)
        total = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
    return total / (len(targets) if num_tokens is None else num_tokens)


def _loss_by_tiles(model: Any, model_inputs: dict[str, Any], targets: Any, num_correct: Any) -> Any:
    """The summed loss, computed inside the model's head; None where the head is not all there is.

    Some models scale or cap what their head returns (Gemma 2, Granite). Then the output is not the
    tensor that the head returned, and the loss must be computed from the final logits.
    """
    head = _output_head(model)
    if head is None:
        return None
    counted = torch.zeros_like(num_correct)
    with _loss_instead_of_logits(head, targets, counted) as losses:
        output = model(**model_inputs).logits
    if len(losses) == 1 and output is losses[0]:
        num_correct += counted
        return output
    head.slowthink_scaled = True
    return None


def _output_head(model: Any) -> Any:
    """The model's output layer, if it is a linear layer without bias; else None."""
    while hasattr(model, "module"):
        model = model.module
    head = model.get_output_embeddings()
    plain = type(head) is torch.nn.Linear and head.bias is None
    return head if plain and not hasattr(head, "slowthink_scaled") else None


@contextmanager
def _loss_instead_of_logits(head: Any, targets: Any, num_correct: Any) -> Iterator[list[Any]]:
    """Let the head return the summed loss; the list receives the same tensor."""
    losses: list[Any] = []

    def forward(hidden: Any) -> Any:
        losses.append(linear_cross_entropy(hidden[0], head.weight, targets, num_correct))
        return losses[-1]

    head.forward = forward
    try:
        yield losses
    finally:
        del head.forward


def linear_cross_entropy(hidden: Any, weight: Any, targets: Any, num_correct: Any = None) -> Any:
    """Cross-entropy of `hidden @ weight.T` with `targets`, summed, in fp32; () from (N, D), (V, D).
    To `num_correct` () the number of targets is added than which no token was more likely.

    Under autocast the product is computed in autocast's dtype, as by a linear layer.
    """
    device = hidden.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if num_correct is None:
        num_correct = torch.zeros((), dtype=torch.long, device=targets.device)
    return TiledCrossEntropy.apply(hidden, weight, targets, num_correct)  # type: ignore[no-untyped-call]


class TiledCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies, with the gradient computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, num_correct: Any) -> Any:
        """Loss, and gradients for a loss weight of 1."""
        needs_hidden, needs_weight, *_ = ctx.needs_input_grad
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight) if needs_weight else None
        size = max(1, LOGITS_PER_TILE // len(weight))
        for start in range(0, len(targets), size):
            tile, wanted = hidden[start : start + size], targets[start : start + size, None]
            log_probs = torch.log_softmax(tile @ weight.T, dim=1, dtype=torch.float32)
            total -= _count_correct(log_probs, wanted, num_correct).sum()
            if not (needs_hidden or needs_weight):
                continue
            grad = log_probs.exp_()
            grad.scatter_add_(1, wanted, grad.new_full((1, 1), -1.0).expand_as(wanted))
            grad = grad.to(weight.dtype)
            if grad_hidden is not None:
                torch.mm(grad, weight, out=grad_hidden[start : start + size])
            if grad_weight is not None:
                grad_weight.addmm_(grad.T, tile)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Any, Any, None, None]:
        """The gradients of the forward pass, times the loss weight."""
        (scale,) = grad_outputs
        hidden, weight = ctx.saved_tensors
        return _scaled(hidden, scale), _scaled(weight, scale), None, None


def _count_correct(scores: Any, wanted: Any, num_correct: Any) -> Any:
    """The scores (N, 1) of the wanted tokens; adds to `num_correct` how many are a row's highest.

    `argmax` would need several times as long on a CPU.
    """
    chosen = scores.gather(1, wanted)
    num_correct += (chosen >= scores.amax(1, keepdim=True)).sum()
    return chosen


def _scaled(gradient: Any, scale: Any) -> Any:
    """The gradient, scaled in place, since nothing else holds it."""
    return None if gradient is None else gradient.mul_(scale)
