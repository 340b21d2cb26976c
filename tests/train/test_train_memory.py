"""Memory, disk and time of training, predicted from the model's config."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from slowthink.engines.auto import Machine
from slowthink.environment import CudaDevice, python_command, python_environment
from slowthink.errors import ConfigError
from slowthink.recipe import LoraConfig, Recipe, TrainConfig
from slowthink.stages.train.forecast import (
    TrainingSize,
    disk_needed,
    forecast,
    parse_gpus,
    peak_flops,
    token_flops,
)
from slowthink.stages.train.memory import (
    Setup,
    choose_micro_batch_size,
    estimate_memory,
    largest_micro_batch,
    usable_tokens,
)
from slowthink.stages.train.shapes import adapter_weights, find_config, known_config, num_weights
from tests.needs import needs

SMOLLM = known_config("smollm2-135m")
QWEN_7B = known_config("Qwen/Qwen2.5-7B")
MEASURED_MB = {
    ("full", 256, False): 3181, ("full", 1024, False): 4209, ("full", 2048, False): 5552,
    ("lora", 256, False): 1454, ("lora", 1024, False): 3010, ("lora", 2048, False): 4595,
    ("full", 2048, True): 3656, ("lora", 2048, True): 2208,
}  # fmt: skip
"""Peak RSS of `python -m benchmarks.memory` on a CPU with bf16, SmolLM2-135M (see LOG.md)."""


def _setup(*, lora: Any = None, on_gpu: bool = True, num_devices: int = 1, **settings) -> Setup:
    lora = LoraConfig.model_validate(lora) if lora is not None else None
    config = TrainConfig(lora=lora, **settings)
    return Setup(config=config, on_gpu=on_gpu, num_devices=num_devices)


def _machine(*memory_gb, name="H100"):
    return Machine(gpus=tuple(CudaDevice(name, (9, 0), size) for size in memory_gb))


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.49), ("Qwen/Qwen2.5-1.5B", 1.54), ("Qwen/Qwen2.5-3B", 3.09),
        ("Qwen/Qwen2.5-Math-7B-Instruct", 7.61), ("Qwen/Qwen2.5-14B", 14.7),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", 32.5), ("Qwen/Qwen2.5-72B-Instruct", 72.7),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.1345), ("HuggingFaceTB/SmolLM2-360M", 0.362),
        ("HuggingFaceTB/SmolLM2-1.7B", 1.71),
    ],
)  # fmt: skip
def test_weights_of_known_models_are_those_of_their_model_cards(name, billions):
    assert num_weights(known_config(name)) / 1e9 == pytest.approx(billions, rel=0.012)


def test_a_config_on_this_machine_comes_before_the_known_ones(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM | {"num_hidden_layers": 1}))
    assert find_config(str(tmp_path))["num_hidden_layers"] == 1
    assert find_config("Qwen/Qwen2.5-7B-Instruct") == QWEN_7B
    assert find_config("someone/model") is None


@pytest.mark.parametrize("case", MEASURED_MB, ids=str)
def test_the_prediction_is_within_a_quarter_of_what_was_measured(case):
    kind, num_tokens, checkpointing = case
    setup = _setup(
        lora={} if kind == "lora" else None, on_gpu=False, gradient_checkpointing=checkpointing
    )
    predicted = estimate_memory(SMOLLM, setup, num_tokens).total / 1e6
    assert predicted == pytest.approx(MEASURED_MB[case], rel=0.25)


@pytest.mark.slow
@needs("trl")
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_prediction_holds_on_this_machine(kind, smollm):
    case = {"kind": kind, "num_tokens": 320, "checkpointing": False}
    command = [*python_command("benchmarks.memory"), "--case", json.dumps(case)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=python_environment()
    )
    measured = json.loads(done.stdout.splitlines()[-1])["peak_mb"]
    setup = _setup(lora={} if kind == "lora" else None, on_gpu=False)
    assert estimate_memory(SMOLLM, setup, 320).total / 1e6 == pytest.approx(measured, rel=0.25)


def test_bytes_of_weights_masters_gradients_and_optimizer():
    def parts(**settings):
        memory = estimate_memory(QWEN_7B, _setup(**settings), 1)
        return [getattr(memory, name) / number for name in ("weights", "masters", "optimizer")]

    number = num_weights(QWEN_7B)
    assert parts() == [2, 4, 8]
    assert parts(optimizer="adamw-8bit") == [2, 4, 2]
    assert parts(num_devices=2, parallel="data") == [6, 0, 8]
    weights, masters, optimizer = parts(num_devices=8)
    assert (masters, optimizer) == (0, 1) and 0.5 < weights < 1.2
    weights, _, optimizer = parts(num_devices=8, parallel="fsdp2", offload=True)
    assert optimizer == 0 and weights < 0.6
    adapters = adapter_weights(QWEN_7B, 16) / number
    assert parts(lora={}) == pytest.approx([2 + 4 * adapters, 0, 8 * adapters])
    weights, masters, _ = parts(lora={"quantize": "nf4"})
    assert weights < 0.8 and masters == pytest.approx(4 * adapters)


def test_adapters_are_as_many_as_peft_makes():
    assert adapter_weights(SMOLLM, 16) == 4_884_480
    assert adapter_weights(QWEN_7B, 8) == 20_185_088


def test_more_memory_less_model_and_checkpointing_hold_more_tokens():
    def tokens(model=SMOLLM, memory=24e9, **settings):
        return usable_tokens(model, _setup(**settings), memory)

    assert 10_000 < tokens() < tokens(memory=80e9)
    assert tokens(memory=80e9) < tokens(memory=80e9, gradient_checkpointing=True)
    assert tokens(QWEN_7B, 80e9) == 1
    assert tokens(QWEN_7B, 80e9, lora={}) > 1000
    assert tokens(QWEN_7B, 80e9, lora={}, gradient_checkpointing=True) > 20_000
    assert tokens(memory=80e9) % 1024 == 0


def test_the_largest_micro_batch_fills_the_memory():
    setup = _setup(gradient_checkpointing=True)
    tokens = largest_micro_batch(QWEN_7B, setup, 141e9)
    assert estimate_memory(QWEN_7B, setup, tokens).total == pytest.approx(141e9, rel=1e-3)
    assert largest_micro_batch(QWEN_7B, setup, 80e9) == 0


def test_the_smallest_gpu_decides(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM))
    recipe = Recipe.model_validate({"name": "t", "model": str(tmp_path)})
    choice = choose_micro_batch_size(TrainConfig(), recipe, _machine(80.0, 24.0))
    tokens = usable_tokens(SMOLLM, _setup(), 24e9)
    assert choice.value == f"{tokens} tokens"
    assert "24 GB" in choice.reason
    config = TrainConfig(micro_batch_size=choice.value, lora=LoraConfig())
    assert config.micro_batch_tokens == tokens


def test_a_gpu_without_bf16_holds_fewer_tokens(tmp_path):
    """It trains in fp32 (see `precision`): its activations are twice as large."""
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM))
    recipe = Recipe.model_validate({"name": "t", "model": str(tmp_path), "train": {}})
    sizes = []
    for capability in ((8, 0), (7, 5)):
        machine = Machine(gpus=(CudaDevice("GPU", capability, 16.0),))
        choice = choose_micro_batch_size(TrainConfig(), recipe, machine)
        sizes.append(int(choice.value.split()[0]))
        predicted = forecast(recipe, machine, memory_bytes=0, rows=TrainingSize())
        assert predicted.max_tokens == sizes[-1]
    assert sizes[1] < 0.6 * sizes[0]  # both are rounded down
    assert not parse_gpus("2xV100")[0].has_bfloat16 and parse_gpus("A100")[0].has_bfloat16


def test_without_a_gpu_or_a_config_the_whole_batch_is_one(tmp_path):
    recipe = Recipe.model_validate({"name": "t", "model": str(tmp_path)})
    assert choose_micro_batch_size(TrainConfig(), recipe, Machine()).value is None
    assert choose_micro_batch_size(TrainConfig(), recipe, _machine(24.0)).value is None


@pytest.mark.parametrize("size", ["0 tokens", "many", "1e3 tokens", 0, "-3 tokens"])
def test_another_size_is_refused(size):
    with pytest.raises(ValueError, match="micro_batch_size"):
        TrainConfig(micro_batch_size=size)


# --- disk and time --------------------------------------------------------------------------------


def test_disk_is_that_of_two_checkpoints_the_next_one_and_the_model():
    disk = disk_needed(QWEN_7B, _setup(), num_steps=1000)
    number = num_weights(QWEN_7B)
    assert (disk.num_checkpoints, disk.checkpoint / number, disk.model / number) == (3, 14, 2)
    assert disk.total / number == 44
    assert disk_needed(QWEN_7B, _setup(), num_steps=60).num_checkpoints == 1
    assert disk_needed(QWEN_7B, _setup(save_every_steps=None), num_steps=60).num_checkpoints == 0
    sharded = disk_needed(QWEN_7B, _setup(num_devices=8), num_steps=1000)
    assert sharded.checkpoint / number == 12
    limo = disk_needed(
        QWEN_7B, _setup(checkpoint="dev", epochs=15, dev={"every_epochs": 1}), num_steps=90
    )
    assert (limo.num_models, limo.num_checkpoints) == (15, 1)
    lora = disk_needed(QWEN_7B, _setup(lora={"merge": False}), num_steps=1000)
    assert lora.total < 3e9


def test_operations_per_token_are_six_per_weight_and_attention():
    config = TrainConfig()
    weights = 7.07e9  # without the embeddings, which are looked up
    assert token_flops(QWEN_7B, config, num_tokens=0) == pytest.approx(6 * weights, rel=1e-2)
    attention = token_flops(QWEN_7B, config, num_tokens=20_000) - 6 * weights
    assert attention == pytest.approx(6 * 28 * 3584 * 20_000, rel=0.05)
    with_lora = TrainConfig(lora=LoraConfig(), gradient_checkpointing=True)
    assert token_flops(QWEN_7B, with_lora, num_tokens=0) == pytest.approx(6 * weights, rel=1e-2)


def test_time_is_by_the_peak_of_all_gpus_or_by_a_measured_speed():
    recipe = Recipe.model_validate({
        "name": "t", "model": "Qwen/Qwen2.5-7B", "train": {"epochs": 5, "batch_size": 16},
    })  # fmt: skip
    rows = TrainingSize(number=1000, mean_tokens=5000)
    machine = _machine(*[80.0] * 8)
    predicted = forecast(recipe, machine, memory_bytes=0, rows=rows)
    assert predicted.num_tokens == 25_000_000
    by_hand = 8 * 989e12 * 0.3 / (6 * (7.07e9 + 28 * 3584 * 1024))
    assert predicted.tokens_per_second == pytest.approx(by_hand, rel=0.02)
    measured = forecast(recipe, machine, memory_bytes=0, rows=rows, tokens_per_second=1e4)
    assert measured.time_text() == "about 42 minutes for 25,000,000 tokens at 10,000 tokens/s"
    on_cpu = forecast(recipe, Machine(), memory_bytes=16e9, rows=rows)
    assert on_cpu.tokens_per_second is None and not on_cpu.fits


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("H100", 989), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835), ("NVIDIA H200", 989), ("NVIDIA H200 NVL", 835),
        ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA L4", 121),
        ("NVIDIA L40", 181), ("NVIDIA L40S", 362), ("NVIDIA A10", 125), ("NVIDIA RTX A6000", 155),
        ("NVIDIA GeForce RTX 4090", 165), ("Tesla V100-SXM2-32GB", 125),
        ("Tesla V100-PCIE-16GB", 112), ("Tesla T4", 65),
        *[(name, None) for name in (
            "NVIDIA A10G", "NVIDIA T400 4GB", "NVIDIA GH200 480GB", "NVIDIA GeForce RTX 3090 Ti",
            "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "NVIDIA L20",
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA RTX 6000 Ada Generation", "",
        )],
    ],
)  # fmt: skip
def test_a_gpu_has_the_peak_of_its_own_form_or_none(name, tflops):
    assert peak_flops(name) == (tflops and tflops * 1e12)


def test_gpus_are_read_from_text():
    assert [gpu.memory_gb for gpu in parse_gpus("2xh100")] == [80, 80]
    assert parse_gpus("4xA100-40GB")[0].memory_gb == 40
    assert len(parse_gpus("L4")) == 1
    for wrong in ("", "8x", "0xH100", "8xUNKNOWN", "H100x8"):
        with pytest.raises(ConfigError, match="--gpus 8xH100"):
            parse_gpus(wrong)
