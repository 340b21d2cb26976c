"""Which problems to train on: pure functions of the candidates and a seed.

s1's domain sampling (arXiv 2501.19393, Algorithm 1, diversity phase): draw a domain uniformly; in
it draw one problem with weight 2^-rank, rank 0 being the longest trace of those left; take it out;
a domain without problems is out.

    Candidate(id="p-0c1e…", domain="number bases", length=85)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Candidate:
    """What a choice looks at."""

    id: str
    domain: str
    length: int
    """Thinking tokens."""


def choose_s1(candidates: Iterable[Candidate], number: int, rng: random.Random) -> list[str]:
    """Ids in the order in which they were drawn; all of them where there are no more."""
    pools: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda one: (-one.length, one.id)):
        pools.setdefault(candidate.domain, []).append(candidate)
    domains = sorted(pools)
    chosen: list[str] = []
    while len(chosen) < number and domains:
        domain = domains[int(rng.random() * len(domains))]
        pool = pools[domain]
        chosen.append(pool.pop(rank_at(rng.random(), len(pool))).id)
        if not pool:
            domains.remove(domain)
    return chosen


def rank_at(point: float, num_ranks: int) -> int:
    """The rank in which a point of [0, 1) falls, the ranks' shares being as 2^-rank.

    Ranks below r have the share (1 - 2^-r) / (1 - 2^-n); solved for r.
    """
    whole = -math.expm1(-num_ranks * math.log(2))
    return min(int(-math.log2(1 - point * whole)), num_ranks - 1)


def choose_random(candidates: Iterable[Candidate], number: int, rng: random.Random) -> list[str]:
    """A uniform sample without replacement."""
    ids = sorted(candidate.id for candidate in candidates)
    return rng.sample(ids, min(number, len(ids)))


def choose_full(candidates: Iterable[Candidate], number: int, rng: random.Random) -> list[str]:
    """All."""
    return sorted(candidate.id for candidate in candidates)


Choose = Callable[[Sequence[Candidate], int, random.Random], list[str]]

METHODS: dict[str, Choose] = {"s1": choose_s1, "random": choose_random, "full": choose_full}
