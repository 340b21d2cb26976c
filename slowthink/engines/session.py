"""What every engine implements: a session takes jobs and returns chains and answers.

A *job* is one chain and the points requested of it; one request is a job of one point. The engine
makes the longest thinking once and branches a short answer at each distinct cut. The cached chain
and the keys of cached answers are part of the job, and are not generated again.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from slowthink.errors import ConfigError
from slowthink.forcing.cuts import Cut, cut_chain
from slowthink.forcing.formats import AUTO, TokenFormat, compile_format, resolve_format
from slowthink.forcing.machine import ForcingMachine, ForcingRules, make_rules
from slowthink.records import (
    Answer,
    AnswerEnd,
    Budget,
    Chain,
    Cost,
    Request,
    ThinkingEnd,
    ThinkingFormat,
)

CHECKPOINT_SECONDS = 5.0
"""Default interval of partial results."""


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
    """Maximum number of thinking tokens."""
    waits: int = 0
    forced: bool = True
    """False: thinking that does not end by itself within the cap gets no answer, and a format
    without a delimiter gets no cue."""
    steps: int | None = None
    """Maximum number of thinking steps. None: no limit but the cap."""

    def __lt__(self, other: Point) -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[int, int, bool, float]:
        steps = math.inf if self.steps is None else self.steps
        return self.cap, self.waits, self.forced, steps


@dataclass(frozen=True, kw_only=True)
class Job:
    """A chain and the points requested of it."""

    request: Request
    """Its budget's cap, steps and waits are ignored; the points' apply."""
    points: tuple[Point, ...]
    chain: Chain | None = None
    """Cached thinking."""
    answer_keys: frozenset[str] = frozenset()
    """Keys of cached answers."""

    @property
    def key(self) -> str:
        """The chain's key."""
        return self.request.chain_key()

    @property
    def farthest(self) -> Point:
        """The point whose thinking includes that of all others: the largest cap, number of waits
        and steps. Forced, unless only the unforced one is among the points."""
        steps = [point.steps for point in self.points]
        limits = [limit for limit in steps if limit is not None]
        point = Point(
            cap=max(point.cap for point in self.points),
            waits=max(point.waits for point in self.points),
            steps=max(limits) if len(limits) == len(steps) else None,
        )
        unforced = replace(point, forced=False)
        return unforced if unforced in self.points and point not in self.points else point

    def machine(self, rules: ForcingRules) -> ForcingMachine:
        """The machine that thinks up to the farthest point, starting from the cached chain."""
        point = self.farthest
        return ForcingMachine(
            rules, cap=point.cap, waits=point.waits, steps=point.steps, chain=self.chain
        )


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """Result of a job. Complete unless `partial` is set or `error` is not None."""

    key: str
    chain: Chain
    answers: tuple[Answer, ...]
    cost: Cost
    """Spent since the job's last result, on what this one contains."""
    error: str | None = None
    partial: bool = False
    """The job is still running; this much is worth storing. Another result follows."""


class Session(Protocol):
    """A model that is ready; use as a context manager."""

    fingerprint: str
    numerics: str
    capabilities: Capabilities
    tokenizer: Any
    eos_ids: frozenset[int]
    compiler: Compiler

    @property
    def cost(self) -> Cost:
        """All tokens spent so far."""

    def __enter__(self) -> Session: ...
    def __exit__(self, *error: object) -> None: ...

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if this engine can never do it."""

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Return jobs finished since the last call, and partial results of long ones. Blocks until
        there is one, at most `timeout` seconds (None: no limit)."""

    def cancel(self, keys: Iterable[str]) -> None:
        """Drop queued jobs by key; running ones may still complete."""


def generate(session: Session, jobs: Sequence[Job]) -> Iterator[JobResult]:
    """Submit all jobs and yield their complete results as they arrive."""
    for job in jobs:
        session.submit(job)
    num_open, cost = len(jobs), Cost()
    while num_open:
        for result in session.completed():
            cost += result.cost
            if not result.partial:
                num_open -= 1
                yield replace(result, cost=cost)
                cost = Cost()


