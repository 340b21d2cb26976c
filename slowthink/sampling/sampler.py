"""Requests → ledger → session → verified completions → grades; for filter, evaluate and the judge.

What the ledger has is not asked again; what comes back is recorded at once, what long jobs have
come to so far among it; every completion is checked against its budget from its ids.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slowthink.engines.session import Job, JobResult, Point, Session, closing_of, cut_at
from slowthink.environment import versions
from slowthink.errors import EngineError
from slowthink.forcing.cuts import Cut, check_budget
from slowthink.forcing.formats import TokenFormat, compile_format, format_of
from slowthink.forcing.machine import ForcingRules, make_rules
from slowthink.forcing.prompts import prompt_ids
from slowthink.grading import Grader
from slowthink.recipe import ChatConfig, Recipe
from slowthink.records import (
    Answer,
    AnswerEnd,
    Budget,
    Chain,
    Completion,
    Cost,
    Grade,
    Problem,
    Request,
    Sampling,
    ThinkingEnd,
    item_seed,
)
from slowthink.sampling.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Task:
    """One sample of one problem, and the points wanted of its chain."""

    problem: Problem
    request: Request
    points: tuple[Point, ...]


class Sampler:
    """Completions out of a ledger and a session."""

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        *,
        tag: str,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.session = session
        self.ledger = ledger
        self.tag = tag
        self._progress = progress
        self._versions = json.dumps(versions(), sort_keys=True)
        self._formats: dict[Any, TokenFormat] = {}
        self._rules: dict[Any, ForcingRules] = {}

    def complete(self, tasks: Sequence[Task]) -> list[list[Completion]]:
        """Each task's completions, a point each; asks the model only for what is missing."""
        keys = [task.request.chain_key() for task in tasks]
        chains = self.ledger.chains(keys)
        answers = self.ledger.answers(keys)
        known = frozenset(answers)
        jobs = _merged(
            Job(request=task.request, points=task.points, chain=chains.get(key), answer_keys=known)
            for task, key in zip(tasks, keys, strict=True)
            if not all(self._has(task, point, chains.get(key), answers) for point in task.points)
        )
        errors: list[str] = []
        for outcomes in self._batches(jobs, total=len(tasks)):
            for outcome in outcomes:
                chains[outcome.key] = outcome.chain
                answers.update({answer.key: answer for answer in outcome.answers})
                errors += [outcome.error] if outcome.error else []
        _raise_job_errors(errors, num_jobs=len(jobs))
        return [
            [self._assemble(task, point, chains[key], answers) for point in task.points]
            for task, key in zip(tasks, keys, strict=True)
        ]

    def _batches(self, jobs: Sequence[Job], *, total: int) -> Any:
        for job in jobs:
            self.session.submit(job)
        left, started = len(jobs), time.monotonic()
        self._progress(total - left, total)
        while left:
            outcomes = self.session.completed()
            now = time.monotonic()
            self._record(outcomes, seconds=now - started)
            left, started = left - sum(not outcome.partial for outcome in outcomes), now
            self._progress(total - left, total)
            yield outcomes

    def _record(self, outcomes: Sequence[JobResult], *, seconds: float) -> None:
        self.ledger.record(
            [outcome.chain for outcome in outcomes],
            [answer for outcome in outcomes for answer in outcome.answers],
            tag=self.tag,
            cost=sum((outcome.cost for outcome in outcomes), Cost()),
            seconds=seconds,
            versions=self._versions,
            batch=len(outcomes),
        )

    def _has(
        self, task: Task, point: Point, chain: Chain | None, answers: dict[str, Answer]
    ) -> bool:
        if chain is None:
            return False
        cut = cut_at(chain, self._rules_of(task), point)
        if cut is None:
            return False
        closing = self._closing(task, point, cut)
        return closing is None or task.request.answer_key(cut.ids, closing) in answers

    def task_queue(self) -> TaskQueue:
        """Tasks given bit by bit."""
        return TaskQueue(self)

    # -- assembling --

    def _format_of(self, task: Task) -> TokenFormat:
        format = task.request.format
        if format not in self._formats:
            session = self.session
            self._formats[format] = compile_format(
                format, session.tokenizer, eos_ids=session.eos_ids
            )
        return self._formats[format]

    def _rules_of(self, task: Task) -> ForcingRules:
        key = (task.request.format, task.request.budget)
        if key not in self._rules:
            self._rules[key] = make_rules(task.request.budget, self._format_of(task))
        return self._rules[key]

    def _closing(self, task: Task, point: Point, cut: Cut) -> tuple[int, ...] | None:
        return closing_of(cut, self._format_of(task), task.request.budget, forced=point.forced)

    def _assemble(
        self, task: Task, point: Point, chain: Chain, answers: dict[str, Answer]
    ) -> Completion:
        rules, token_format = self._rules_of(task), self._format_of(task)
        cut = cut_at(chain, rules, point)
        assert cut is not None
        closing = self._closing(task, point, cut)
        answer = answers[task.request.answer_key(cut.ids, closing)] if closing is not None else None
        thinking = token_format.decode(cut.ids)
        return Completion(
            key=task.request.key(),
            chain_key=chain.key,
            num_prompt_tokens=len(task.request.prompt_ids),
            thinking_ids=cut.ids,
            thinking=thinking,
            answer_ids=answer.ids if answer else (),
            answer=_answer_text(answer, token_format) if answer else thinking,
            closing_ids=closing or (),
            thinking_end=cut.end,
            answer_end=answer.end if answer else _unasked(cut, token_format),
            events=cut.events,
            num_forced_tokens=cut.num_forced + len(closing or ()),
            violations=check_budget(
                cut, rules, cap=point.cap, waits=point.waits, steps=point.steps
            ),
            seed=task.request.seed,
            count_source=getattr(self.session, "count_source", "ids"),
        )


