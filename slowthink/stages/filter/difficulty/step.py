"""One step of the filter by difficulty: its models in order, and their combined decisions.

result.dropped == {"difficulty: fine": [Dropped(…), …], "difficulty: fine: key in doubt": []}
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.data.tables import RecordWriter
from slowthink.engines import open_session
from slowthink.grading import Grader
from slowthink.grading.cluster import group_answers
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import AttemptModel, DifficultyStep, KeyCheckConfig
from slowthink.records import Dropped, Grade, Problem, Verdict
from slowthink.sampling.attempts import (
    AttemptSource,
    AttemptTracker,
    ModelSource,
    run_attempts,
)
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, grade_completion, session_facts
from slowthink.serialise import plain
from slowthink.stages.filter.difficulty.attempts import (
    RecordedSource,
    make_first_tasks,
    read_recorded_samples,
    write_attempts,
)
from slowthink.stages.filter.difficulty.band import Band, BandDecision
from slowthink.stages.filter.difficulty.cap import DEFAULT_CAP, fit_cap
from slowthink.stages.filter.difficulty.cost import (
    attempt_settings,
    is_cap_fitted,
    model_name,
    step_name,
)
from slowthink.stages.filter.difficulty.key_check import DisputedAnswer, KeyCheck, find_dispute
from slowthink.stages.filter.difficulty.pass_rates import (
    PassRateEstimate,
    drop_reason,
    estimate_pass_rate,
)
from slowthink.stages.filter.difficulty.stopping import (
    MajorityRule,
    PassRateRule,
    StoppingRule,
    UntilKeySettled,
)


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """A step and what it needs to run."""

    step: DifficultyStep
    key_check: KeyCheckConfig | None
    is_last: bool
    """Whether it is the last step."""
    tested: Sequence[Problem]
    """The problems that are tested, before the first step."""
    stage: StageContext
    ledger: Ledger
    grader: Grader
    table: RecordWriter
    """Receives the attempts of models."""


@dataclass(frozen=True)
class ProblemAttempts:
    """Result of one model's attempts at one problem."""

    estimate: PassRateEstimate
    votes: Sequence[Grade]
    """Attempts that vote in the check of the reference answer: one if decoding is greedy, since
    then all are identical."""


@dataclass
class StepResult:
    """Result of one step."""

    name: str
    estimates: list[PassRateEstimate] = field(default_factory=list)
    """By model, then problem."""
    dropped: dict[str, list[Dropped]] = field(default_factory=dict)
    """By the name of the step in the funnel."""
    disputed: list[DisputedAnswer] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Each model's attempts, tokens and speed, as JSON."""


def run_step(problems: Sequence[Problem], context: StepContext) -> StepResult:
    """Run each model on the problems that are open for it, then decide.

    Reference answers are checked for problems that are dropped as too hard, and in the last step
    also for those that are kept: until then a later, stronger model may give the reference answer.
    """
    step = context.step
    result = StepResult(step_name(step))
    problems = sorted(problems, key=lambda problem: problem.id)
    attempts_of: dict[str, list[ProblemAttempts]] = {problem.id: [] for problem in problems}
    open_problems = problems
    for position, model in enumerate(step.models):
        votes = {id: _all_votes(attempts) for id, attempts in attempts_of.items()}
        runner = _AttemptRunner(context, model, _key_check(context, position, votes))
        new = runner.run(open_problems)
        result.attempts.append({"step": result.name, "model": runner.name} | runner.facts)
        result.estimates += [attempts.estimate for attempts in new.values()]
        for id, attempts in new.items():
            attempts_of[id].append(attempts)
        open_problems = [p for p in open_problems if _is_open(new.get(p.id), rule=step.rule)]
    for problem in problems:
        _add_decision(result, problem, attempts_of[problem.id], context)
    result.dropped = dict(sorted(result.dropped.items(), reverse=True))  # disputed ones first
    return result


def _key_check(
    context: StepContext, position: int, votes: Mapping[str, Sequence[Grade]]
) -> KeyCheck | None:
    """The check whose result the model at this position must not change by stopping early. None
    without a check or early stopping, or if the model has one vote."""
    config, step = context.key_check, context.step
    if config is None or step.stop != "exact" or not _num_votes(step.models[position], step) > 1:
        return None
    num_later_votes = sum(_num_votes(model, step) for model in step.models[position + 1 :])
    decisions = {BandDecision.TOO_RARELY}
    if context.is_last or num_later_votes:
        decisions.add(BandDecision.KEEP)
    if step.rule == "all" and len(step.models) > 1:  # another model may keep the problem
        decisions = {BandDecision.TOO_RARELY, BandDecision.KEEP, BandDecision.TOO_OFTEN}
    return KeyCheck(
        config=config, decisions=frozenset(decisions), earlier_votes=votes,
        num_later_votes=num_later_votes,
    )  # fmt: skip


