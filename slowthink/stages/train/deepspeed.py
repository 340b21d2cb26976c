"""A DeepSpeed ZeRO-3 configuration with a recipe's settings, for a trainer that uses DeepSpeed.

python -m slowthink.stages.train.deepspeed RECIPE --devices 8 --steps 315 > zero3.json

slowthink itself shards by FSDP2. The keys are those of https://www.deepspeed.ai/docs/config-json/;
DeepSpeed has not been run with the result.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from slowthink.errors import ConfigError
from slowthink.recipe import TrainConfig
from slowthink.recipe.loading import load_recipe

_OFFLOAD = {"device": "cpu", "pin_memory": True}


def zero3_config(config: TrainConfig, *, num_devices: int, num_steps: int) -> dict[str, Any]:
    """The configuration as JSON: AdamW, warm-up and cosine, batches, clipping, ZeRO stage 3.

    Raises ConfigError if the batch cannot be divided among the devices, as DeepSpeed needs.
    """
    per_device = _examples_per_device(config, num_devices)
    settings: dict[str, Any] = {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": per_device,
        "gradient_accumulation_steps": config.batch_size // (per_device * num_devices),
        "gradient_clipping": config.max_grad_norm,
        "bf16": {"enabled": True},
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": config.learning_rate, "betas": list(config.betas), "eps": 1e-8,
                "weight_decay": config.weight_decay,
            },
        },
        "scheduler": {
            "type": "WarmupCosineLR",
            "params": {
                "total_num_steps": num_steps, "warmup_min_ratio": 0.0, "cos_min_ratio": 0.0,
                "warmup_num_steps": math.ceil(num_steps * config.warmup_ratio),
            },
        },
        "zero_optimization": {
            "stage": 3, "overlap_comm": True, "contiguous_gradients": True,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }  # fmt: skip
    if config.offload:
        settings["zero_optimization"] |= {
            "offload_optimizer": _OFFLOAD, "offload_param": _OFFLOAD,
        }  # fmt: skip
    return settings


def _examples_per_device(config: TrainConfig, num_devices: int) -> int:
    """Examples of a forward pass; one, where the recipe limits tokens, which DeepSpeed cannot."""
    size = config.micro_batch_size if isinstance(config.micro_batch_size, int) else 1
    if config.batch_size % (size * num_devices):
        raise ConfigError(
            f"train.batch_size: {config.batch_size} examples on {num_devices} devices with "
            f"{size} each; expected a multiple of {size * num_devices}, as DeepSpeed needs. Change "
            "train.batch_size, train.micro_batch_size or --devices."
        )
    return size


def main() -> None:
    """Print the configuration for a recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="Optimiser steps in all.")
    arguments = parser.parse_args()
    config = load_recipe(arguments.recipe).train or TrainConfig()
    made = zero3_config(config, num_devices=arguments.devices, num_steps=arguments.steps)
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
