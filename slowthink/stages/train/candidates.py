"""Models saved during training, from which the development problems choose (`checkpoint: dev`).

work/train/candidates/step-38/model    as an engine reads it; complete or absent
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.nn import Parameter

from slowthink.recipe import TrainConfig
from slowthink.stages.train.schedule import PlannedStep
from slowthink.stages.train.stop import epoch_ends


def candidate_steps(schedule: Sequence[PlannedStep], config: TrainConfig) -> frozenset[int]:
    """Steps after which the model is saved: ends of epochs, except the last step of all."""
    if config.checkpoint != "dev":
        return frozenset()
    every = config.dev.every_epochs
    return frozenset(epoch_ends(schedule)[every - 1 :: every]) - {len(schedule)}


@contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Give the model the tensors back that it had: saving casts them to the base model's dtype.

    Meanwhile others of the same memory stand in for trained weights. DistributedDataParallel would
    no longer average the gradient of a weight whose dtype has changed, if only for a while.
    """
    weights = [(weight, weight.data) for weight in model.parameters()]
    stand_ins = {weight: Parameter(data) for weight, data in weights if weight.requires_grad}
    modules = list(model.modules())
    held = [(part, dict(part)) for m in modules for part in (m._parameters, m._buffers)]
    dtype, use_cache = model.config.dtype, model.config.use_cache
    for module in modules:
        for name, weight in module._parameters.items():
            module._parameters[name] = stand_ins.get(weight, weight)
    try:
        yield
    finally:
        for weight, data in weights:
            weight.data = data
        for part, saved in held:
            part.update(saved)
        model.config.dtype, model.config.use_cache = dtype, use_cache
