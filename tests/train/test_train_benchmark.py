"""The training benchmark trains each arm on the same rows."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from benchmarks import train_arms
from benchmarks.train import compare_rounds, measure
from benchmarks.train_arms import ARMS, STEPS_PER_BLOCK, WARM_UP_STEPS, BlockClock
from tests.needs import needs


def test_a_block_begins_after_the_warm_up(monkeypatch):
    times = iter([10.0, 10.0, 12.0, 12.0])
    monkeypatch.setattr("benchmarks.train_arms.time.perf_counter", lambda: next(times))
    clock = BlockClock([1000] * WARM_UP_STEPS + [10] * STEPS_PER_BLOCK)
    for _ in range(WARM_UP_STEPS + STEPS_PER_BLOCK):
        clock.step_done()
    assert clock.rates == [10 * STEPS_PER_BLOCK / 2]


def test_arms_are_compared_within_a_round():
    def figures(speed):
        return {"speed": speed, "peak_mb": speed, "final_loss": 1.0}

    rounds = [
        {"plain": figures(10), "ours": figures(20)}, {"plain": figures(1), "ours": figures(1)},
        {"plain": figures(4), "ours": figures(6)},
    ]  # fmt: skip
    compared = compare_rounds(rounds)
    assert compared["ours_over"] == {"plain": {"median": 1.5, "low": 1.0, "high": 2.0}}
    assert compared["arms"]["plain"]["tokens_per_second"]["median"] == 4
    assert compared["arms"]["ours"]["peak_mb"] == 20


@pytest.mark.slow
@needs("trl")
def test_all_arms_train_on_the_same_rows(tiny_model):
    figures = measure(lengths=(50, 60), num_blocks=1, batch_size=2, source=tiny_model)
    assert list(figures) == list(ARMS)
    assert [arm.get("error") for arm in figures.values()] == [None] * len(ARMS)
    losses = [arm["loss"] for arm in figures.values()]
    assert max(losses) - min(losses) < 0.01
    last = [arm["final_loss"] for arm in figures.values()]
    assert max(last) - min(last) < 0.02
    assert all(arm["tokens_per_second"]["low"] > 0 for arm in figures.values())


@pytest.mark.slow
@needs("trl")
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_few_steps_on_a_gpu_have_a_loss(tiny_model, monkeypatch):
    """TRL logs every tenth step there."""
    monkeypatch.setattr(train_arms, "device_name", lambda: "cuda")
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    figures = measure(
        lengths=(50, 60), num_blocks=1, batch_size=2, arms=["trl_best"], source=tiny_model
    )
    assert figures["trl_best"]["final_loss"] > 0


@pytest.mark.slow
def test_an_arm_that_fails_has_an_error(tmp_path):
    figures = measure(lengths=(50, 60), num_blocks=1, batch_size=1, arms=["plain"], source=tmp_path)
    assert set(figures["plain"]) == {"error"}
