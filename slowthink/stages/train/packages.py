"""Packages that single settings of training need, beside those of the extra `train`. No torch."""

from __future__ import annotations

import importlib.util

from slowthink.errors import ConfigError
from slowthink.stages.train.memory import Setup


def required_packages(setup: Setup) -> dict[str, str]:
    """The setting that needs it, by package.

    >>> from slowthink.recipe import TrainConfig
    >>> required_packages(Setup(config=TrainConfig(report_to=("wandb",))))
    {'wandb': 'train.report_to: wandb'}
    """
    config = setup.config
    needed: dict[str, str] = {
        tracker: f"train.report_to: {tracker}" for tracker in config.report_to
    }
    if setup.is_quantized:
        needed["bitsandbytes"] = "train.lora.quantize: nf4"
    if config.optimizer == "adamw-8bit":
        package = eight_bit_package(sharded=setup.is_sharded, on_gpu=setup.on_gpu)
        needed.setdefault(package, "train.optimizer: adamw-8bit")
    return needed


def eight_bit_package(*, sharded: bool, on_gpu: bool) -> str:
    """The package whose AdamW keeps its averages in 8 bits."""
    return "torchao" if sharded or not on_gpu else "bitsandbytes"


def require_packages(setup: Setup) -> None:
    """Raise ConfigError if a package that a setting needs is not installed."""
    for package, setting in required_packages(setup).items():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"{setting} needs the package `{package}`, which is not installed; expected it "
                f"beside slowthink. Run: pip install {package}, or change the setting."
            )
