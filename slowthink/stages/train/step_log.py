"""Figures of each step: loss, gradient norm and right tokens stay on the device and are read every
few steps, since reading a number waits until the device has computed it.

{"step": 7, "epoch": 0.1, "loss": 0.81, "grad_norm": 1.9, "learning_rate": 9.8e-06,
 "token_accuracy": 0.79, "tokens_per_second": 5120.0, "memory_mb": 41210}
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from slowthink.pipeline.run_folder import peak_rss_mb
from slowthink.stages.train.schedule import StepSize

STEPS_PER_READ = 10
"""On a GPU. On a CPU nothing is queued, and each step is read."""


class StepLog:
    """The figures of the steps since the last read."""

    def __init__(self, sizes: Sequence[StepSize], *, steps_per_read: int = STEPS_PER_READ) -> None:
        self.sizes = sizes
        self._steps_per_read = steps_per_read
        self._entries: list[dict[str, Any]] = []
        self._figures: list[Any] = []
        self._last_step = 0
        self._last_read = time.monotonic()

    def start(self) -> None:
        """Start the clock: training begins or goes on."""
        self._last_read = time.monotonic()

    def add(
        self, state: Any, loss: Any, num_correct: Any, grad_norm: Any, learning_rate: float | None
    ) -> bool:
        """Take a step's loss and number of right tokens, which are set to 0; False if there is no
        new step."""
        if grad_norm is None or state.global_step == self._last_step:
            return False
        self._last_step = state.global_step
        if hasattr(grad_norm, "full_tensor"):
            grad_norm = grad_norm.full_tensor()
        norm = torch.as_tensor(grad_norm, dtype=loss.dtype, device=loss.device)
        right = num_correct.to(loss.device, loss.dtype)
        self._figures.append(torch.stack([loss.detach().flatten()[0], norm.detach(), right]))
        loss.zero_()
        num_correct.zero_()
        self._entries.append(
            {"step": state.global_step, "epoch": state.epoch, "learning_rate": learning_rate}
        )
        return True

    def read(self, accelerator: Any, *, force: bool) -> list[dict[str, Any]]:
        """The entries of the steps since the last read, or none before `steps_per_read` steps
        unless forced. Speed is that of all these steps; memory is the peak of this process."""
        if not self._entries or (not force and len(self._entries) < self._steps_per_read):
            return []
        figures = accelerator.reduce(torch.stack(self._figures), "mean").tolist()
        sizes = [self.sizes[entry["step"] - 1] for entry in self._entries]
        num_tokens, now = sum(size.num_tokens for size in sizes), time.monotonic()
        cost = {
            "tokens_per_second": round(num_tokens / max(now - self._last_read, 1e-9), 1),
            "memory_mb": peak_memory_mb(),
        }
        entries = [
            {
                "loss": loss, "grad_norm": grad_norm, **entry, **cost,
                "token_accuracy": right * accelerator.num_processes / size.num_loss_tokens,
            }
            for entry, size, (loss, grad_norm, right) in zip(
                self._entries, sizes, figures, strict=True
            )
        ]  # fmt: skip
        self._entries.clear()
        self._figures.clear()
        self._last_read = now
        return entries


def peak_memory_mb() -> int:
    """Peak memory so far in MiB: what torch allocated on this process's GPU, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    return peak_rss_mb()
