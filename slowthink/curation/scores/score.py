"""What a score is, and what it sees of a chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from slowthink.recipe import Recipe
from slowthink.records import Problem
from slowthink.sampling.ledger import Ledger

Values = dict[str, float]
"""A chain's score by its name, and its parts by NAME.PART; empty if it cannot be scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainText:
    """A chain as scores see it: without its grade and its teacher."""

    problem: Problem
    thinking: str
    response: str
    num_thinking_tokens: int


@dataclass(frozen=True, kw_only=True)
class ScoreContext:
    """What scores by a model need besides the chains."""

    recipe: Recipe
    open_ledger: Callable[[], Ledger]
    tag: str
    """Name under which the ledger counts tokens."""
    notify: Callable[[str], None]
    progress: Callable[[int, int], None]
    facts: dict[str, Any] = field(default_factory=dict)
    """The score adds figures for the manifest: which model it loaded, why chains have no value."""


class ChainScore(Protocol):
    """A score."""

    name: str
    version: int
    """Changes whenever the same chain and settings give other values."""
    higher_is_better: bool

    def score(self, chains: Sequence[ChainText], context: ScoreContext) -> list[Values]:
        """The values of each chain, in order. They may depend on the other chains."""
