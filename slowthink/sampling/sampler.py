"""Requests → ledger → session → completions → grades; used by filter, evaluate and judges.

Cached completions are reused and only missing ones are sampled. Results are stored as they arrive,
partial results of long jobs included. The token ids of every completion are checked against its
budget.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slowthink.engines.session import Job, JobResult, Point, Session, closing_ids_after, cut_at
from slowthink.environment import versions
from slowthink.errors import EngineError
from slowthink.forcing.cuts import Cut, check_budget
from slowthink.forcing.formats import TokenFormat, resolve_format
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, Recipe
from slowthink.records import (
    Answer,
    AnswerEnd,
    Budget,
    Chain,
    ChainState,
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

if TYPE_CHECKING:
    from slowthink.grading import Grader


@dataclass(frozen=True, kw_only=True)
class Task:
    """The request for one sample of a problem, and the points of its chain to complete."""

    problem: Problem
    request: Request
    points: tuple[Point, ...]


class Sampler:
    """Completes tasks from the ledger, or else by a session; the ledger counts tokens by `tag`."""

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
        self.costs: dict[str, Cost] = {}
        """Tokens spent on each chain and its answers by this sampler, by chain key."""

    def complete(self, tasks: Sequence[Task]) -> list[list[Completion]]:
        """Return each task's completions, one per point; only missing ones are sampled.

        Raises EngineError if a job failed, after all others are stored.
        """
        queue = self.task_queue()
        queue.submit(tasks)
        num_points = sum(len(task.points) for task in tasks)
        self._progress(num_points - queue.num_pending_points, num_points)
        while queue.num_pending:
            queue.poll()
            self._progress(num_points - queue.num_pending_points, num_points)
        queue.raise_errors()
        by_task = {id(task): completions for task, completions in queue.completed()}
        return [by_task[id(task)] for task in tasks]

    def task_queue(self) -> TaskQueue:
        """Return a queue to which tasks can be submitted, and in which they can be cancelled."""
        return TaskQueue(self)

    def _record(self, results: Sequence[JobResult], *, seconds: float) -> None:
        for result in results:
            self.costs[result.key] = self.costs.get(result.key, Cost()) + result.cost
        self.ledger.record(
            [result.chain for result in results],
            [answer for result in results for answer in result.answers],
            tag=self.tag,
            cost=sum((result.cost for result in results), Cost()),
            seconds=seconds,
            versions=self._versions,
            batch=len(results),
        )

    def _completions(
        self, task: Task, chain: Chain, answers: Mapping[str, Answer]
    ) -> list[Completion] | None:
        """The task's completions, one per point; None if one of them is not complete yet."""
        completions = []
        for point in task.points:
            completion = self._completion(task.request, point, chain, answers)
            if completion is None:
                return None
            completions.append(completion)
        return completions

    def _completion(
        self, request: Request, point: Point, chain: Chain, answers: Mapping[str, Answer]
    ) -> Completion | None:
        """The completion at this point; None if the chain is too short or the answer missing."""
        token_format = self.session.compiler.token_format(request.format)
        rules = self.session.compiler.rules(request.format, request.budget)
        cut = cut_at(chain, rules, point)
        if cut is None:
            return None
        closing = closing_ids_after(cut, token_format, request.budget, forced=point.forced)
        answer = None
        if closing is not None:
            answer = answers.get(request.answer_key(cut.ids, closing))
            if answer is None:
                return None
        thinking = token_format.decode(cut.ids)
        return Completion(
            key=request.key(),
            chain_key=chain.key,
            num_prompt_tokens=len(request.prompt_ids),
            thinking_ids=cut.ids,
            thinking=thinking,
            answer_ids=answer.ids if answer else (),
            answer=_answer_text(answer, token_format) if answer else thinking,
            closing_ids=closing or (),
            thinking_end=cut.end_reason,
            answer_end=answer.end_reason if answer else _end_without_answer(cut, token_format),
            events=cut.events,
            num_forced_tokens=cut.num_forced + len(closing or ()),
            violations=check_budget(
                cut, rules, cap=point.cap, waits=point.waits, steps=point.steps
            ),
            seed=request.seed,
            count_source=getattr(self.session, "count_source", "ids"),
            reported=chain.reported,
        )


