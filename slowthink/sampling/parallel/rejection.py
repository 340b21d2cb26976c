"""Rejection sampling: sample until thinking is short enough (s1, arXiv 2501.19393, section 5.2).

`decide` reads a problem's samples in order. `sample_until_decided` samples once more for every
undecided problem, until all limits are decided; cached samples are reused. One real
record: `RejectionResult(state=ACCEPTED, num_tries=3, num_tokens=171, correct=True)`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slowthink.analysis.statistics import NUM_RESAMPLES
from slowthink.analysis.votes import ProblemVotes, VotePoint, curve_point
from slowthink.recipe import RejectionConfig
from slowthink.records import Completion, Problem, ThinkingEnd, Verdict
from slowthink.sampling.parallel.context import ParallelContext, num_completion_tokens


class RejectionState(enum.Enum):
    """Whether a problem is decided at one limit."""

    ACCEPTED = "accepted"
    UNRESOLVED = "unresolved"
    """All samples were too long."""
    OPEN = "open"
    """Another sample is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectionSample:
    """One graded sample."""

    num_thinking_tokens: int
    ended: bool
    """Thinking ended by itself. If it reached the cap, it is too long for every limit."""
    correct: bool
    num_tokens: int
    """Tokens of thinking, closing and answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectionResult:
    """Result of rejection sampling on one problem at one limit."""

    state: RejectionState
    num_tries: int
    num_tokens: int
    """Tokens of all samples up to the accepted one."""
    correct: bool = False


def decide(samples: Sequence[RejectionSample], *, limit: int, max_tries: int) -> RejectionResult:
    """Accept the first of `max_tries` samples whose thinking has at most `limit` tokens."""
    num_tokens = 0
    for num_tries, sample in enumerate(samples[:max_tries], 1):
        num_tokens += sample.num_tokens
        if sample.ended and sample.num_thinking_tokens <= limit:
            return RejectionResult(
                state=RejectionState.ACCEPTED,
                num_tries=num_tries,
                num_tokens=num_tokens,
                correct=sample.correct,
            )
    num_tries = min(len(samples), max_tries)
    state = RejectionState.UNRESOLVED if num_tries == max_tries else RejectionState.OPEN
    return RejectionResult(state=state, num_tries=num_tries, num_tokens=num_tokens)


def rejection_curve(
    samples: Mapping[str, Sequence[RejectionSample]],
    config: RejectionConfig,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> list[VotePoint]:
    """Return one point per limit from the same samples; unresolved problems count as wrong.

    Raises ValueError if a problem needs more samples than it has.
    """
    points = []
    for limit in sorted(config.limits):
        results = [
            decide(problem_samples, limit=limit, max_tries=config.max_tries)
            for problem_samples in samples.values()
        ]
        if any(result.state is RejectionState.OPEN for result in results):
            raise ValueError(f"rejection: samples are missing at the limit of {limit}; sample more")
        votes = [
            ProblemVotes(
                accuracy=float(result.correct),
                num_tokens=result.num_tokens,
                resolved=result.state is RejectionState.ACCEPTED,
            )
            for result in results
        ]
        if votes:
            points.append(curve_point(limit, votes, seed=seed, num_resamples=num_resamples))
    return points


def sample_until_decided(
    context: ParallelContext, problems: Sequence[Problem], config: RejectionConfig
) -> dict[str, list[RejectionSample]]:
    """Sample each problem as often as the limits need; returns the samples by problem id.

    Problems that cannot be graded are left out.
    """
    context.require_temperature("rejection sampling")
    sampler = context.sampler()
    tasks = {
        problem.id: context.tasks(problem, num_samples=config.max_tries) for problem in problems
    }
    samples: dict[str, list[RejectionSample]] = {problem.id: [] for problem in problems}
    undecided = list(problems)
    while undecided:
        next_tasks = [tasks[problem.id][len(samples[problem.id])] for problem in undecided]
        completions = sampler.complete(next_tasks)
        for problem, (completion,) in zip(undecided, completions, strict=True):
            sample = _graded_sample(context, problem, completion)
            if sample is None:
                samples.pop(problem.id, None)
            else:
                samples[problem.id].append(sample)
        undecided = [
            problem for problem in undecided if _needs_more(samples.get(problem.id), config)
        ]
    return samples


def _graded_sample(
    context: ParallelContext, problem: Problem, completion: Completion
) -> RejectionSample | None:
    grade = context.grade(problem, completion)
    if not grade.verdict.is_counted:
        return None
    return RejectionSample(
        num_thinking_tokens=completion.num_thinking_tokens,
        ended=completion.thinking_end is ThinkingEnd.NATURAL,
        correct=grade.verdict is Verdict.CORRECT,
        num_tokens=num_completion_tokens(completion),
    )


def _needs_more(samples: Sequence[RejectionSample] | None, config: RejectionConfig) -> bool:
    return samples is not None and any(
        decide(samples, limit=limit, max_tries=config.max_tries).state is RejectionState.OPEN
        for limit in config.limits
    )
