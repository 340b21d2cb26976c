"""The order of examples: a pure function of their number, the recipe and the seed."""

from __future__ import annotations

from hypothesis import given, strategies as st

from slowthink.recipe import TrainConfig
from slowthink.stages.train.schedule import make_schedule, micro_batches_per_step, num_steps


def _epoch(schedule, epoch):
    return sorted(
        i for step in schedule if step.epoch == epoch for batch in step.micro_batches for i in batch
    )


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    micro=st.one_of(st.just("auto"), st.none(), st.integers(1, 8)),
    devices=st.integers(1, 4),
)
def test_every_epoch_contains_every_example_once(lengths, batch_size, micro, devices):
    config = TrainConfig(epochs=2, batch_size=batch_size, micro_batch_size=micro)
    schedule = make_schedule(lengths, config, seed=1, num_devices=devices)
    assert len(schedule) == num_steps(len(lengths), config)
    for epoch in range(2):
        assert _epoch(schedule, epoch) == list(range(len(lengths)))
    assert {len(step.micro_batches) for step in schedule} == {
        micro_batches_per_step(config, devices)
    }
    if isinstance(micro, int):
        assert max(len(batch) for step in schedule for batch in step.micro_batches) <= micro


def test_a_thousand_examples_by_sixteen_are_s1s_315_steps():
    config = TrainConfig(epochs=5, batch_size=16)
    assert len(make_schedule([10] * 1000, config, seed=0)) == 315


def test_epochs_differ_in_order_and_seeds_too():
    config = TrainConfig(epochs=2, batch_size=4)
    schedule, other = (make_schedule([10] * 40, config, seed=seed) for seed in (0, 1))
    batches = [step.micro_batches for step in schedule]
    assert batches[:10] != batches[10:]
    assert schedule != other
    assert schedule == make_schedule([10] * 40, config, seed=0)


def test_max_steps_ends_the_schedule():
    config = TrainConfig(epochs=3, batch_size=4, max_steps=7)
    assert len(make_schedule([10] * 40, config, seed=0)) == num_steps(40, config) == 7


def test_micro_batches_of_a_step_are_balanced_by_tokens():
    lengths = [100, 90, 10, 20, 80, 30]
    config = TrainConfig(epochs=1, batch_size=6, micro_batch_size=3)
    (step,) = make_schedule(lengths, config, seed=0)
    totals = [sum(lengths[i] for i in batch) for batch in step.micro_batches]
    assert max(totals) - min(totals) <= 30


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=40),
    limit=st.integers(1, 2000),
    devices=st.integers(1, 3),
)
def test_a_micro_batch_has_at_most_the_limit_of_tokens_or_one_example(lengths, limit, devices):
    config = TrainConfig(epochs=2, batch_size=6, micro_batch_size=f"{limit} tokens")
    schedule = make_schedule(lengths, config, seed=1, num_devices=devices)
    micro_batches = [batch for step in schedule for batch in step.micro_batches]
    assert all(len(b) <= 1 or sum(lengths[i] for i in b) <= limit for b in micro_batches)
    assert _epoch(schedule, 1) == list(range(len(lengths)))
    numbers = {len(step.micro_batches) for step in schedule}
    assert len(numbers) == 1 and numbers.pop() % devices == 0


def test_no_more_micro_batches_than_a_limit_of_tokens_needs():
    config = TrainConfig(epochs=1, batch_size=4, micro_batch_size="200 tokens")
    assert [len(step.micro_batches) for step in make_schedule([50] * 8, config, seed=0)] == [1, 1]
    assert [len(step.micro_batches) for step in make_schedule([100] * 8, config, seed=0)] == [2, 2]
    whole = TrainConfig(epochs=1, batch_size=4)
    assert [set(sum(s.micro_batches, ())) for s in make_schedule([100] * 8, config, seed=0)] == [
        set(sum(s.micro_batches, ())) for s in make_schedule([100] * 8, whole, seed=0)
    ]
