"""One step of the filter by difficulty: its models in turn, their decisions put together.

trial.dropped == {"difficulty: fine": [Dropped(…), …], "difficulty: fine: key in doubt": []}
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.engines import open_session
from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import AttemptModel, DifficultyStep, KeyCheckConfig
from slowthink.records import Dropped, Grade, Problem, Verdict
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, session_facts
from slowthink.serialise import plain
from slowthink.stages.filter.difficulty.attempts import (
    ModelSource,
    RecordedSource,
    first_tasks,
    recorded,
    run_attempts,
)
from slowthink.stages.filter.difficulty.band import Band, BandDecision
from slowthink.stages.filter.difficulty.cost import model_name, settings_of, step_name
from slowthink.stages.filter.difficulty.keys import Doubt, KeyCheck, doubt
from slowthink.stages.filter.difficulty.measure import Measure, measure, reason
from slowthink.stages.filter.difficulty.stopping import (
    AttemptTracker,
    Exact,
    KeyChecked,
    Majority,
    Never,
    Rule,
)


@dataclass(frozen=True)
class StepContext:
    """What every step works with."""

    context: StageContext
    ledger: Ledger
    grader: Grader


@dataclass(frozen=True)
class ProblemAttempts:
    """What one model's attempts at one problem came to."""

    measure: Measure
    votes: Sequence[Grade]
    """Attempts for the check of the key. Greedy ones are all the same, and count once."""


@dataclass
class StepResult:
    """What one step came to."""

    name: str
    measures: list[Measure] = field(default_factory=list)
    """By model, then problem."""
    dropped: dict[str, list[Dropped]] = field(default_factory=dict)
    """By the name of the funnel's step."""
    doubts: list[Doubt] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Each model's attempts, tokens and speed, as JSON."""


def run_trial(
    problems: Sequence[Problem],
    step: DifficultyStep,
    *,
    tools: StepContext,
    key_check: KeyCheckConfig | None,
    is_last: bool,
) -> StepResult:
    """Each model on the problems that are open for it, then the step's decisions.

    Keys are looked at of problems that go as too hard, and in the last step of those that stay: a
    later, stronger model is to be believed first.
    """
    trial = StepResult(step_name(step))
    problems = sorted(problems, key=lambda problem: problem.id)
    tried: dict[str, list[ProblemAttempts]] = {problem.id: [] for problem in problems}
    open_ones = problems
    for place, model in enumerate(step.models):
        votes = {one: [g for what in found for g in what.votes] for one, found in tried.items()}
        watch = _watch(step, place, votes, key_check=key_check, is_last=is_last)
        asking = _AttemptRunner(tools, step, model, watch)
        found = asking.run(open_ones)
        trial.attempts.append({"step": trial.name, "model": asking.name} | asking.facts)
        trial.measures += [one.measure for one in found.values()]
        for one, what in found.items():
            tried[one].append(what)
        open_ones = [one for one in open_ones if _goes_on(found.get(one.id), rule=step.rule)]
    check = functools.partial(doubt, grader=tools.grader, config=key_check) if key_check else None
    for problem in problems:
        _decide(trial, problem, tried[problem.id], step=step, check=check, is_last=is_last)
    trial.dropped = dict(sorted(trial.dropped.items(), reverse=True))  # doubts leave first
    return trial


def _watch(
    step: DifficultyStep,
    place: int,
    votes: Mapping[str, Sequence[Grade]],
    *,
    key_check: KeyCheckConfig | None,
    is_last: bool,
) -> KeyCheck | None:
    """What the model at this place must leave as it is when it stops early: what all attempts would
    say of keys. None: nothing; greedy attempts are all the same, and vote once."""
    if key_check is None or step.stop != "exact" or not _num_votes(step.models[place], step) > 1:
        return None
    later = sum(_num_votes(model, step) for model in step.models[place + 1 :])
    outcomes = {BandDecision.TOO_RARELY}
    if is_last or later:
        outcomes.add(BandDecision.KEEP)
    if step.rule == "all" and len(step.models) > 1:  # another model may keep it
        outcomes = {BandDecision.TOO_RARELY, BandDecision.KEEP, BandDecision.TOO_OFTEN}
    return KeyCheck(
        config=key_check, outcomes=frozenset(outcomes), before=votes, num_later=later
    )  # fmt: skip


def _num_votes(model: AttemptModel, step: DifficultyStep) -> int:
    return 1 if _is_greedy(model, step) else step.num_attempts


def _is_greedy(model: AttemptModel, step: DifficultyStep) -> bool:
    return model.samples is None and not settings_of(model, step)[2]


def _goes_on(tried: ProblemAttempts | None, *, rule: str) -> bool:
    """Whether the next model is asked: it still may change the step's decision."""
    return tried is None or (tried.measure.outcome is BandDecision.KEEP) is (rule == "any")


def combined(outcomes: Sequence[BandDecision], *, rule: str) -> BandDecision:
    """The step's decision of those of its models that tried; kept where none did.

    `any`: the first that puts the problem outside the band. `all`: kept where one keeps it, else as
    the first says.
    """
    gone = [outcome for outcome in outcomes if outcome is not BandDecision.KEEP]
    if not gone or (rule == "all" and len(gone) < len(outcomes)):
        return BandDecision.KEEP
    return gone[0]