class TaskQueue:
    """Tasks that are submitted and cancelled as one goes; completions come as they are finished.

    Each task has one point. What comes back of a cancelled job is recorded and counted, no more.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.num_cancelled = 0
        """Tasks taken back before they came."""
        self.num_late_tokens = 0
        """Tokens that came of cancelled tasks nevertheless."""
        self._sampler = sampler
        self._waiting: dict[str, list[Task]] = {}
        self._ready: list[tuple[Task, Completion]] = []
        self._errors: list[str] = []
        self._num_jobs = 0
        self._started = time.monotonic()

    def submit(self, tasks: Sequence[Task]) -> None:
        """Ask for these; what the ledger has is there at once."""
        sampler, keys = self._sampler, [task.request.chain_key() for task in tasks]
        chains, answers = sampler.ledger.chains(keys), sampler.ledger.answers(keys)
        known = frozenset(answers)
        for task, key in zip(tasks, keys, strict=True):
            chain, (point,) = chains.get(key), task.points
            if chain is not None and sampler._has(task, point, chain, answers):
                self._ready.append((task, sampler._assemble(task, point, chain, answers)))
                continue
            if key not in self._waiting:
                self._num_jobs += 1
                sampler.session.submit(
                    Job(request=task.request, points=task.points, chain=chain, answer_keys=known)
                )
            self._waiting.setdefault(key, []).append(task)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Take these back; a job goes when nobody waits for it any more."""
        for task in tasks:
            key = task.request.chain_key()
            if task in self._waiting.get(key, ()):
                self._waiting[key].remove(task)
                self.num_cancelled += 1
                if not self._waiting[key]:
                    del self._waiting[key]
                    self._sampler.session.cancel([key])

    def completed(self) -> list[tuple[Task, Completion]]:
        """What has come since the last call; waits for something. Empty: nothing is outstanding.

        Raises EngineError where jobs failed, once all others are done.
        """
        while not self._ready and self._waiting:
            outcomes = self._sampler.session.completed()
            now = time.monotonic()
            self._sampler._record(outcomes, seconds=now - self._started)
            self._started = now
            for outcome in outcomes:
                self._take(outcome)
        found, self._ready = self._ready, []
        if not found:
            _raise_job_errors(self._errors, num_jobs=self._num_jobs)
        return found

    def _take(self, outcome: JobResult) -> None:
        if outcome.key not in self._waiting:
            self.num_late_tokens += outcome.cost.decoded
        if outcome.partial or outcome.key not in self._waiting:
            return
        tasks = self._waiting.pop(outcome.key)
        if outcome.error:
            self._errors.append(outcome.error)
            return
        sampler = self._sampler
        answers = sampler.ledger.answers([outcome.key])
        for task in tasks:
            found = sampler._assemble(task, task.points[0], outcome.chain, answers)
            self._ready.append((task, found))


