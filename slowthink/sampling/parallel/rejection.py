"""Rejection sampling: draw until the thinking is short enough (s1, arXiv 2501.19393, section 5.2).

The decision is a pure function of tries in order; the live form draws more, one a problem at a
time, until every limit has decided. What stands in the ledger is tried first and not drawn again.
One real record: `RejectionResult(state=ACCEPTED, num_tries=3, num_tokens=171, correct=True)`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slowthink.analysis.statistics import NUM_RESAMPLES
from slowthink.recipe import RejectionConfig
from slowthink.records import Completion, Problem, ThinkingEnd, Verdict
from slowthink.sampling.parallel.context import ParallelContext, num_completion_tokens
from slowthink.sampling.parallel.votes import ProblemVotes, VotePoint, curve_point
from slowthink.sampling.sampler import Task


class RejectionState(enum.Enum):
    """How far a problem has come at one limit."""

    ACCEPTED = "accepted"
    UNRESOLVED = "unresolved"
    """No try was short enough, and there are no more."""
    OPEN = "open"
    """Another try is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectionSample:
    """One sample."""

    num_thinking_tokens: int
    ended: bool
    """Its thinking ended by itself; what ran into the cap is too long for every limit."""
    correct: bool
    num_tokens: int
    """Thinking, closing and answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectionResult:
    """What became of a problem at one limit."""

    state: RejectionState
    num_tries: int
    num_tokens: int
    """Of all tries up to the accepted one, rejected ones whole."""
    correct: bool = False


def decide(tries: Sequence[RejectionSample], *, limit: int, max_tries: int) -> RejectionResult:
    """Accept the first try whose thinking has at most `limit` tokens; at most `max_tries` are
    looked at."""
    spent = 0
    for number, one in enumerate(tries[:max_tries], 1):
        spent += one.num_tokens
        if one.ended and one.num_thinking_tokens <= limit:
            return RejectionResult(
                state=RejectionState.ACCEPTED,
                num_tries=number,
                num_tokens=spent,
                correct=one.correct,
            )
    looked = min(len(tries), max_tries)
    state = RejectionState.UNRESOLVED if looked == max_tries else RejectionState.OPEN
    return RejectionResult(state=state, num_tries=looked, num_tokens=spent)


def rejection_curve(
    tries: Mapping[str, Sequence[RejectionSample]],
    config: RejectionConfig,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[VotePoint]:
    """A point a limit, out of the same tries; unresolved problems count as wrong.

    Raises ValueError where a problem needs more tries than it has.
    """
    points = []
    for limit in sorted(config.limits):
        found = [decide(one, limit=limit, max_tries=config.max_tries) for one in tries.values()]
        if any(decision.state is RejectionState.OPEN for decision in found):
            raise ValueError(f"rejection: tries are missing at the limit of {limit}; draw more")
        outcomes = [
            ProblemVotes(
                accuracy=float(decision.correct),
                num_tokens=decision.num_tokens,
                resolved=decision.state is RejectionState.ACCEPTED,
            )
            for decision in found
        ]
        if outcomes:
            points.append(curve_point(limit, outcomes, seed=seed, num_resamples=num_resamples))
    return points


def draw_samples(
    asking: ParallelContext, problems: Sequence[Problem], config: RejectionConfig
) -> dict[str, list[RejectionSample]]:
    """Tries by problem id, as many as the limits need; what cannot be graded is left out."""
    asking.require_draws("rejection sampling")
    sampler = asking.sampler()
    tasks = {one.id: asking.tasks(one, num_samples=config.max_tries) for one in problems}
    tries: dict[str, list[RejectionSample]] = {one.id: [] for one in problems}
    open_ones = list(problems)
    while open_ones:
        wave = [tasks[one.id][len(tries[one.id])] for one in open_ones]
        found = sampler.complete(wave)
        for task, (completion,) in zip(wave, found, strict=True):
            _add(asking, tries, task, completion)
        open_ones = [one for one in open_ones if _needs_more(tries.get(one.id), config)]
    return tries


def _add(
    asking: ParallelContext,
    tries: dict[str, list[RejectionSample]],
    task: Task,
    completion: Completion,
) -> None:
    """Put one more try to its problem; a problem that cannot be graded leaves."""
    grade = asking.grade(task.problem, completion)
    if not grade.verdict.counts:
        tries.pop(task.problem.id, None)
        return
    tries[task.problem.id].append(
        RejectionSample(
            num_thinking_tokens=completion.num_thinking_tokens,
            ended=completion.thinking_end is ThinkingEnd.NATURAL,
            correct=grade.verdict is Verdict.CORRECT,
            num_tokens=num_completion_tokens(completion),
        )
    )


def _needs_more(tries: Sequence[RejectionSample] | None, config: RejectionConfig) -> bool:
    return tries is not None and any(
        decide(tries, limit=limit, max_tries=config.max_tries).state is RejectionState.OPEN
        for limit in config.limits
    )
