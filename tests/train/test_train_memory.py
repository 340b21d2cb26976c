"""`micro_batch_size: auto`: tokens that a GPU is estimated to hold."""

from __future__ import annotations

import json

import pytest

from slowthink.engines.auto import Machine
from slowthink.environment import CudaDevice
from slowthink.recipe import LoraConfig, Recipe, TrainConfig
from slowthink.stages.train.memory import choose_micro_batch_size, estimate_tokens, num_weights

SMOLLM = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
}  # fmt: skip
QWEN_7B = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "vocab_size": 152064,
    "num_attention_heads": 28, "num_key_value_heads": 4,
}  # fmt: skip


def _machine(*memory_gb):
    return Machine(gpus=tuple(CudaDevice("H100", (9, 0), size) for size in memory_gb))


@pytest.mark.parametrize(("model", "expected"), [(SMOLLM, 134.5e6), (QWEN_7B, 7.615e9)])
def test_weights_are_those_of_the_published_model(model, expected):
    assert num_weights(model) == pytest.approx(expected, rel=2e-3)


def test_more_memory_less_model_and_checkpointing_hold_more_tokens():
    def tokens(model=SMOLLM, memory=24e9, lora=False, checkpointing=False):
        return estimate_tokens(model, memory, lora=lora, checkpointing=checkpointing)

    assert 10_000 < tokens() < tokens(memory=80e9) < tokens(memory=80e9, checkpointing=True)
    assert tokens(QWEN_7B, 80e9) == 1
    assert tokens(QWEN_7B, 80e9, lora=True) > 1000
    assert tokens(QWEN_7B, 80e9, lora=True, checkpointing=True) > 20_000
    assert tokens(memory=80e9) % 1024 == 0


def test_the_smallest_gpu_decides(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM))
    recipe = Recipe.model_validate({"name": "t", "model": str(tmp_path)})
    choice = choose_micro_batch_size(TrainConfig(), recipe, _machine(80.0, 24.0))
    tokens = estimate_tokens(SMOLLM, 24e9, lora=False, checkpointing=False)
    assert choice.value == f"{tokens} tokens"
    assert "24 GB" in choice.reason
    config = TrainConfig(micro_batch_size=choice.value, lora=LoraConfig())
    assert config.micro_batch_tokens == tokens


def test_without_a_gpu_or_a_config_the_whole_batch_is_one(tmp_path):
    recipe = Recipe.model_validate({"name": "t", "model": str(tmp_path)})
    assert choose_micro_batch_size(TrainConfig(), recipe, Machine()).value is None
    assert choose_micro_batch_size(TrainConfig(), recipe, _machine(24.0)).value is None


@pytest.mark.parametrize("size", ["0 tokens", "many", "1e3 tokens", 0, "-3 tokens"])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match="micro_batch_size"):
        TrainConfig(micro_batch_size=size)
