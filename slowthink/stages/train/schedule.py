"""Which examples are in which optimiser step: a pure function of lengths, recipe and seed.

An epoch is one shuffled pass; its last step may be smaller, so 1,000 examples by 16 are s1's 63
steps an epoch. A step is cut into forward passes of about equal token count.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from slowthink.recipe import TrainConfig
from slowthink.records import item_seed


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One optimiser step: indices of its examples, by forward pass."""

    epoch: int
    """From 0."""
    parts: tuple[tuple[int, ...], ...]


def make_schedule(
    lengths: Sequence[int], config: TrainConfig, *, seed: int, num_devices: int = 1
) -> list[PlannedStep]:
    """All steps in order; every example is in each full epoch exactly once."""
    num_parts = parts_per_step(config, num_devices)
    steps = []
    for epoch in range(config.epochs):
        order = list(range(len(lengths)))
        random.Random(item_seed(seed, "train", epoch)).shuffle(order)
        for start in range(0, len(order), config.batch_size):
            indices = order[start : start + config.batch_size]
            steps.append(PlannedStep(epoch=epoch, parts=_split(indices, lengths, num_parts)))
    return steps[: config.max_steps]


def num_steps(num_examples: int, config: TrainConfig) -> int:
    """Optimiser steps in all."""
    steps = config.epochs * -(-num_examples // config.batch_size)
    return min(steps, config.max_steps or steps)


def parts_per_step(config: TrainConfig, num_devices: int) -> int:
    """Forward passes per optimiser step over all devices, a multiple of their number."""
    per_part = config.micro_batch_size or -(-config.batch_size // num_devices)
    per_pass = per_part * num_devices
    return num_devices * -(-config.batch_size // per_pass)


def _split(
    indices: Sequence[int], lengths: Sequence[int], num_parts: int
) -> tuple[tuple[int, ...], ...]:
    """The longest first, each to the part with the fewest tokens so far that has room."""
    room = -(-len(indices) // num_parts)
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    for index in sorted(indices, key=lambda i: (-lengths[i], i)):
        open_parts = [part for part in parts if len(part) < room]
        min(open_parts, key=lambda part: sum(lengths[i] for i in part)).append(index)
    return tuple(tuple(part) for part in parts)