def _raise_job_errors(errors: Sequence[str], *, num_jobs: int) -> None:
    """Raise EngineError where a job failed: an error is an attempt, and satisfies no request."""
    if errors:
        raise EngineError(
            f"{len(errors)} of {num_jobs} requests failed, the first by: {errors[0]}\n"
            "All others are stored, and what the failed ones had come to. "
            "Give the same command again: only what is missing is asked."
        )


def session_facts(session: Session) -> dict[str, Any]:
    """What a manifest should say of a session beside its tokens: what servers did that they were
    not asked to, and what was tried again, by count."""
    anomalies = getattr(session, "oddities", None)
    return {"server": dict(sorted(anomalies.items()))} if anomalies else {}


def _merged(jobs: Iterable[Job]) -> list[Job]:
    """One job a chain: tasks that share theirs (an equal problem) have their points together."""
    found: dict[str, Job] = {}
    for job in jobs:
        other = found.get(job.key)
        points = job.points if other is None else tuple(dict.fromkeys(other.points + job.points))
        found[job.key] = replace(job, points=points)
    return list(found.values())


def _answer_text(answer: Answer, token_format: TokenFormat) -> str:
    """The answer part, a forced cue included."""
    text = token_format.decode((*answer.closing, *answer.ids))
    delimiter = token_format.format.end
    return text.split(delimiter, 1)[-1] if delimiter else text


def _unasked(cut: Cut, token_format: TokenFormat) -> AnswerEnd:
    """How a completion without an answer part ended: without a thinking format, as its text did."""
    whole = cut.end is ThinkingEnd.NATURAL and not token_format.has_thinking
    return AnswerEnd.STOP if whole else AnswerEnd.LENGTH


# --- asking a model about problems ----------------------------------------------------------------


def make_tasks(
    session: Session,
    problems: Sequence[Problem],
    *,
    recipe: Recipe,
    chat: ChatConfig,
    budget: Budget | Callable[[Problem], Budget],
    sampling: Sampling,
    points: Sequence[Point],
    num_samples: int = 1,
    earlier: Sequence[Mapping[str, str]] = (),
) -> list[Task]:
    """One task per problem and sample, sample by sample within a problem.

    `earlier` are a talk's messages before the questions.

    The budget is one for all, or a problem's own: its texts go by the problem's language.
    """
    format = format_of(chat.format, session.tokenizer, recipe.formats)
    tasks = []
    for problem in problems:
        ids = prompt_ids(session.tokenizer, problem, chat, recipe.formats, earlier=earlier)
        for sample in range(num_samples):
            request = Request(
                model=session.fingerprint,
                numerics=session.numerics,
                prompt_ids=ids,
                format=format,
                sampling=sampling,
                budget=budget if isinstance(budget, Budget) else budget(problem),
                seed=item_seed(recipe.seed, "sampling", problem.id) if sampling.temperature else 0,
                sample=sample if sampling.temperature else 0,
            )
            tasks.append(Task(problem=problem, request=request, points=tuple(points)))
    return tasks


def grade_completion(
    grader: Grader, problem: Problem, completion: Completion, *, last_number: bool = False
) -> Grade:
    """The verdict on a completion's answer part; thinking is never read."""
    truncated = is_truncated(
        completion.answer, completion.answer_end, forced=bool(completion.closing_ids)
    )
    return grader.grade(problem, completion.answer, truncated=truncated, last_number=last_number)


def is_truncated(answer: str, end: AnswerEnd, *, forced: bool) -> bool:
    """Whether an answer ran into its limit before it was whole.

    After a forced closing the first line is the answer, so a model that goes on talking has
    answered; so has one that closed a box.
    """
    text = answer.strip()
    whole = forced and ("\n" in text or ("\\boxed{" in text and "}" in text))
    return end is AnswerEnd.LENGTH and not whole