class Compiler:
    """Compiles thinking formats and budgets to token ids of one tokenizer, each once."""

    def __init__(self, tokenizer: Any, *, eos_ids: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self._formats: dict[ThinkingFormat, TokenFormat] = {}
        self._rules: dict[tuple[ThinkingFormat, Budget], ForcingRules] = {}

    def token_format(self, format: ThinkingFormat) -> TokenFormat:
        """The format in token ids. One named `auto` is detected in the chat template."""
        if format not in self._formats:
            named = resolve_format(AUTO, self.tokenizer) if format.name == AUTO else format
            self._formats[format] = compile_format(named, self.tokenizer, eos_ids=self.eos_ids)
        return self._formats[format]

    def rules(self, format: ThinkingFormat, budget: Budget) -> ForcingRules:
        """The budget's rules in token ids. Raises ConfigError for a wait string of no tokens."""
        if (format, budget) not in self._rules:
            self._rules[format, budget] = make_rules(budget, self.token_format(format))
        return self._rules[format, budget]


@dataclass(kw_only=True)
class JobInProgress:
    """A running job: its chain and answers so far, and its cost since the last result."""

    job: Job
    token_format: TokenFormat
    rules: ForcingRules
    machine: ForcingMachine
    on_checkpoint: Callable[[JobResult], None] | None = None
    """Receives partial results."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    cost: Cost = field(default_factory=Cost)
    """Since the last result."""
    branches: list[Branch] = field(default_factory=list)
    """Answers to make; set when the thinking is complete."""
    _answers: dict[str, Answer] = field(default_factory=dict)
    _reported: tuple[int, int, int] = (-1, -1, 0)
    _reported_at: float = field(default_factory=time.monotonic)

    @classmethod
    def start(
        cls, job: Job, compiler: Compiler, on_checkpoint: Callable[[JobResult], None] | None = None
    ) -> JobInProgress:
        """The job before its first token."""
        format, budget = job.request.format, job.request.budget
        rules = compiler.rules(format, budget)
        return cls(
            job=job,
            token_format=compiler.token_format(format),
            rules=rules,
            machine=job.machine(rules),
            on_checkpoint=on_checkpoint,
        )

    @property
    def chain(self) -> Chain:
        """The thinking so far."""
        return self.machine.chain(self.job.key)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers so far, in the order of the points."""
        made = [self._answers.get(branch.key) for branch in self.branches]
        return tuple(answer for answer in made if answer is not None)

    @property
    def missing(self) -> list[Branch]:
        """Answers still to make; valid once the thinking is complete."""
        return [branch for branch in self.branches if branch.key not in self._answers]

    @property
    def has_news(self) -> bool:
        """Whether anything was generated since the last result."""
        return self._progress() != self._reported

    def end_thinking(self) -> list[Branch]:
        """Set and return `branches`; the thinking must reach every point."""
        self.branches = branches(self.job, self.chain, self.rules, self.token_format)
        return self.branches

    def add_answer(self, branch: Branch, ids: Sequence[int], end: AnswerEnd) -> None:
        """Store an answer."""
        self._answers[branch.key] = branch.answer(ids, end)

    def spend(self, cost: Cost) -> None:
        """Add to the job's cost."""
        self.cost += cost

    def checkpoint_if_due(self) -> None:
        """Pass on a partial result if the last one is `checkpoint_seconds` old."""
        due = time.monotonic() - self._reported_at >= self.checkpoint_seconds
        if self.on_checkpoint is not None and due:
            self.on_checkpoint(self.result(partial=True))

    def result(self, error: str | None = None, *, partial: bool = False) -> JobResult:
        """The chain and all answers so far, with the cost since the last result."""
        cost, self.cost = self.cost, Cost()
        self._reported, self._reported_at = self._progress(), time.monotonic()
        return JobResult(
            key=self.job.key,
            chain=self.chain,
            answers=self.answers,
            cost=cost,
            error=error,
            partial=partial,
        )

    def _progress(self) -> tuple[int, int, int]:
        return len(self.machine.ids), len(self.machine.events), len(self._answers)


@dataclass(frozen=True, kw_only=True)
class Branch:
    """An answer to make: the thinking before it, and the forced ids between."""

    key: str
    chain_key: str
    cut: Cut
    closing: tuple[int, ...]

    def answer(self, ids: Sequence[int], end: AnswerEnd) -> Answer:
        """The answer with these ids."""
        return Answer(
            key=self.key,
            chain_key=self.chain_key,
            cut=len(self.cut.ids),
            closing=self.closing,
            ids=tuple(ids),
            end=end,
        )


def branches(
    job: Job, chain: Chain, rules: ForcingRules, token_format: TokenFormat
) -> list[Branch]:
    """The distinct answers that the job's points need and that are not cached.

    The chain must reach every point.
    """
    chain_key, distinct = job.key, dict[str, Branch]()
    for point in job.points:
        cut = cut_at(chain, rules, point)
        assert cut is not None, "the chain does not reach a requested point"
        closing = closing_of(cut, token_format, job.request.budget, forced=point.forced)
        if closing is not None:
            key = job.request.answer_key(cut.ids, closing)
            if key not in job.answer_keys:
                distinct[key] = Branch(key=key, chain_key=chain_key, cut=cut, closing=closing)
    return list(distinct.values())


def cut_at(chain: Chain, rules: ForcingRules, point: Point) -> Cut | None:
    """The thinking of the chain at this point; None if the chain does not reach it yet."""
    return cut_chain(chain, rules, cap=point.cap, waits=point.waits, steps=point.steps)


def closing_of(
    cut: Cut, token_format: TokenFormat, budget: Budget, *, forced: bool
) -> tuple[int, ...] | None:
    """The forced ids that follow this thinking; None: no answer follows."""
    natural = cut.end is ThinkingEnd.NATURAL
    if not forced and not natural:
        return None
    cue = budget.final_answer_cue if forced else None
    return token_format.closing_ids(cut.ids, natural=natural, cue=cue)


def draw_uniform(request: Request, *index: object) -> float:
    """The number in [0, 1) that decides one draw: a pure function of request and position."""
    return uniform(request.seed, request.sample, *index)


def uniform(seed: int, sample: int, *index: object) -> float:
    """As `draw_uniform`, for parts of an engine that have no request."""
    name = repr((seed, sample, *index)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64


def check_context(job: Job, *, max_context: int) -> None:
    """Raise ConfigError if prompt, thinking, closing and answer cannot all fit (nothing is ever
    truncated), and for a negative budget."""
    for point in job.points:
        if point.cap < 0 or point.waits < 0 or (point.steps or 0) < 0:
            raise ConfigError(
                f"budget: a cap of {point.cap}, {point.waits} waits, {point.steps} steps; expected "
                "counts of 0 or more. Change the arm's caps, waits or forcing.max_thinking_steps."
            )
    num_prompt, cap, needed = len(job.request.prompt_ids), job.farthest.cap, tokens_at_most(job)
    if needed > max_context:
        raise ConfigError(
            f"budget: a prompt of {num_prompt} tokens, a cap of {cap} and "
            f"{needed - num_prompt - cap} for the answer need {needed}; the model's context holds "
            f"{max_context}. Lower caps or forcing.answer_tokens, or remove the longest problems."
        )


def tokens_at_most(job: Job) -> int:
    """Upper bound of prompt, thinking, closing and answer together, in tokens."""
    request = job.request
    closing = request.format.end + (request.budget.final_answer_cue or "")
    closing_tokens = max(32, 1 + len(closing.encode()))  # no token is shorter than a byte
    answer_tokens = request.budget.answer_tokens
    return len(request.prompt_ids) + job.farthest.cap + answer_tokens + closing_tokens
