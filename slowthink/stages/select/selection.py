"""The candidates of a selection, and the selection as it grows within the limits.

Candidate(id="p-0c1e…", domain="number bases", num_thinking_tokens=85)
Chosen(place=12, phase="draw", why="draw 12: Geometry, 1 of 31 domains, rank 1 of 40")
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slowthink.recipe import QuotaConfig, SelectConfig


@dataclass(frozen=True, order=True)
class Candidate:
    """The properties of a chain that a selection depends on."""

    id: str
    """The problem's."""
    domain: str
    num_thinking_tokens: int
    source: str = ""
    correct: bool = True
    num_tokens: int = 0
    """Number of tokens of thinking and response."""
    level: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict, compare=False)
    text: str = ""
    """The question."""
    teacher: str = ""
    chain_id: str = ""

    @property
    def key(self) -> str:
        """The chain's id; the problem's if the chain has none."""
        return self.chain_id or self.id


@dataclass(frozen=True, slots=True)
class Pick:
    """The candidate that a method picks next, and why."""

    candidate: Candidate
    why: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """When and why a problem was chosen."""

    place: int
    """Its position in the order of choice, from 1."""
    phase: str
    """preselect | quota | draw."""
    why: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a problem or a chain that was considered is not chosen."""

    reason: str
    evidence: str = ""


class Selection:
    """The problems chosen so far, and their chains, within the limits of `config`."""

    def __init__(
        self, config: SelectConfig, *, num_problems: int, rng: random.Random,
        chains: Mapping[str, Sequence[Candidate]] | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.num_problems = num_problems
        self.rng = rng
        self.chains = chains or {}
        """The chains of each problem, in order; a problem that is absent has one."""
        self.chosen: dict[str, Chosen] = {}
        """By problem id."""
        self.chosen_chains: dict[str, Candidate] = {}
        """The chains of the chosen problems that are taken, by key."""
        self.rejected: dict[str, Rejection] = {}
        """By problem id, or by a chain's key."""
        self.num_wasted = 0
        """Number of picks of candidates that were already chosen (preselected, or for a quota)."""
        self.num_tokens = 0
        self.counts: tuple[Counter[str], ...] = tuple(Counter() for _ in config.quotas)
        """Chosen problems of each kind, for each quota."""
        self._bands = [
            _bands([chains[0] for chains in self.chains.values()], quota)
            for quota in config.quotas
        ]  # fmt: skip

    @property
    def is_full(self) -> bool:
        """Whether as many problems or chains are chosen as there may be."""
        limit = self.config.num_chains
        return len(self.chosen) >= self.num_problems or (
            limit is not None and len(self.chosen_chains) >= limit
        )

    def stratum(self, quota: int, candidate: Candidate) -> str:
        """The candidate's kind by the quota of this index: its domain, or a band of its score."""
        by = self.config.quotas[quota].by
        if by == "score":
            return self._bands[quota][candidate.id]
        return str(getattr(candidate, by))

    def add_all(self, picks: Iterable[Pick], *, phase: str) -> None:
        """Add picks until the selection is full, and take no more from the iterator."""
        for pick in picks:
            self.add(pick, phase=phase)
            if self.is_full:
                return

    def add(self, pick: Pick, *, phase: str) -> None:
        """Choose the problem, with its first chains that are within the limits, if it is new and
        its first chain is; else record the rejection."""
        candidate = pick.candidate
        if candidate.id in self.chosen:
            self.num_wasted += 1
            return
        exceeded = self._exceeded_quota(candidate) or self._exceeded_limit(candidate)
        if exceeded is not None:
            self.rejected[candidate.id] = exceeded
            return
        self.rejected.pop(candidate.id, None)
        self.chosen[candidate.id] = Chosen(len(self.chosen) + 1, phase, pick.why)
        for index, count in enumerate(self.counts):
            count[self.stratum(index, candidate)] += 1
        self._take_chains(self.chains.get(candidate.id, [candidate]))

    def _take_chains(self, chains: Sequence[Candidate]) -> None:
        """Take the first chains of a chosen problem, up to the first that is over a limit."""
        most = self.config.chains_per_problem or len(chains)
        for place, chain in enumerate(chains):
            exceeded = self._exceeded_limit(chain)
            if place >= most:
                evidence = f"chain {place + 1} of {len(chains)}; {most} at most"
                exceeded = Rejection("over the number of chains per problem", evidence)
            if exceeded is not None:
                self.rejected |= {rest.key: exceeded for rest in chains[place:]}
                return
            self.chosen_chains[chain.key] = chain
            self.num_tokens += chain.num_tokens

    def _exceeded_quota(self, candidate: Candidate) -> Rejection | None:
        for index, (quota, counts) in enumerate(zip(self.config.quotas, self.counts, strict=True)):
            stratum = self.stratum(index, candidate)
            is_full = quota.max is not None and counts[stratum] >= quota.max
            if is_full and quota.value in ("*", stratum):
                return Rejection("over a quota", f"{kind_of(quota, stratum)}: {quota.max} at most")
        return None

    def _exceeded_limit(self, chain: Candidate) -> Rejection | None:
        most, limit = self.config.num_chains, self.config.max_total_tokens
        if most is not None and len(self.chosen_chains) >= most:
            return Rejection("over the number of chains", f"{most} at most")
        if limit is not None and self.num_tokens + chain.num_tokens > limit:
            evidence = f"{chain.num_tokens} tokens; {limit - self.num_tokens} of {limit} left"
            return Rejection("over the token budget", evidence)
        return None


def kind_of(quota: QuotaConfig, stratum: str) -> str:
    """The kind in words: `domain algebra`, `student-fit, band 1 of 4`."""
    if quota.by == "score":
        return f"{quota.score}, band {stratum} of {quota.bands}"
    return f"{quota.by} {stratum}"


def _bands(candidates: Sequence[Candidate], quota: QuotaConfig) -> dict[str, str]:
    """The band of each problem, by id; empty for a quota that is not by score."""
    if quota.score is None:
        return {}
    name = quota.score
    ordered = sorted(candidates, key=lambda candidate: (candidate.scores[name], candidate.id))
    return {
        candidate.id: str(1 + rank * quota.bands // len(ordered))
        for rank, candidate in enumerate(ordered)
    }
