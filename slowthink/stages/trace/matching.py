"""Which training problem a chain belongs to.

{"id": "limo.jsonl:3", "step": "match", "reason": "its problem is not among the training problems"}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slowthink.records import Dropped, Problem, Split, duplicate_key
from slowthink.stages.trace.chains import SourceChain


@dataclass(frozen=True)
class KnownProblems:
    """Training problems by duplicate key, and the duplicate keys of held-out problems."""

    train: dict[str, Problem]
    heldout: frozenset[str]

    @classmethod
    def from_splits(cls, train: Sequence[Problem], heldout: Sequence[Problem]) -> KnownProblems:
        """Problems with options are also found by their question without the options."""
        by_key = {key: problem for problem in reversed(train) for key in _duplicate_keys(problem)}
        return cls(
            by_key, frozenset(key for problem in heldout for key in _duplicate_keys(problem))
        )


def _duplicate_keys(problem: Problem) -> set[str]:
    return {problem.duplicate_key, duplicate_key(problem.question)}


def match_problems(
    chains: Sequence[SourceChain], known: KnownProblems
) -> tuple[list[SourceChain], list[Dropped]]:
    """Chains, each with the training problem that equals its row's; and the others, as dropped.

    Without any training problems, each chain keeps the problem of its row.
    """
    kept, dropped = [], []
    for chain in chains:
        keys = _duplicate_keys(chain.problem)
        equal = next((known.train[key] for key in sorted(keys) if key in known.train), None)
        if chain.imported and keys & known.heldout:
            reason = "equal to a held-out problem"
        elif known.train and equal is None:
            reason = "its problem is not among the training problems"
        else:
            problem = equal if chain.imported and equal else chain.problem
            kept.append(replace(chain, problem=replace(problem, split=Split.TRAIN)))
            continue
        dropped.append(chain.to_dropped("match", reason, chain.problem.question))
    return kept, dropped
