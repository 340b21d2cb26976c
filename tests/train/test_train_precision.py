"""The data types of training, by machine."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from slowthink.recipe import LoraConfig, TrainConfig
from slowthink.stages.train.precision import choose_precision


@pytest.fixture
def on_cuda(monkeypatch):
    """A machine with one CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_one_cuda_device_has_bf16_weights_and_fp32_masters(on_cuda):
    precision = choose_precision(TrainConfig())
    assert (precision.weights, precision.masters, precision.autocast) == (
        torch.bfloat16, True, False
    )  # fmt: skip
    assert str(precision) == "bfloat16 compute, float32 masters"


def test_adapters_train_in_fp32_over_a_bf16_model(on_cuda):
    precision = choose_precision(TrainConfig(lora=LoraConfig()))
    assert precision.autocast and not precision.masters
    assert str(precision) == "bfloat16 weights, bfloat16 autocast"


def test_several_cuda_devices_hold_shares_in_fp32_and_compute_in_bf16(on_cuda, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert str(choose_precision(TrainConfig())) == "float32 shares, bfloat16 compute"
    data = TrainConfig(parallel="data")
    assert str(choose_precision(data)) == "float32 weights, bfloat16 autocast"


def test_adapters_on_several_devices_need_the_memory_that_is_forecast(on_cuda, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    config = TrainConfig(lora=LoraConfig())
    assert str(choose_precision(config)) == "bfloat16 weights, bfloat16 autocast"


def test_one_cuda_device_holds_shares_to_offload_them(on_cuda):
    config = TrainConfig(parallel="fsdp2", offload=True)
    assert str(choose_precision(config)) == "float32 shares, bfloat16 compute"


def test_a_cuda_device_without_bf16_trains_in_fp32(on_cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert str(choose_precision(TrainConfig())) == "float32"


def test_a_cpu_has_masters():
    precision = choose_precision(TrainConfig())
    assert precision.masters and not precision.autocast
