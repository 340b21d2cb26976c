"""The interface of all engines: a session takes jobs and returns chains and answers.

A *job* is one chain and the points of its curve to generate. The engine generates the longest
thinking once, and a short answer after each distinct cut of it. A job contains the cached chain and
the keys of cached answers, which are not generated again.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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
    Reported,
    Request,
    ThinkingEnd,
    ThinkingFormat,
)

CHECKPOINT_SECONDS = 5.0
"""Default interval between partial results."""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do."""

    takes_ids: bool
    returns_ids: bool
    logprobs: bool
    in_flight: bool
    """Can force tokens within one request, without prefilling again."""
    rollback: bool
    """Can remove sampled tokens: needed for delimiters of several tokens."""
    reproducible: bool
    """The same requests give the same tokens."""
    max_context: int


@dataclass(frozen=True)
class Point:
    """One point of a curve; ordered by cap, then waits, then steps."""

    cap: int
    """Maximum number of thinking tokens."""
    waits: int = 0
    forced: bool = True
    """False: thinking that does not end by itself within the cap gets no answer, and a format
    without a delimiter gets no cue."""
    steps: int | None = None
    """Maximum number of thinking steps. None: no limit but the cap."""

    def __lt__(self, other: Point) -> bool:
        return self._sort_key() < other._sort_key()

    def _sort_key(self) -> tuple[int, int, bool, float]:
        steps = math.inf if self.steps is None else self.steps
        return self.cap, self.waits, self.forced, steps


@dataclass(frozen=True, kw_only=True)
class Job:
    """A chain to generate, and the points of its curve."""

    request: Request
    """The cap, steps and waits of its budget are ignored in favour of those of the points."""
    points: tuple[Point, ...]
    chain: Chain | None = None
    """Cached thinking."""
    answer_keys: frozenset[str] = frozenset()
    """Keys of cached answers."""

    @cached_property
    def key(self) -> str:
        """The chain's key."""
        return self.request.chain_key()

    @cached_property
    def largest_point(self) -> Point:
        """The largest cap, number of waits and number of steps: its thinking includes that of all
        points. Forced, unless only the unforced one is among the points."""
        steps = [point.steps for point in self.points if point.steps is not None]
        largest = Point(
            cap=max(point.cap for point in self.points),
            waits=max(point.waits for point in self.points),
            steps=max(steps) if len(steps) == len(self.points) else None,
        )
        if largest in self.points:
            return largest
        unforced = replace(largest, forced=False)
        return unforced if unforced in self.points else largest

    def machine(self, rules: ForcingRules) -> ForcingMachine:
        """A machine that thinks up to the largest point, starting from the cached chain."""
        point = self.largest_point
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
    """Tokens of this result that no earlier result of the job contained."""
    error: str | None = None
    partial: bool = False
    """The job is still running; another result follows."""


class Session(Protocol):
    """A loaded model; a context manager."""

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
        """Queue a job. Raises ConfigError if this engine cannot do it."""

    def completed(self, timeout: float | None = None) -> list[JobResult]:
        """Return jobs finished since the last call, and partial results of long ones. Blocks until
        there is one, at most `timeout` seconds (None: no limit)."""

    def cancel(self, keys: Iterable[str]) -> None:
        """Cancel queued jobs by key; running ones may still complete."""


def generate(session: Session, jobs: Sequence[Job]) -> Iterator[JobResult]:
    """Submit jobs and yield their complete results as they arrive."""
    for job in jobs:
        session.submit(job)
    num_unfinished, cost = len(jobs), Cost()
    while num_unfinished:
        for result in session.completed():
            cost += result.cost
            if not result.partial:
                num_unfinished -= 1
                yield replace(result, cost=cost)
                cost = Cost()


class Compiler:
    """Thinking formats and budgets in the token ids of one tokenizer, each compiled once."""

    def __init__(self, tokenizer: Any, *, eos_ids: frozenset[int]) -> None:
        self.tokenizer = tokenizer
        self.eos_ids = eos_ids
        self._formats: dict[ThinkingFormat, TokenFormat] = {}
        self._rules: dict[tuple[ThinkingFormat, Budget], ForcingRules] = {}

    def token_format(self, format: ThinkingFormat) -> TokenFormat:
        """The format in token ids; the one named `auto` is detected from the chat template."""
        compiled = self._formats.get(format)
        if compiled is None:
            resolved = resolve_format(AUTO, self.tokenizer) if format.name == AUTO else format
            compiled = compile_format(resolved, self.tokenizer, eos_ids=self.eos_ids)
            self._formats[format] = compiled
        return compiled

    def rules(self, format: ThinkingFormat, budget: Budget) -> ForcingRules:
        """The budget in token ids. Raises ConfigError for a wait string without tokens."""
        rules = self._rules.get((format, budget))
        if rules is None:
            rules = self._rules[format, budget] = make_rules(budget, self.token_format(format))
        return rules