def _num_votes(model: AttemptModel, step: DifficultyStep) -> int:
    return 1 if _is_greedy(model, step) else step.num_attempts


def _all_votes(attempts: Sequence[ProblemAttempts]) -> list[Grade]:
    """The votes of all models."""
    return [grade for model_attempts in attempts for grade in model_attempts.votes]


def _is_greedy(model: AttemptModel, step: DifficultyStep) -> bool:
    return model.samples is None and not attempt_settings(model, step)[2]


def _is_open(attempts: ProblemAttempts | None, *, rule: str) -> bool:
    """Whether the next model attempts the problem, since it can still change the decision. True
    for None: no attempts are recorded."""
    if attempts is None:
        return True
    return (attempts.estimate.decision is BandDecision.KEEP) is (rule == "any")


def combine_decisions(decisions: Sequence[BandDecision], *, rule: str) -> BandDecision:
    """The step's decision, from those of the models that attempted the problem; keep if none did.

    With rule `any` the first decision to drop counts. With `all` the problem is kept if one model
    keeps it, else the first decision counts.
    """
    drops = [decision for decision in decisions if decision is not BandDecision.KEEP]
    if not drops or (rule == "all" and len(drops) < len(decisions)):
        return BandDecision.KEEP
    return drops[0]


def _add_decision(
    result: StepResult, problem: Problem, attempts: Sequence[ProblemAttempts], context: StepContext
) -> None:
    """Add the decision on a problem to the result."""
    estimates = [model_attempts.estimate for model_attempts in attempts]
    decisions = [estimate.decision for estimate in estimates]
    decision = combine_decisions(decisions, rule=context.step.rule)
    is_too_hard, is_kept = decision is BandDecision.TOO_RARELY, decision is BandDecision.KEEP
    if context.key_check and (is_too_hard or (is_kept and context.is_last)):
        votes = _all_votes(attempts)
        disputed = find_dispute(problem, votes, context.grader, config=context.key_check)
        if disputed is not None:
            name = f"{result.name}: key in doubt"
            result.disputed.append(disputed)
            result.dropped.setdefault(name, []).append(disputed.to_dropped(name))
            return
    reason = drop_reason(decision, context.step)
    dropped = result.dropped.setdefault(result.name, [])
    if reason is not None:
        evidence = _joint_evidence(estimates)
        dropped.append(Dropped(id=problem.id, step=result.name, reason=reason, evidence=evidence))


def _joint_evidence(estimates: Sequence[PassRateEstimate]) -> str:
    """The estimates; those of several models with their names."""
    if len(estimates) == 1:
        return estimates[0].evidence()
    return "; ".join(f"{estimate.model}: {estimate.evidence()}" for estimate in estimates)


