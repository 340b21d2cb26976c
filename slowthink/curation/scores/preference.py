"""The order of one problem's chains: which is kept, or trained on first.

    order_chains(chains, PreferenceConfig(by="shortest"), seed=0)

Ties are decided by fewer tokens, then by the chain's id; `first` keeps the given order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from slowthink.curation.scores import SCORES
from slowthink.errors import DataError
from slowthink.recipe import PreferenceConfig
from slowthink.records import item_seed

T = TypeVar("T")


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
    """The chains of one problem, best first. Raises DataError if one lacks the score."""
    if config.by == "first":
        return [ranked.chain for ranked in chains]
    sign, score = _direction(config, problem_id, seed), config.by
    if score in ("shortest", "longest", "mix"):
        values = [float(ranked.num_tokens) for ranked in chains]
    else:
        values = [_score(ranked, score, problem_id) for ranked in chains]
    ordered = sorted(
        zip(values, chains, strict=True),
        key=lambda pair: (sign * pair[0], pair[1].num_tokens, pair[1].chain_id),
    )
    return [ranked.chain for _, ranked in ordered]


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


def _score(ranked: RankedChain[T], score: str, problem_id: str) -> float:
    if score not in ranked.scores:
        known = ", ".join(sorted(ranked.scores)) or "none"
        raise DataError(
            f"prefer: a chain of {problem_id} has no score `{score}` (it has {known}); expected "
            "one for each chain. Add it to trace.scores, or prefer another: --set prefer.by=first"
        )
    return ranked.scores[score]
