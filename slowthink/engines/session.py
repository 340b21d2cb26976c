"""What an engine is: a session takes jobs and gives back chains and answers.

A *job* is one chain and the points wanted of it; one request is a job of one point. The engine
makes the longest thinking once and branches a short answer at each distinct cut. What is already
known (the chain so far, answers had before) comes in with the job and is not made again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from slowthink.errors import ConfigError
from slowthink.forcing.cuts import Cut, cut_chain
from slowthink.forcing.formats import TokenFormat
from slowthink.forcing.machine import ForcingMachine, ForcingRules
from slowthink.records import Answer, Budget, Chain, Cost, Request, ThinkingEnd


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do."""

    takes_ids: bool
    returns_ids: bool
    logprobs: bool
    in_flight: bool
    """Forces inside one request, without prefilling again."""
    rollback: bool
    """Can take drawn tokens back: needed for delimiters of several tokens."""
    reproducible: bool
    """Same requests, same tokens."""
    max_context: int


@dataclass(frozen=True)
class Point:
    """One point of a curve; sorted by cap, then waits, then steps."""

    cap: int
    """Most thinking tokens."""
    waits: int = 0
    forced: bool = True
    """False: thinking that does not end by itself within the cap stays without an answer, and a
    format without a delimiter gets no cue."""
    steps: int | None = None
    """Most steps of thinking. None: no limit but the cap."""

    def __lt__(self, other: Point) -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[int, int, bool, float]:
        steps = math.inf if self.steps is None else self.steps
        return self.cap, self.waits, self.forced, steps


@dataclass(frozen=True, kw_only=True)
class Job:
    """A chain and the points wanted of it."""

    request: Request
    """Its budget's cap, steps and waits do not count; the points' do."""
    points: tuple[Point, ...]
    chain: Chain | None = None
    """The thinking had before."""
    answer_keys: frozenset[str] = frozenset()
    """Answers had before."""

    @property
    def key(self) -> str:
        """The chain's key."""
        return self.request.chain_key()

    def machine(self, rules: ForcingRules) -> ForcingMachine:
        """The machine that thinks as far as any of the points, from where the chain stands."""
        steps = [point.steps for point in self.points]
        limits = [number for number in steps if number is not None]
        return ForcingMachine(
            rules,
            cap=max(point.cap for point in self.points),
            waits=max(point.waits for point in self.points),
            steps=max(limits) if len(limits) == len(steps) else None,
            chain=self.chain,
        )


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What came of a job; whole when it is not partial and `error` is None."""

    key: str
    chain: Chain
    answers: tuple[Answer, ...]
    cost: Cost
    """Spent since the last outcome of this job, on what is here."""
    error: str | None = None
    partial: bool = False
    """The job is still at work; this much is worth keeping. Another outcome follows."""


class Session(Protocol):
    """A model that is ready; use as a context manager."""

    fingerprint: str
    numerics: str
    capabilities: Capabilities
    tokenizer: Any
    eos_ids: frozenset[int]

    @property
    def cost(self) -> Cost:
        """All tokens spent so far."""

    def __enter__(self) -> Session: ...
    def __exit__(self, *error: object) -> None: ...

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError where it can never be done here."""

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Jobs finished since the last call, and (`partial`) what long ones have come to; waits up
        to `timeout` seconds (None: for ever) for one."""

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs by key; running ones may still complete."""


def generate(session: Session, jobs: Sequence[Job]) -> Iterator[JobResult]:
    """Submit all jobs and give their outcomes as they come, whole ones only."""
    for job in jobs:
        session.submit(job)
    left, owed = len(jobs), Cost()
    while left:
        for outcome in session.completed():
            if outcome.partial:
                owed += outcome.cost
                continue
            left -= 1
            yield replace(outcome, cost=outcome.cost + owed)
            owed = Cost()


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One answer to be made: the thinking it follows, and the forced ids between."""

    key: str
    cut: Cut
    closing: tuple[int, ...]


def branches(
    job: Job, chain: Chain, rules: ForcingRules, token_format: TokenFormat
) -> list[Branch]:
    """The distinct answers that the job's points need and that are not had yet.

    The chain must reach every point.
    """
    found: dict[str, Branch] = {}
    for point in job.points:
        cut = cut_at(chain, rules, point)
        assert cut is not None, "the chain does not reach a point that was asked of it"
        closing = closing_of(cut, token_format, job.request.budget, forced=point.forced)
        if closing is not None:
            key = job.request.answer_key(cut.ids, closing)
            if key not in job.answer_keys:
                found[key] = Branch(key=key, cut=cut, closing=closing)
    return list(found.values())


def cut_at(chain: Chain, rules: ForcingRules, point: Point) -> Cut | None:
    """The thinking of the chain at this point; None where it does not reach it yet."""
    return cut_chain(chain, rules, cap=point.cap, waits=point.waits, steps=point.steps)


def closing_of(
    cut: Cut, token_format: TokenFormat, budget: Budget, *, forced: bool
) -> tuple[int, ...] | None:
    """The forced ids that follow this thinking; None: no answer part follows."""
    natural = cut.end is ThinkingEnd.NATURAL
    if not forced and not natural:
        return None
    cue = budget.final_answer_cue if forced else None
    return token_format.closing_ids(cut.ids, natural=natural, cue=cue)


def draw_uniform(request: Request, *index: object) -> float:
    """The number in [0, 1) that decides one draw: a pure function of request and place."""
    return uniform(request.seed, request.sample, *index)


def uniform(seed: int, sample: int, *index: object) -> float:
    """As `draw_uniform`, for an engine part that holds no request."""
    name = repr((seed, sample, *index)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64


def check_context(job: Job, *, max_context: int) -> None:
    """Raise ConfigError where prompt, thinking, closing and answer cannot all fit (nothing is ever
    cut), and for a budget that is no count."""
    for point in job.points:
        if point.cap < 0 or point.waits < 0 or (point.steps or 0) < 0:
            raise ConfigError(
                f"budget: a cap of {point.cap}, {point.waits} waits, {point.steps} steps; expected "
                "counts of 0 or more. Mend the arm's caps, waits or forcing.max_thinking_steps."
            )
    num_prompt, cap = len(job.request.prompt_ids), max(point.cap for point in job.points)
    needed = tokens_at_most(job)
    if needed > max_context:
        raise ConfigError(
            f"budget: a prompt of {num_prompt} tokens, a cap of {cap} and "
            f"{needed - num_prompt - cap} for the answer need {needed}; the model's context holds "
            f"{max_context}. Lower caps or forcing.answer_tokens, or take out the longest problems."
        )


def tokens_at_most(job: Job) -> int:
    """Of prompt, thinking, closing and answer together."""
    request, cap = job.request, max(point.cap for point in job.points)
    return len(request.prompt_ids) + cap + request.budget.answer_tokens + _closing_room(request)


def _closing_room(request: Request) -> int:
    """At least as many tokens as delimiter and cue can have: no token is less than a byte."""
    text = request.format.end + (request.budget.final_answer_cue or "")
    return max(32, 1 + len(text.encode()))