class _AttemptRunner:
    """Runs one model's attempts at some problems."""

    def __init__(
        self, context: StepContext, model: AttemptModel, key_check: KeyCheck | None
    ) -> None:
        self.name = model_name(model, context.stage.recipe)
        self.facts: dict[str, Any] = {}
        self._stage, self._ledger, self._grader = context.stage, context.ledger, context.grader
        self._table, self._tested = context.table, context.tested
        self._step, self._model, self._key_check = context.step, model, key_check

    def run(self, problems: Sequence[Problem]) -> dict[str, ProblemAttempts]:
        """Attempts by problem id, in order of id, without problems that lack recorded samples."""
        self.facts = {"num_problems": 0, "num_untested": 0, "budget_violations": 0}
        if not problems:
            return {}
        path = self._model.samples
        trackers = self._from_model(problems) if path is None else self._from_file(problems, path)
        return {id: self._result(id, tracker) for id, tracker in sorted(trackers.items())}

    def _result(self, problem_id: str, tracker: AttemptTracker[BandDecision]) -> ProblemAttempts:
        grades = tracker.grades
        estimate = estimate_pass_rate(
            problem_id, grades, step=self._step, decision=tracker.decision, model=self.name
        )
        is_greedy = _is_greedy(self._model, self._step)
        return ProblemAttempts(estimate, grades[:1] if is_greedy else grades)

    def _from_file(
        self, problems: Sequence[Problem], path: str
    ) -> dict[str, AttemptTracker[BandDecision]]:
        samples = read_recorded_samples(
            path, problems, num_attempts=self._step.num_attempts, model=self._model.model,
            last_number=self._model.last_number,
        )  # fmt: skip
        tested = [problem for problem in problems if problem.id in samples]
        trackers = self._track(tested, RecordedSource(samples, self._grader))
        self.facts |= {"num_untested": len(problems) - len(tested)}
        return trackers

    def _from_model(self, problems: Sequence[Problem]) -> dict[str, AttemptTracker[BandDecision]]:
        recipe, model, start_time = self._stage.recipe, self._model, time.monotonic()
        name, revision = model.model or recipe.model, model.revision
        revision = revision if model.model else recipe.revision
        engine = model.engine or recipe.engine
        with open_session(name, engine, revision=revision, notify=self._stage.notify) as session:
            sampler = Sampler(session, self._ledger, tag=self._stage.stage)
            first_tasks = make_first_tasks(
                session, problems, model, step=self._step, recipe=recipe,
                fitted_cap=self._fit_cap(session.tokenizer),
            )  # fmt: skip
            source = ModelSource(
                sampler, first_tasks, lambda task, completion: grade_completion(
                    self._grader, task.problem, completion
                ),
            )  # fmt: skip
            trackers = self._track(problems, source)
            num_unused_tokens = sum(
                num_tokens
                for (id, index), num_tokens in source.num_tokens.items()
                if index >= len(trackers[id].grades)
            )
            cost, seconds = session.cost, time.monotonic() - start_time
            self.facts |= session_facts(session)
            write_attempts(
                self._table, source, sampler, trackers,
                step=step_name(self._step), model=self.name, revision=revision,
            )  # fmt: skip
        self.facts |= {
            "num_cancelled": source.queue.num_cancelled,
            "wasted_tokens": source.queue.num_late_tokens + num_unused_tokens,
            "budget_violations": source.num_violations,
            "num_cut_off": source.num_cut_off,
            "tokens": plain(cost),
            "seconds": round(seconds, 3),
            "tokens_per_second": round(cost.decoded / seconds, 1) if cost.decoded else None,
        }
        return trackers

    def _fit_cap(self, tokenizer: Any) -> int:
        """The cap that is fitted to the solutions, if the recipe asks for that."""
        if not is_cap_fitted(self._model, self._step):
            return DEFAULT_CAP
        cap = fit_cap(self._tested, tokenizer)
        self._stage.notify(f"filter: {step_name(self._step)}: {self.name}: {cap.line()}")
        self.facts |= {"fitted_cap": plain(cap)}
        return cap.max_thinking_tokens

    def _track(
        self, problems: Sequence[Problem], source: AttemptSource
    ) -> dict[str, AttemptTracker[BandDecision]]:
        """Run each problem's attempts until it is decided."""
        step = self._step
        trackers = {
            problem.id: AttemptTracker(
                _stopping_rule(step, problem, self._grader, key_check=self._key_check),
                wave_size=step.wave_size, truncated_counts=step.truncated == "unsolved",
            )
            for problem in problems
        }  # fmt: skip
        run_attempts(source, trackers, progress=self._stage.progress)
        grades = [grade for tracker in trackers.values() for grade in tracker.grades]
        self.facts |= {
            "num_problems": len(trackers),
            "num_attempts": len(grades),
            "num_possible": len(trackers) * step.num_attempts,
            "num_wasted": sum(tracker.num_wasted for tracker in trackers.values()),
            "num_no_answer": sum(grade.verdict is Verdict.NO_ANSWER for grade in grades),
        }
        return trackers


def _stopping_rule(
    step: DifficultyStep, problem: Problem, grader: Grader, *, key_check: KeyCheck | None = None
) -> StoppingRule:
    stop_early, band = step.stop == "exact", Band.from_step(step)
    rule: PassRateRule | MajorityRule = PassRateRule(band, stop_early)
    if step.measure == "majority":
        group = functools.partial(group_answers, grader=grader, choices=problem.choices)
        rule = MajorityRule(band, group, stop_early)
    if key_check is None:
        return rule
    is_settled = functools.partial(key_check.is_settled, problem=problem, grader=grader)
    return UntilKeySettled(rule, key_check.decisions, is_settled)