class TaskQueue:
    """Pending tasks. Completions are returned as tasks finish, and tasks can be cancelled.

    Tasks with the same chain share a job; those submitted later must have the same points. Results
    of cancelled jobs are stored and counted, but not returned.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.num_cancelled = 0
        """Tasks cancelled before they finished."""
        self.num_late_tokens = 0
        """Tokens sampled for tasks after they were cancelled."""
        self._sampler = sampler
        self._pending: dict[str, list[Task]] = {}
        self._shares: dict[str, float] = {}
        """How much of each pending job is done, in [0, 1), by the last partial result."""
        self._finished: list[tuple[Task, list[Completion]]] = []
        self._errors: list[str] = []
        self._num_jobs = 0
        self._last_poll_time = time.monotonic()

    @property
    def num_pending(self) -> int:
        """Number of tasks that are neither finished nor cancelled."""
        return sum(map(len, self._pending.values()))

    @property
    def num_pending_points(self) -> int:
        """Number of completions to come; that of a running job falls with each partial result."""
        shares = (
            (1 - self._shares.get(key, 0)) * sum(len(task.points) for task in tasks)
            for key, tasks in self._pending.items()
        )
        return math.ceil(sum(shares))

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue tasks; those with cached completions finish at once."""
        sampler, keys = self._sampler, [task.request.chain_key() for task in tasks]
        chains, answers = sampler.ledger.chains(keys), sampler.ledger.answers(keys)
        answer_keys = frozenset(answers)
        missing: dict[str, list[Task]] = {}
        for task, key in zip(tasks, keys, strict=True):
            chain = chains.get(key)
            completions = sampler._completions(task, chain, answers) if chain else None
            if completions is not None:
                self._finished.append((task, completions))
            else:
                missing.setdefault(key, []).append(task)
        for key, same_chain in missing.items():
            if key not in self._pending:
                points = tuple(dict.fromkeys(point for task in same_chain for point in task.points))
                self._num_jobs += 1
                sampler.session.submit(
                    Job(
                        request=same_chain[-1].request,
                        points=points,
                        chain=chains.get(key),
                        answer_keys=answer_keys,
                    )
                )
            self._pending.setdefault(key, []).extend(same_chain)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Cancel pending tasks. A job is cancelled once none of its tasks is pending."""
        for task in tasks:
            key = task.request.chain_key()
            if task in self._pending.get(key, ()):
                self._pending[key].remove(task)
                self.num_cancelled += 1
                if not self._pending[key]:
                    del self._pending[key]
                    self._sampler.session.cancel([key])

    def completed(self) -> list[tuple[Task, list[Completion]]]:
        """Return tasks finished since the last call, each with its completions, one per point.

        Blocks until a task finishes; returns an empty list if none is pending. Raises EngineError
        if a job failed, after all others are finished.
        """
        while not self._finished and self._pending:
            self.poll()
        finished, self._finished = self._finished, []
        if not finished:
            self.raise_errors()
        return finished

    def poll(self) -> None:
        """Wait for the session's next results, partial ones included, and store them."""
        results = self._sampler.session.completed()
        now = time.monotonic()
        self._sampler._record(results, seconds=now - self._last_poll_time)
        self._last_poll_time = now
        for result in results:
            self._process(result)

    def raise_errors(self) -> None:
        """Raise EngineError if any job failed."""
        if self._errors:
            raise EngineError(
                f"{len(self._errors)} of {self._num_jobs} requests failed, the first with: "
                f"{self._errors[0]}\nAll other completions are stored, and partial results of the "
                "failed ones. Run the same command again: only missing completions are sampled."
            )

    def _process(self, result: JobResult) -> None:
        if result.key not in self._pending:
            self.num_late_tokens += result.cost.decoded
        if result.key not in self._pending:
            return
        if result.partial:
            share = share_done(result, self._pending[result.key])
            self._shares[result.key] = max(share, self._shares.get(result.key, 0))
            return
        tasks = self._pending.pop(result.key)
        if result.error:
            self._errors.append(result.error)
            return
        answers = self._sampler.ledger.answers([result.key])
        for task in tasks:
            completions = self._sampler._completions(task, result.chain, answers)
            if completions is None:
                raise EngineError(
                    f"{self._sampler.ledger.path}: an answer that was stored is not there; "
                    "expected every answer of a finished job. The ledger is damaged: restore a "
                    "backup of it, or move it away and run the same command again."
                )
            self._finished.append((task, completions))


def share_done(result: JobResult, tasks: Sequence[Task]) -> float:
    """How much of the tokens of a job that still runs are generated, in [0, 1).

    Thinking counts up to the largest cap, and wholly once it has ended; an answer counts once it is
    there, with its limit.
    """
    points = {point for task in tasks for point in task.points}
    cap = max(1, *(point.cap for point in points))
    answer_tokens = tasks[-1].request.budget.answer_tokens
    has_ended = bool(result.answers) or result.chain.state is ChainState.ENDED
    num_thinking = cap if has_ended else min(len(result.chain.ids), cap)
    num_answers = min(len(result.answers), len(points))
    total = cap + len(points) * answer_tokens
    return min((num_thinking + num_answers * answer_tokens) / total, 0.999)


def session_facts(session: Session) -> dict[str, Any]:
    """Facts about a session for the manifest: anomalies and retries of servers, with counts."""
    anomalies = getattr(session, "anomalies", None)
    return {"server": dict(sorted(anomalies.items()))} if anomalies else {}


def _answer_text(answer: Answer, token_format: TokenFormat) -> str:
    """The answer as text, including a forced cue."""
    text = token_format.decode((*answer.closing, *answer.ids))
    delimiter = token_format.format.end
    return text.split(delimiter, 1)[-1] if delimiter else text


def _end_without_answer(cut: Cut, token_format: TokenFormat) -> AnswerEnd:
    """STOP if the text ended by itself in a format without delimiter, otherwise LENGTH."""
    ended = cut.end_reason is ThinkingEnd.NATURAL and not token_format.has_delimiter
    return AnswerEnd.STOP if ended else AnswerEnd.LENGTH


# --- tasks and grades -----------------------------------------------------------------------------


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
    history: Sequence[Mapping[str, str]] = (),
) -> list[Task]:
    """Return one task per problem and sample, in the order of problems.

    `history`: messages of the conversation before each question. `budget` may be a function of the
    problem, since its texts depend on the problem's language. At temperature 0 all samples of a
    problem are equal.
    """
    format = resolve_format(chat.format, session.tokenizer, recipe.formats)
    tasks = []
    for problem in problems:
        ids = prompt_ids(session.tokenizer, problem, chat, recipe.formats, history=history)
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
    """Grade a completion's answer; its thinking is never read."""
    truncated = is_truncated(
        completion.answer, completion.answer_end, forced=bool(completion.closing_ids)
    )
    return grader.grade(problem, completion.answer, truncated=truncated, last_number=last_number)


def is_truncated(answer: str, end: AnswerEnd, *, forced: bool) -> bool:
    """Whether an answer reached its token limit before it was complete.

    After a forced closing, an answer is complete after its first line or a closed box.
    """
    text = answer.strip()
    complete = forced and ("\n" in text or ("\\boxed{" in text and "}" in text))
    return end is AnswerEnd.LENGTH and not complete
