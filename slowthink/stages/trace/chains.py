"""Chains on their way through the stage: as a source gives them, then with grade and scores.

SourceChain(location="limo.jsonl:3", problem=…, thinking="Okay, so …", response="…", …)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slowthink.data.rows import as_evidence
from slowthink.records import Dropped, Grade, Problem, chain_id


@dataclass(frozen=True, kw_only=True)
class SourceChain:
    """A chain that is not graded yet."""

    location: str
    """file:line, with the row's own id; or the problem's id if the chain is its solution."""
    problem: Problem
    thinking: str
    response: str
    teacher: str
    imported: bool
    """Whether its problem was built from the chain's row."""
    notes: tuple[str, ...] = ()
    """What a reader of the row should know about the split."""
    truncated: bool = False
    """It reached a limit before it was complete."""
    unsplit: bool = False
    """Its source gives one text: all of it is thinking, and the response restates its answer."""
    defect: str | None = None
    """What it lacks, so that only a gate can drop it with its scores: it is never kept."""
    completion_key: str | None = None
    """Key of its completion in the ledger; None for human and imported chains."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Model, revision, engine, sampling, digest of the prompt, date, tokens."""

    @property
    def chain_id(self) -> str:
        """Hash of its texts and its problem."""
        return chain_id(self.problem.id, self.thinking, self.response)

    def to_dropped(self, step: str, reason: str, evidence: str = "") -> Dropped:
        """The record of a step that drops the chain."""
        return Dropped(id=self.location, step=step, reason=reason, evidence=as_evidence(evidence))


@dataclass
class SourceChains:
    """Chains of one or more sources, rows without a usable chain, and the number of all rows."""

    chains: list[SourceChain] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    num_rows: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """Figures for the manifest."""


@dataclass(frozen=True, kw_only=True)
class ScoredChain:
    """A chain with its grade, its lengths and its scores."""

    chain: SourceChain
    grade: Grade
    num_thinking_tokens: int
    num_response_tokens: int
    scores: Mapping[str, float] = field(default_factory=dict)
    level: int | None = None

    @property
    def num_tokens(self) -> int:
        """Length of thinking and response together."""
        return self.num_thinking_tokens + self.num_response_tokens
