"""AdamW whose two averages are in 8 bits instead of 32, by a library that has kernels for it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from slowthink.errors import ConfigError
from slowthink.recipe import TrainConfig
from slowthink.stages.train.masters import FUSED_ADAMW


def base_optimizer(config: TrainConfig, *, sharded: bool) -> Callable[..., torch.optim.Optimizer]:
    """The class that updates fp32 masters. Raises ConfigError if its library is not installed."""
    if config.optimizer == "adamw":
        return FUSED_ADAMW
    package = "torchao" if sharded or not torch.cuda.is_available() else "bitsandbytes"
    require(package, setting="train.optimizer: adamw-8bit")
    optim: Any = importlib.import_module(f"{package}.optim")
    base: Callable[..., torch.optim.Optimizer] = optim.AdamW8bit
    return base


def require(package: str, *, setting: str) -> None:
    """Raise ConfigError if a package that a setting needs is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"{setting} needs the package `{package}`, which is not installed; expected it beside "
            f"slowthink. Run: pip install {package}, or change the setting."
        )
