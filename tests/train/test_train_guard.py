"""A loss that is no number, or jumps, stops training; the last good checkpoint stays."""

from __future__ import annotations

import math

import pytest

from slowthink.errors import EngineError
from slowthink.recipe import TrainConfig
from slowthink.stages.train.guard import DivergedError, LossGuard
from tests.needs import needs


def _check(losses, norms=()):
    guard = LossGuard()
    for step, loss in enumerate(losses, start=1):
        norm = norms[step - 1] if norms else 1.0
        guard.check({"step": step, "loss": loss, "grad_norm": norm})


@pytest.mark.parametrize(
    "losses",
    [
        [2.0, 1.5, 9.0, 9.0, 1.4, 9.0, 9.0, 1.2],
        [0.05, 0.2, 0.3, 0.4, 0.5, 0.9, 1.5],
        [11.0, 12.5, 12.9, 12.0, 12.8],
        [5.0, *[5.0 + 0.2 * step for step in range(40)]],
        [3.0],
    ],
    ids=["two hard batches", "tripled, but small", "high, not tripled", "slow rise", "one step"],
)
def test_a_run_that_may_go_on(losses):
    _check(losses)


def test_a_jump_that_stays_up_stops_at_its_third_step_and_names_the_first():
    with pytest.raises(DivergedError) as stop:
        _check([1.0, 0.9, 1.1, 4.0, 5.0, 30.0])
    assert stop.value.first_step == 4
    assert stop.value.seen == (
        "the loss rose from 1.00 (median of 3 steps) to 30.00, for 3 steps in a row"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_no_number_stops_at_once(value):
    with pytest.raises(DivergedError, match="the loss is (nan|inf)"):
        _check([1.0, value])
    with pytest.raises(DivergedError, match="the gradient norm is (nan|inf)"):
        _check([1.0, 1.0], norms=[1.0, value])


def test_a_number_that_is_lost_in_a_jump_is_counted_from_the_jump():
    with pytest.raises(DivergedError) as stop:
        _check([1.0, 1.0, 8.0, 9.0, math.nan])
    assert stop.value.first_step == 3


@pytest.mark.slow
@needs("trl")
@pytest.mark.parametrize("rate", [30.0, 1e30], ids=["jump", "not a number"])
def test_an_absurd_rate_stops_with_the_last_good_checkpoint(
    rate, tiny_model, smollm_tokenizer, examples, tmp_path
):
    from slowthink.stages.train.checkpoint import checkpoint_step, checkpoints
    from slowthink.stages.train.loop import fine_tune

    config = TrainConfig(
        epochs=8, batch_size=4, learning_rate=rate, warmup_ratio=0.5, save_every_steps=1
    )
    model = tmp_path / "train" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"earlier")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(EngineError) as stop:
        fine_tune(tiny_model, smollm_tokenizer, examples, config, work=work, seed=3)
    text = str(stop.value)
    first = int(text.split("from step ")[1].split()[0])
    assert f"--set train.learning_rate={rate / 10:.3g} --update" in text
    assert all(checkpoint_step(checkpoint) < first for checkpoint in checkpoints(work))
    if checkpoints(work):
        assert f"kept: {checkpoints(work)[-1]}" in text
    assert (model / "model.safetensors").read_bytes() == b"earlier"
