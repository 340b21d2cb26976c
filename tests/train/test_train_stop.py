"""`train.stop`: training ends after the epoch in which it has learnt its tokens."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from slowthink.recipe import StopConfig, TrainConfig
from slowthink.stages.train.schedule import StepSize, make_schedule
from slowthink.stages.train.stop import epoch_accuracy, epoch_ends, stopping_step
from tests.needs import needs

SCHEDULE = make_schedule([10] * 7, TrainConfig(epochs=3, batch_size=4), seed=0)
SIZES = [StepSize(40, 30), StepSize(30, 10)] * 3
STOP = StopConfig(token_accuracy=0.8)


def log_of(*accuracies):
    return [
        {"step": step, "loss": 1.0, "token_accuracy": accuracy}
        for step, accuracy in enumerate(accuracies, 1)
    ]


def test_an_epoch_s_accuracy_counts_its_loss_tokens():
    assert epoch_ends(SCHEDULE) == [2, 4, 6]
    log = log_of(0.5, 0.9, 1.0, 1.0)
    assert epoch_accuracy(log, SIZES, first=1, last=2) == pytest.approx((15 + 9) / 40)


@pytest.mark.parametrize(
    ("accuracies", "step"),
    [
        ((0.5, 0.9), None),
        ((0.5, 0.9, 1.0), None),  # the epoch is not over
        ((0.5, 0.9, 0.8, 0.8), 4),
        ((0.5, 0.9, 0.7, 1.0), None),  # (21 + 10) / 40 is below 0.8
        ((1.0, 1.0, 0.0, 0.0), 2),
        ((), None),
    ],
)
def test_training_stops_after_the_first_epoch_that_reaches_the_limit(accuracies, step):
    assert stopping_step(log_of(*accuracies), SCHEDULE, SIZES, STOP) == step
    assert stopping_step(log_of(*accuracies), SCHEDULE, SIZES, None) is None


@pytest.mark.slow
@needs("trl")
def test_training_stops_and_a_killed_run_stops_at_the_same_step(
    tiny_model, smollm_tokenizer, examples, tmp_path
):
    from slowthink.stages.train.loop import fine_tune

    config = TrainConfig(
        epochs=40, batch_size=4, learning_rate=0.03, save_every_steps=7,
        stop=StopConfig(token_accuracy=0.6),
    )  # fmt: skip
    settings = {"config": config, "seed": 3}
    tuned = fine_tune(tiny_model, smollm_tokenizer, examples, work=tmp_path / "a", **settings)
    num_steps = len(tuned.schedule)
    assert 4 < num_steps < 160 and num_steps % 4 == 0
    assert tuned.log[-1]["step"] == num_steps
    again = fine_tune(tiny_model, smollm_tokenizer, examples, work=tmp_path / "a", **settings)
    assert (again.resumed_at_step, len(again.schedule)) == (num_steps, num_steps)

    def kill(done, total):
        if done == num_steps - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiny_model, smollm_tokenizer, examples, work=tmp_path / "b", progress=kill,
                  **settings)  # fmt: skip
    resumed = fine_tune(tiny_model, smollm_tokenizer, examples, work=tmp_path / "b", **settings)
    assert 0 < resumed.resumed_at_step < num_steps == len(resumed.schedule)
    assert all(
        (a == b).all()
        for a, b in zip(tuned.model.parameters(), resumed.model.parameters(), strict=True)
    )
