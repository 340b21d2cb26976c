"""A cap of thinking tokens that is fitted to the solutions: `max_thinking_tokens: solutions`.

It depends on the tested problems and the model's tokenizer alone, so every run finds the same.

fit_cap(problems, session.tokenizer)  # FittedCap(max_thinking_tokens=224, num_solutions=200)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slowthink.records import Problem

QUANTILE = 0.95
"""This share of the solutions is no longer than the cap."""
MULTIPLE = 32
"""The cap is rounded up to a multiple of this."""
MIN_SOLUTIONS = 20
"""With fewer solutions the cap is DEFAULT_CAP."""
DEFAULT_CAP = 256
"""Also assumed in estimates, which are made before the pool is read."""


@dataclass(frozen=True)
class FittedCap:
    """A cap, and how many solutions it is fitted to."""

    max_thinking_tokens: int
    num_solutions: int

    def line(self) -> str:
        """The cap and its reason, for the user."""
        cap = f"thinking is cut off at {self.max_thinking_tokens:,} tokens"
        if self.num_solutions < MIN_SOLUTIONS:
            return (
                f"{cap}: only {self.num_solutions} tested problems have a solution to fit it to; "
                f"expected {MIN_SOLUTIONS}. Set it: --set filter.difficulty.max_thinking_tokens=N"
            )
        return f"{cap}, the length of {QUANTILE:.0%} of {self.num_solutions:,} solutions"


def fit_cap(problems: Sequence[Problem], tokenizer: Any) -> FittedCap:
    """The cap for a model with this tokenizer; DEFAULT_CAP if too few problems have solutions."""
    lengths = sorted(
        len(tokenizer.encode(problem.solution, add_special_tokens=False))
        for problem in problems
        if problem.solution
    )
    if len(lengths) < MIN_SOLUTIONS:
        return FittedCap(DEFAULT_CAP, len(lengths))
    longest = max(1, lengths[math.ceil(QUANTILE * len(lengths)) - 1])
    return FittedCap(math.ceil(longest / MULTIPLE) * MULTIPLE, len(lengths))
