"""What teachers spend, and the longest prefix of the problems whose chains fit the limits.

The order of problems is drawn by seed and does not depend on which chains were completed first, so
the same ledger gives the same chains. What was completed beyond the prefix is waste, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slowthink.recipe import PriceConfig, TraceConfig
from slowthink.sampling.provenance import TokenUse

FIRST_STARTED = 4
"""Problems that are started together while no cost is known yet."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens generated, and their price with that of the prompts."""

    num_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.num_tokens + other.num_tokens, self.cost + other.cost)

    @classmethod
    def of(cls, use: TokenUse, price: PriceConfig | None) -> Spent:
        """What these tokens cost."""
        if price is None:
            return cls(use.num_tokens)
        cost = use.num_prompt_tokens * price.input + use.num_tokens * price.output
        return cls(use.num_tokens, cost / 1e6)


NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class Limits:
    """What all teachers may spend together."""

    max_tokens: int | None = None
    max_cost: float | None = None

    @classmethod
    def from_config(cls, config: TraceConfig) -> Limits:
        """The limits of the stage."""
        return cls(config.max_tokens, config.max_cost)

    @property
    def are_set(self) -> bool:
        """Whether there is any."""
        return self.max_tokens is not None or self.max_cost is not None

    def share(self, spent: Spent) -> float:
        """How much of the limits is spent; above 1: one of them is exceeded."""
        shares = [0.0]
        if self.max_tokens is not None:
            shares.append(spent.num_tokens / self.max_tokens)
        if self.max_cost is not None:
            shares.append(spent.cost / self.max_cost)
        return max(shares)

    def num_to_run(self, spent: Spent, *, before: Spent, num_decided: int) -> int:
        """How many problems may be undecided at once, so that hardly any beyond the limits is
        started: as many as fit what is left, by the mean of those decided.

        `before`: what earlier teachers spent; `spent` includes it.
        """
        left = 1 - self.share(spent)
        if left <= 0:
            return 0
        if not num_decided:
            return FIRST_STARTED
        mean = (self.share(spent) - self.share(before)) / num_decided
        return max(1, int(min(left / mean, 1e9))) if mean > 0 else FIRST_STARTED


def fitting_prefix(
    order: Sequence[str], decided: Mapping[str, Spent], limits: Limits, *, before: Spent
) -> tuple[list[str], Spent]:
    """The ids of the longest prefix of `order` that is decided and fits the limits, and what was
    spent with it. `before`: what earlier teachers spent."""
    total, ids = before, list[str]()
    for id in order:
        if id not in decided or limits.share(total + decided[id]) > 1:
            break
        total += decided[id]
        ids.append(id)
    return ids, total