@dataclass(kw_only=True)
class JobInProgress:
    """A running job: its chain and answers so far, and its cost since the last result."""

    job: Job
    token_format: TokenFormat
    rules: ForcingRules
    machine: ForcingMachine
    on_checkpoint: Callable[[JobResult], None] | None = None
    """Called with partial results."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    cost: Cost = field(default_factory=Cost)
    """Cost since the last result."""
    branches: list[Branch] = field(default_factory=list)
    """Answers to generate; set when the thinking is complete."""
    reported: Reported | None = None
    """What a chat API states about its reply."""
    _whole_chain: Chain | None = None
    """Set when the thinking is complete."""
    _answers: dict[str, Answer] = field(default_factory=dict)
    _reported_progress: tuple[int, int, int] = (-1, -1, 0)
    _report_time: float = field(default_factory=time.monotonic)

    @classmethod
    def start(
        cls, job: Job, compiler: Compiler, on_checkpoint: Callable[[JobResult], None] | None = None
    ) -> JobInProgress:
        """Start a job: nothing is generated yet."""
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
        if self._whole_chain is not None:
            return self._whole_chain
        chain = self.machine.chain(self.job.key)
        return replace(chain, reported=self.reported) if self.reported else chain

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers so far, in the order of the points."""
        answers = [self._answers.get(branch.key) for branch in self.branches]
        return tuple(answer for answer in answers if answer is not None)

    @property
    def missing_answers(self) -> list[Branch]:
        """Answers still to generate; valid once the thinking is complete."""
        return [branch for branch in self.branches if branch.key not in self._answers]

    @property
    def has_progress(self) -> bool:
        """Whether anything was generated since the last result."""
        return self._progress() != self._reported_progress

    def end_thinking(self) -> list[Branch]:
        """Set and return `branches`; the chain must be long enough for every point."""
        self._whole_chain = chain = self.chain
        self.branches = branches_to_generate(self.job, chain, self.rules, self.token_format)
        return self.branches

    def add_answer(self, branch: Branch, ids: Sequence[int], end: AnswerEnd) -> None:
        """Store an answer."""
        self._answers[branch.key] = branch.answer(ids, end)

    def add_cost(self, cost: Cost) -> None:
        """Add to the job's cost."""
        self.cost += cost

    def checkpoint_if_due(self) -> None:
        """Call `on_checkpoint` if the last result is at least `checkpoint_seconds` old."""
        is_due = time.monotonic() - self._report_time >= self.checkpoint_seconds
        if self.on_checkpoint is not None and is_due:
            self.on_checkpoint(self.result(partial=True))

    def result(self, error: str | None = None, *, partial: bool = False) -> JobResult:
        """Return chain and answers so far, with the cost since the last result."""
        cost, self.cost = self.cost, Cost()
        self._reported_progress, self._report_time = self._progress(), time.monotonic()
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
    """An answer to generate, after a cut of the chain and the forced closing ids."""

    key: str
    chain_key: str
    cut: Cut
    closing: tuple[int, ...]

    def answer(self, ids: Sequence[int], end: AnswerEnd) -> Answer:
        """The answer with these ids."""
        return Answer(
            key=self.key,
            chain_key=self.chain_key,
            num_thinking_tokens=len(self.cut.ids),
            closing=self.closing,
            ids=tuple(ids),
            end_reason=end,
        )


def branches_to_generate(
    job: Job, chain: Chain, rules: ForcingRules, token_format: TokenFormat
) -> list[Branch]:
    """The distinct answers of the job's points, without cached ones.

    The chain must be long enough for every point.
    """
    chain_key, branches = job.key, dict[str, Branch]()
    for point in job.points:
        cut = cut_at(chain, rules, point)
        assert cut is not None, "the chain is too short for one of the job's points"
        closing = closing_ids_after(cut, token_format, job.request.budget, forced=point.forced)
        if closing is not None:
            key = job.request.answer_key(cut.ids, closing, chain_key=chain_key)
            if key not in job.answer_keys:
                branches[key] = Branch(key=key, chain_key=chain_key, cut=cut, closing=closing)
    return list(branches.values())


def cut_at(chain: Chain, rules: ForcingRules, point: Point) -> Cut | None:
    """The chain's thinking at this point; None if the chain is too short."""
    return cut_chain(chain, rules, cap=point.cap, waits=point.waits, steps=point.steps)


def closing_ids_after(
    cut: Cut, token_format: TokenFormat, budget: Budget, *, forced: bool
) -> tuple[int, ...] | None:
    """The ids to force after this thinking; None if no answer follows."""
    natural = cut.end_reason is ThinkingEnd.NATURAL
    if not forced and not natural:
        return None
    cue = budget.final_answer_cue if forced else None
    return token_format.closing_ids(cut.ids, natural=natural, cue=cue)


def draw_uniform(seed: int, *draw_key: object) -> float:
    """The number in [0, 1) that decides one draw: a hash of a request's seed, its sample index and
    the `draw_key` of the draw within it."""
    data = repr((seed, *draw_key)).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") / 2**64


def check_context(job: Job, *, max_context: int, limit: str = "the model's context") -> None:
    """Raise ConfigError if prompt, thinking, closing and answer may exceed the context (nothing is
    ever truncated), and for a negative budget."""
    for point in job.points:
        if point.cap < 0 or point.waits < 0 or (point.steps or 0) < 0:
            raise ConfigError(
                f"budget: a cap of {point.cap}, {point.waits} waits, {point.steps} steps; expected "
                "counts of 0 or more. Change the caps, the waits or forcing.max_thinking_steps."
            )
    num_tokens = max_job_tokens(job)
    if num_tokens > max_context:
        num_prompt, cap = len(job.request.prompt_ids), job.largest_point.cap
        raise ConfigError(
            f"budget: a prompt of {num_prompt} tokens, a cap of {cap} and "
            f"{num_tokens - num_prompt - cap} for the answer need {num_tokens}; {limit} is "
            f"{max_context}. Lower caps or forcing.answer_tokens, or remove the longest problems."
        )


def max_job_tokens(job: Job) -> int:
    """Upper bound of the number of tokens of prompt, thinking, closing and answer together."""
    request = job.request
    closing = request.format.end + (request.budget.final_answer_cue or "")
    closing_tokens = max(32, 1 + len(closing.encode()))  # no token is shorter than a byte
    answer_tokens = request.budget.answer_tokens
    return len(request.prompt_ids) + job.largest_point.cap + answer_tokens + closing_tokens
