"""The candidates of a selection, and the selection as it grows within the limits.

Candidate(id="p-0c1e…", domain="number bases", num_thinking_tokens=85)
Chosen(place=12, phase="draw", why="draw 12: Geometry, 1 of 31 domains, rank 1 of 40")
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from slowthink.recipe import SelectConfig

STRATA = ("domain", "source", "level")


@dataclass(frozen=True, order=True)
class Candidate:
    """The properties of a trace that a selection depends on."""

    id: str
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

    def stratum(self, by: str) -> str:
        """Its domain, source or level, as text."""
        return str(getattr(self, by))


@dataclass(frozen=True, slots=True)
class Pick:
    """The candidate that a method picks next, and why."""

    candidate: Candidate
    why: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """When and why a candidate was chosen."""

    place: int
    """Its position in the order of choice, from 1."""
    phase: str
    """preselect | quota | draw."""
    why: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate that was considered is not chosen."""

    reason: str
    evidence: str = ""


class Selection:
    """The candidates chosen so far, up to `num_problems` and within the limits of `config`."""

    def __init__(self, config: SelectConfig, *, num_problems: int, rng: random.Random) -> None:
        self.config = config
        self.num_problems = num_problems
        self.rng = rng
        self.chosen: dict[str, Chosen] = {}
        self.rejected: dict[str, Rejection] = {}
        self.num_wasted = 0
        """Number of picks of candidates that were already chosen (preselected, or for a quota)."""
        self.num_tokens = 0
        self.counts: dict[str, Counter[str]] = {by: Counter() for by in STRATA}

    @property
    def is_full(self) -> bool:
        """Whether `num_problems` are chosen."""
        return len(self.chosen) >= self.num_problems

    def add_all(self, picks: Iterable[Pick], *, phase: str) -> None:
        """Add picks until the selection is full, and take no more from the iterator."""
        for pick in picks:
            self.add(pick, phase=phase)
            if self.is_full:
                return

    def add(self, pick: Pick, *, phase: str) -> None:
        """Choose the candidate if it is new and within the limits; else record the rejection."""
        candidate = pick.candidate
        if candidate.id in self.chosen:
            self.num_wasted += 1
            return
        exceeded = self._exceeded_limit(candidate)
        if exceeded is not None:
            self.rejected[candidate.id] = exceeded
            return
        self.rejected.pop(candidate.id, None)
        self.chosen[candidate.id] = Chosen(len(self.chosen) + 1, phase, pick.why)
        self.num_tokens += candidate.num_tokens
        for by, count in self.counts.items():
            count[candidate.stratum(by)] += 1

    def _exceeded_limit(self, candidate: Candidate) -> Rejection | None:
        for quota in self.config.quotas:
            stratum = candidate.stratum(quota.by)
            is_full = quota.max is not None and self.counts[quota.by][stratum] >= quota.max
            if is_full and quota.value in ("*", stratum):
                return Rejection("over a quota", f"{quota.by} {stratum}: {quota.max} at most")
        limit = self.config.max_total_tokens
        if limit is not None and self.num_tokens + candidate.num_tokens > limit:
            evidence = f"{candidate.num_tokens} tokens; {limit - self.num_tokens} of {limit} left"
            return Rejection("over the token budget", evidence)
        return None
