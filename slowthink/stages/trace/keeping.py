"""Which of a problem's chains are kept: one, or all that passed the gate."""

from __future__ import annotations

from collections.abc import Sequence

from slowthink.curation.scores.preference import RankedChain, order_chains, require_score
from slowthink.recipe import PreferenceConfig
from slowthink.records import Dropped, group_by
from slowthink.stages.trace.chains import ScoredChain

STEP = "one per problem"


def keep_one(
    chains: Sequence[ScoredChain], prefer: PreferenceConfig, *, seed: int
) -> tuple[list[ScoredChain], list[Dropped]]:
    """The preferred chain of each problem; and the others, as dropped, with the kept one."""
    kept, dropped = [], []
    for ordered in ordered_by_problem(chains, prefer, seed=seed):
        first, *others = ordered
        kept.append(first)
        reason, evidence = "another right chain is kept", first.chain.location
        dropped += [other.chain.to_dropped(STEP, reason, evidence) for other in others]
    return kept, dropped


def in_order(
    chains: Sequence[ScoredChain], prefer: PreferenceConfig, *, seed: int
) -> list[ScoredChain]:
    """All chains, those of each problem together and preferred ones first."""
    return [chain for same in ordered_by_problem(chains, prefer, seed=seed) for chain in same]


def ordered_by_problem(
    chains: Sequence[ScoredChain], prefer: PreferenceConfig, *, seed: int
) -> list[list[ScoredChain]]:
    """The chains of each problem, preferred ones first. Raises DataError if they are preferred by a
    score that none has."""
    require_score((chain.scores for chain in chains), prefer)
    return [
        order_chains([_ranked(chain) for chain in same], prefer, problem_id=id, seed=seed)
        for id, same in group_by(chains, lambda scored: scored.chain.problem.id).items()
    ]


def _ranked(scored: ScoredChain) -> RankedChain[ScoredChain]:
    return RankedChain(
        chain=scored, chain_id=scored.chain.chain_id, num_tokens=scored.num_tokens,
        scores=scored.scores,
    )  # fmt: skip
