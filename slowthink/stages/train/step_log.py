"""Loss and gradient norm of each step, kept on the device and read every few steps.

Reading a number waits until the device has computed it, and meanwhile nothing is queued for it.
"""

from __future__ import annotations

from typing import Any

import torch

STEPS_PER_READ = 10


class StepLog:
    """The figures of the steps since the last read; entries go to the trainer's log."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._figures: list[Any] = []
        self._last_step = 0

    def add(self, state: Any, loss: Any, grad_norm: Any, learning_rate: float | None) -> bool:
        """Take a step's loss, which is set to 0; False if there is no new step."""
        if grad_norm is None or state.global_step == self._last_step:
            return False
        self._last_step = state.global_step
        norm = torch.as_tensor(grad_norm, dtype=loss.dtype, device=loss.device)
        self._figures.append(torch.stack([loss.detach().flatten()[0], norm.detach()]))
        loss.zero_()
        self._entries.append(
            {"step": state.global_step, "epoch": state.epoch, "learning_rate": learning_rate}
        )
        return True

    def flush(self, state: Any, accelerator: Any, *, force: bool) -> None:
        """Read the figures into the log, every `STEPS_PER_READ` steps or if forced."""
        if not force and len(self._entries) < STEPS_PER_READ:
            return
        figures = accelerator.reduce(torch.stack(self._figures), "mean").tolist()
        for entry, (loss, grad_norm) in zip(self._entries, figures, strict=True):
            state.log_history.append({"loss": loss, "grad_norm": grad_norm, **entry})
        self._entries.clear()
        self._figures.clear()
