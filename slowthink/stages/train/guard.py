"""Stops training whose loss is no longer a number, or has jumped and stays up.

    guard = LossGuard()
    for entry in log:
        guard.check(entry)   # raises DivergedError at the third step in a row above the limit

A step is bad if its loss is above `FACTOR` times the running median and `MIN_RISE` nats above it:
one hard batch is neither, and a loss near 0 may triple without harm.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

FACTOR = 3.0
MIN_RISE = 2.0
"""In nats."""
MAX_BAD_STEPS = 3
"""So many bad steps in a row are a jump."""
WINDOW = 20
"""Good steps of which the median is taken."""


class DivergedError(Exception):
    """Training has diverged; the stage adds what to do."""

    def __init__(self, *, first_step: int, seen: str, expected: str) -> None:
        super().__init__(seen)
        self.first_step = first_step
        """The first step whose loss is wrong: checkpoints before it are good."""
        self.seen = seen
        self.expected = expected


class LossGuard:
    """Watches the loss and the gradient norm of one run, step by step."""

    def __init__(self) -> None:
        self._good: deque[float] = deque(maxlen=WINDOW)
        self._bad: list[tuple[int, float]] = []

    def check(self, entry: Mapping[str, Any]) -> None:
        """Take a step's `step`, `loss` and `grad_norm`. Raises DivergedError."""
        step, loss = entry["step"], entry["loss"]
        for name in ("loss", "grad_norm"):
            if not math.isfinite(entry.get(name) or 0.0):
                raise DivergedError(
                    first_step=self._bad[0][0] if self._bad else step,
                    seen=f"the {name.replace('grad_norm', 'gradient norm')} is {entry[name]}",
                    expected="a finite number",
                )
        median = statistics.median(self._good) if self._good else loss
        if loss <= max(FACTOR * median, median + MIN_RISE):
            self._good.append(loss)
            self._bad.clear()
            return
        self._bad.append((step, loss))
        if len(self._bad) >= MAX_BAD_STEPS:
            raise DivergedError(
                first_step=self._bad[0][0],
                seen=f"the loss rose from {median:.2f} (median of {len(self._good)} steps) to "
                f"{loss:.2f}, for {len(self._bad)} steps in a row",
                expected=f"at most {max(FACTOR * median, median + MIN_RISE):.2f}",
            )
