"""The order of one problem's chains: which is kept, or trained on first.

    order_chains(chains, PreferenceConfig(by="shortest"), seed=0)

Ties are decided by fewer tokens, then by the chain's id; `first` keeps the given order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slowthink.curation.scores import SCORES
from slowthink.errors import DataError
from slowthink.recipe import PreferenceConfig
from slowthink.records import item_seed

T = TypeVar("T")
_BY_LENGTH = ("shortest", "longest", "mix")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedChain(Generic[T]):
    """A chain of a problem, with what its rank depends on."""

    chain: T
    chain_id: str
    num_tokens: int
    scores: Mapping[str, float] = field(default_factory=dict)


def order_chains(
    chains: Sequence[RankedChain[T]], config: PreferenceConfig, *, problem_id: str, seed: int
) -> list[T]:
    """The chains of one problem, best first; those without the score come last."""
    if config.by == "first":
        return [ranked.chain for ranked in chains]
    sign = _direction(config, problem_id, seed)

    def place(ranked: RankedChain[T]) -> tuple[float, int, str]:
        by_length = config.by in _BY_LENGTH
        value = ranked.num_tokens if by_length else ranked.scores.get(config.by)
        return math.inf if value is None else sign * value, ranked.num_tokens, ranked.chain_id

    return [ranked.chain for ranked in sorted(chains, key=place)]


def require_score(scores: Iterable[Mapping[str, float]], config: PreferenceConfig) -> None:
    """Raise DataError if chains are preferred by a score that none of them has: some may be too
    long for a model, or have no valid rating, but not all."""
    if config.by == "first" or config.by in _BY_LENGTH:
        return
    all_scores = list(scores)
    known: set[str] = set().union(*all_scores)
    if all_scores and config.by not in known:
        raise DataError(
            f"prefer: no chain has a score `{config.by}` (there is "
            f"{', '.join(sorted(known)) or 'none'}); expected it for at least one. Add it to "
            "trace.scores, or prefer another: --set prefer.by=first"
        )


def _direction(config: PreferenceConfig, problem_id: str, seed: int) -> int:
    """1 if the lowest value comes first, -1 if the highest."""
    if config.by in ("shortest", "longest"):
        return 1 if config.by == "shortest" else -1
    if config.by == "mix":
        point = item_seed(seed, "mix", problem_id) / 2**63
        return -1 if point < config.long_share else 1
    return -1 if higher_is_better(config.by) else 1


def higher_is_better(score: str) -> bool:
    """Whether higher values of a score, or of its part NAME.PART, are better; True for a score from
    outside."""
    maker = SCORES.get(score.split(".")[0])
    return bool(getattr(maker, "higher_is_better", True))
