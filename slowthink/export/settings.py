"""The recipe's train section in the names of transformers, which TRL and LLaMA-Factory share."""

from __future__ import annotations

import math
from typing import Any

from slowthink.export.training import ExportSource

OPTIMIZERS = {"adamw": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit"}
"""By `train.optimizer`: transformers' names."""
OWN_SETTINGS = ("parallel", "offload", "compile", "report_to", "checkpoint", "stop")
"""Settings of the train section that only slowthink has, or that a trainer is given otherwise."""


def settings_notes(training: ExportSource) -> tuple[str, ...]:
    """Settings of the recipe that are not exported, for the README."""
    config = training.config
    fields = type(config).model_fields
    names = [name for name in OWN_SETTINGS if getattr(config, name) != fields[name].default]
    if config.lora is not None and config.lora.quantize is not None:
        names.append("lora.quantize")
    if not names:
        return ()
    return (f"Not exported, set them in the trainer: train.{', train.'.join(names)}.",)


def common_settings(training: ExportSource) -> dict[str, Any]:
    """Arguments of transformers' Trainer. Steps of warm-up are counted: versions before 5 have no
    share, later ones no `warmup_ratio`."""
    config = training.config
    save = config.save_every_steps
    return {
        "num_train_epochs": config.epochs,
        **({"max_steps": config.step_limit} if config.step_limit else {}),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": config.batch_size,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": warmup_steps(training),
        "optim": OPTIMIZERS[config.optimizer],
        "weight_decay": config.weight_decay,
        "adam_beta1": config.betas[0],
        "adam_beta2": config.betas[1],
        "max_grad_norm": config.max_grad_norm,
        "logging_steps": 1,
        "save_strategy": "steps" if save else "no",
        **({"save_steps": save} if save else {}),
        "seed": training.recipe.seed % 2**31,
    }


def warmup_steps(training: ExportSource) -> int:
    """Number of steps of linear warm-up."""
    return math.ceil(training.config.warmup_ratio * training.num_steps)


def yaml_text(settings: dict[str, Any]) -> str:
    """Settings as YAML, in the given order."""
    import yaml

    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
