"""AdamW whose two averages are in 8 bits instead of 32, by a library that has kernels for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from slowthink.recipe import TrainConfig
from slowthink.stages.train.masters import FUSED_ADAMW
from slowthink.stages.train.packages import eight_bit_package


def base_optimizer(config: TrainConfig, *, sharded: bool) -> Callable[..., torch.optim.Optimizer]:
    """The class that updates fp32 masters."""
    if config.optimizer == "adamw":
        return FUSED_ADAMW
    package = eight_bit_package(sharded=sharded, on_gpu=torch.cuda.is_available())
    optim: Any = importlib.import_module(f"{package}.optim")
    base: Callable[..., torch.optim.Optimizer] = optim.AdamW8bit
    return base