def _decide(
    trial: StepResult,
    problem: Problem,
    tried: Sequence[ProblemAttempts],
    *,
    step: DifficultyStep,
    check: Callable[[Problem, Sequence[Grade]], Doubt | None] | None,
    is_last: bool,
) -> None:
    """Note down what becomes of a problem."""
    in_doubt = f"{trial.name}: key in doubt"
    measures = [one.measure for one in tried]
    outcome = combined([one.outcome for one in measures], rule=step.rule)
    if check and (outcome is BandDecision.TOO_RARELY or (is_last and outcome is BandDecision.KEEP)):
        found = check(problem, [grade for one in tried for grade in one.votes])
        if found is not None:
            trial.doubts.append(found)
            trial.dropped.setdefault(in_doubt, []).append(found.dropped(in_doubt))
            return
    why = reason(outcome, step)
    found_here = trial.dropped.setdefault(trial.name, [])
    if why is not None:
        text = _evidence(measures)
        found_here.append(Dropped(id=problem.id, step=trial.name, reason=why, evidence=text))


def _evidence(measures: Sequence[Measure]) -> str:
    """The measurements; of several models with their names."""
    if len(measures) == 1:
        return measures[0].evidence()
    return "; ".join(f"{one.model}: {one.evidence()}" for one in measures)


class _AttemptRunner:
    """One model's attempts at some problems."""

    def __init__(
        self, tools: StepContext, step: DifficultyStep, model: AttemptModel, watch: KeyCheck | None
    ) -> None:
        self.name = model_name(model, tools.context.recipe)
        self.facts: dict[str, Any] = {}
        self._context, self._ledger, self._grader = tools.context, tools.ledger, tools.grader
        self._step, self._model, self._watch = step, model, watch

    def run(self, problems: Sequence[Problem]) -> dict[str, ProblemAttempts]:
        """By problem, in order of id; those that cannot be tried are not among them."""
        self.facts = {"num_problems": 0, "num_untested": 0, "budget_violations": 0}
        if not problems:
            return {}
        path = self._model.samples
        follows = self._from_model(problems) if path is None else self._from_file(problems, path)
        return {one: self._tried(one, follow) for one, follow in sorted(follows.items())}

    def _tried(self, problem_id: str, follow: AttemptTracker) -> ProblemAttempts:
        greedy = _is_greedy(self._model, self._step)
        found = measure(
            problem_id, follow.grades, step=self._step, outcome=follow.outcome, model=self.name
        )
        return ProblemAttempts(found, follow.grades[:1] if greedy else follow.grades)

    def _from_file(self, problems: Sequence[Problem], path: str) -> dict[str, AttemptTracker]:
        samples = recorded(
            path, problems, num_attempts=self._step.num_attempts, model=self._model.model,
            last_number=self._model.last_number,
        )  # fmt: skip
        tried = [problem for problem in problems if problem.id in samples]
        follows = self._follow(tried, RecordedSource(samples, self._grader))
        self.facts |= {"num_untested": len(problems) - len(tried)}
        return follows

    def _from_model(self, problems: Sequence[Problem]) -> dict[str, AttemptTracker]:
        context, model, started = self._context, self._model, time.monotonic()
        name, revision = model.model or context.recipe.model, model.revision
        revision = revision if model.model else context.recipe.revision
        engine = model.engine or context.recipe.engine
        with open_session(name, engine, revision=revision, notify=context.notify) as session:
            sampler = Sampler(session, self._ledger, tag=context.stage)
            firsts = first_tasks(session, problems, model, step=self._step, recipe=context.recipe)
            source = ModelSource(sampler, self._grader, firsts)
            follows = self._follow(problems, source)
            unused = sum(
                num_tokens for (one, number), num_tokens in source.num_tokens.items()
                if number >= len(follows[one].grades)
            )  # fmt: skip
            cost, seconds = session.cost, time.monotonic() - started
            self.facts |= session_facts(session)
        self.facts |= {
            "num_cancelled": source.feed.num_cancelled,
            "wasted_tokens": source.feed.num_late_tokens + unused,
            "budget_violations": source.num_violations,
            "tokens": plain(cost),
            "seconds": round(seconds, 3),
            "tokens_per_second": round(cost.decoded / seconds, 1) if cost.decoded else None,
        }
        return follows

    def _follow(
        self, problems: Sequence[Problem], source: ModelSource | RecordedSource
    ) -> dict[str, AttemptTracker]:
        """Run each problem's attempts until it is decided."""
        step = self._step
        follows = {
            problem.id: AttemptTracker(
                _rule(step, problem, self._grader, watch=self._watch),
                wave_size=step.wave_size, truncated_counts=step.truncated == "unsolved",
            )
            for problem in problems
        }  # fmt: skip
        run_attempts(source, follows, progress=self._context.progress)
        self.facts |= {
            "num_problems": len(follows),
            "num_attempts": sum(len(follow.grades) for follow in follows.values()),
            "num_possible": len(follows) * self._step.num_attempts,
            "num_wasted": sum(follow.num_unused for follow in follows.values()),
            "num_no_answer": sum(
                grade.verdict is Verdict.NO_ANSWER
                for follow in follows.values() for grade in follow.grades
            ),
        }  # fmt: skip
        return follows


def _rule(
    step: DifficultyStep, problem: Problem, grader: Grader, *, watch: KeyCheck | None = None
) -> Rule:
    early, band = step.stop == "exact", Band.of(step)
    rule: Rule = Exact(band) if early else Never(band)
    if step.measure == "majority":
        group = functools.partial(group_answers, grader=grader, choices=problem.choices)
        rule = Majority(band, group, early)
    if watch is None:
        return rule
    settled = functools.partial(watch.settled, problem=problem, grader=grader)
    return KeyChecked(rule, watch.outcomes, settled)
