"""Schedule the examples of each optimiser step, by their lengths, the recipe and the seed alone.

An epoch is one shuffled pass over the examples. Its last step may be smaller, so 1,000 examples in
batches of 16 make s1's 63 steps an epoch. A step is split into micro-batches of about equal token
count.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slowthink.recipe import TrainConfig
from slowthink.records import item_seed
from slowthink.stages.train.examples import TrainingExample


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One optimiser step: indices of its examples, by micro-batch."""

    epoch: int
    """Index of the epoch, from 0."""
    micro_batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class StepSize:
    """Tokens of a step, over all processes."""

    num_tokens: int
    num_loss_tokens: int


def make_schedule(
    lengths: Sequence[int], config: TrainConfig, *, seed: int, num_devices: int = 1
) -> list[PlannedStep]:
    """All steps in order; each full epoch contains every example exactly once."""
    batches = [
        (epoch, indices)
        for epoch in range(config.epochs)
        for indices in _epoch_batches(len(lengths), config.batch_size, seed=seed, epoch=epoch)
    ][: config.step_limit]
    number = micro_batches_per_step(config, num_devices)
    if config.micro_batch_tokens:
        largest = config.micro_batch_tokens
        while number < config.batch_size and any(
            _exceeds(_split(indices, lengths, number), lengths, largest) for _, indices in batches
        ):
            number += num_devices
    return [
        PlannedStep(epoch=epoch, micro_batches=_split(indices, lengths, number))
        for epoch, indices in batches
    ]


def _epoch_batches(
    num_examples: int, batch_size: int, *, seed: int, epoch: int
) -> Iterator[list[int]]:
    """The examples of each step of an epoch."""
    shuffled = list(range(num_examples))
    random.Random(item_seed(seed, "train", epoch)).shuffle(shuffled)
    for start in range(0, num_examples, batch_size):
        yield shuffled[start : start + batch_size]


def _exceeds(
    micro_batches: Sequence[Sequence[int]], lengths: Sequence[int], num_tokens: int
) -> bool:
    """True if a micro-batch of several examples has more tokens than this."""
    return any(
        len(batch) > 1 and sum(lengths[i] for i in batch) > num_tokens for batch in micro_batches
    )


def step_sizes(
    schedule: Sequence[PlannedStep], examples: Sequence[TrainingExample]
) -> list[StepSize]:
    """The tokens of each step."""
    batches = [[examples[i] for batch in step.micro_batches for i in batch] for step in schedule]
    return [
        StepSize(
            sum(example.num_tokens for example in batch),
            sum(len(example.completion_ids) for example in batch),
        )
        for batch in batches
    ]


def num_steps(num_examples: int, config: TrainConfig) -> int:
    """Total number of optimiser steps."""
    steps = config.epochs * -(-num_examples // config.batch_size)
    return min(steps, config.step_limit or steps)


def micro_batches_per_step(config: TrainConfig, num_devices: int) -> int:
    """Fewest micro-batches per optimiser step, over all devices; a multiple of their number.

    All steps have as many. A limit of tokens may need more, by the lengths of the examples.
    """
    size = config.micro_batch_size
    if not isinstance(size, int):
        size = -(-config.batch_size // num_devices)
    return num_devices * -(-config.batch_size // (size * num_devices))


def _split(
    indices: Sequence[int], lengths: Sequence[int], num_micro_batches: int
) -> tuple[tuple[int, ...], ...]:
    """Assign each example, longest first, to the micro-batch with the fewest tokens and room."""
    max_examples = -(-len(indices) // num_micro_batches)
    micro_batches: list[list[int]] = [[] for _ in range(num_micro_batches)]
    for index in sorted(indices, key=lambda i: (-lengths[i], i)):
        with_room = [batch for batch in micro_batches if len(batch) < max_examples]
        min(with_room, key=lambda batch: sum(lengths[i] for i in batch)).append(index)
    return tuple(tuple(batch) for batch in micro_batches)
