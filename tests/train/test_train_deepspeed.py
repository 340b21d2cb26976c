"""The ZeRO-3 configuration, against DeepSpeed's documented keys, and as accelerate reads it."""

from __future__ import annotations

import pytest

from slowthink.errors import ConfigError
from slowthink.recipe import TrainConfig
from slowthink.stages.train.deepspeed import zero3_config

DOCUMENTED = {
    "": {
        "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
        "gradient_clipping", "bf16", "optimizer", "scheduler", "zero_optimization",
    },
    "bf16": {"enabled"},
    "optimizer": {"type", "params"},
    "optimizer.params": {"lr", "betas", "eps", "weight_decay"},
    "scheduler": {"type", "params"},
    "scheduler.params": {"total_num_steps", "warmup_num_steps", "warmup_min_ratio", "cos_min_ratio"},
    "zero_optimization": {
        "stage", "overlap_comm", "contiguous_gradients", "offload_optimizer", "offload_param",
        "stage3_gather_16bit_weights_on_model_save",
    },
    "zero_optimization.offload_optimizer": {"device", "pin_memory"},
    "zero_optimization.offload_param": {"device", "pin_memory"},
}  # fmt: skip
"""Of https://www.deepspeed.ai/docs/config-json/ and its page on schedulers, those that we use."""


def undocumented(settings, place=""):
    found = [f"{place}.{key}" for key in settings if key not in DOCUMENTED[place]]
    for key, value in settings.items():
        if isinstance(value, dict):
            found += undocumented(value, f"{place}.{key}".lstrip("."))
    return found


@pytest.mark.parametrize("offload", [False, True])
def test_every_key_is_documented(offload):
    config = TrainConfig(parallel="fsdp2", offload=offload)
    made = zero3_config(config, num_devices=8, num_steps=315)
    assert undocumented(made) == []
    assert made["zero_optimization"]["stage"] == 3
    assert ("offload_param" in made["zero_optimization"]) is offload


def test_the_batch_is_that_of_the_recipe_on_any_number_of_devices():
    config = TrainConfig(batch_size=16, micro_batch_size=2)
    for number in (1, 4, 8):
        made = zero3_config(config, num_devices=number, num_steps=10)
        product = made["train_micro_batch_size_per_gpu"] * made["gradient_accumulation_steps"]
        assert product * number == made["train_batch_size"] == 16
    with pytest.raises(ConfigError, match="expected a multiple of 12"):
        zero3_config(config, num_devices=6, num_steps=10)


@pytest.mark.slow
@pytest.mark.parametrize("offload", [False, True])
def test_accelerate_reads_stage_and_offload(offload):
    pytest.importorskip("accelerate")
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    config = TrainConfig(parallel="fsdp2", offload=offload)
    read = HfDeepSpeedConfig(zero3_config(config, num_devices=8, num_steps=315))
    assert read.is_zero3() and read.is_offload() is offload
