"""Stop after the epoch in which the model has learnt its training tokens (`train.stop`).

Repeating few chains helps until the token accuracy of training saturates (arXiv:2602.11149), so an
epoch's accuracy decides: the share of its loss tokens, before each update, than which the model
found none more likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slowthink.recipe.training import StopConfig
from slowthink.stages.train.schedule import PlannedStep, StepSize


def epoch_ends(schedule: Sequence[PlannedStep]) -> list[int]:
    """The last step of each epoch, from 1."""
    last_of = {step.epoch: number for number, step in enumerate(schedule, 1)}
    return sorted(last_of.values())


def epoch_accuracy(
    log: Sequence[Mapping[str, Any]], sizes: Sequence[StepSize], *, first: int, last: int
) -> float:
    """Token accuracy of the steps `first` to `last`, both included, from the trainer's log."""
    entries = {entry["step"]: entry for entry in log if "loss" in entry}
    num_tokens = [sizes[step - 1].num_loss_tokens for step in range(first, last + 1)]
    right = sum(
        (entries[step].get("token_accuracy") or 0.0) * number
        for step, number in zip(range(first, last + 1), num_tokens, strict=True)
    )
    return right / max(1, sum(num_tokens))


def stopping_step(
    log: Sequence[Mapping[str, Any]],
    schedule: Sequence[PlannedStep],
    sizes: Sequence[StepSize],
    config: StopConfig | None,
) -> int | None:
    """The step after which training stops, if the log reaches it; None to go on."""
    num_done = max((entry["step"] for entry in log if "loss" in entry), default=0)
    first = 1
    for last in epoch_ends(schedule) if config else ():
        if last > num_done:
            return None
        if config and epoch_accuracy(log, sizes, first=first, last=last) >= config.token_accuracy:
            return last
        first = last + 1
    return None
