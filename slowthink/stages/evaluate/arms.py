"""Measure one arm: open its model once, sample every set under every protocol, grade the answers.

All points share one chain per sample: the longest thinking is sampled once, and a short answer at
each cap and number of waits. Stored samples are graded without running a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.data.load import ProblemSet
from slowthink.data.stored.grading import grade_stored
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import select_model
from slowthink.engines import open_session
from slowthink.engines.models import load_tokenizer
from slowthink.engines.session import Point, Session
from slowthink.errors import ConfigError
from slowthink.forcing.formats import compile_format, format_of
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ArmConfig, ChatConfig, EvaluateConfig, ProtocolConfig
from slowthink.recipe.protocols import draws_for, resolve
from slowthink.records import Budget, Completion, Dropped, EvaluationRow, Problem
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task, grade_completion, make_tasks, session_facts
from slowthink.serialise import plain
from slowthink.stages.evaluate.rows import RowContext, make_row
from slowthink.stages.evaluate.sets import chat_for
from slowthink.stages.evaluate.summary import STORED


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """Graded rows of one arm."""

    rows: list[EvaluationRow]
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    parallel: list[dict[str, Any]] = field(default_factory=list)
    """Curves of parallel scaling, an entry a set."""


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """What all arms share."""

    stage: StageContext
    sets: Sequence[ProblemSet]
    ledger: Ledger
    grader: Grader

    @property
    def config(self) -> EvaluateConfig:
        """The stage's settings."""
        config: EvaluateConfig = self.stage.config
        return config

    @property
    def protocols(self) -> list[ProtocolConfig]:
        """The recipe's protocols, presets resolved."""
        return [resolve(protocol) for protocol in self.config.protocols]


AfterArm = Callable[
    [EvaluationContext, Session, list[EvaluationRow]],
    tuple[list[dict[str, Any]], list[EvaluationRow]],
]
"""Computes curves of parallel scaling with an arm's open session and rows; returns the curves and
the rows with their scores."""


def points_of(arm: ArmConfig) -> list[Point]:
    """The points of an arm: each cap, each number of waits at the largest cap, and the free one."""
    top = max(arm.caps)
    steps = arm.forcing.max_thinking_steps
    points = {Point(cap, steps=steps) for cap in arm.caps}
    points |= {Point(top, waits, steps=steps) for waits in arm.waits}
    return sorted(points | ({Point(top, 0, False)} if arm.free else set()))


def tag_of(arm: ArmConfig) -> str:
    """Tag of the arm's tokens in the ledger."""
    return f"evaluate/{arm.name}"


def measure_arm(
    context: EvaluationContext, arm: ArmConfig, *, after: AfterArm | None = None
) -> ArmResult:
    """All rows of an arm. `after` uses its open session too; stored samples have none."""
    if arm.samples is not None:
        return _stored_arm(context, arm)
    stage = context.stage
    name, revision = model_of(stage, arm)
    with open_session(name, stage.recipe.engine, revision=revision, notify=stage.notify) as session:
        batches = sample_batches(context, arm, session)
        rows = [row for batch in batches for row in _sample(context, batch)]
        cost, seconds = context.ledger.spent(tag_of(arm))
        facts = {"tokens": plain(cost), "sampling_seconds": round(seconds, 1)}
        facts |= {"model": name, "fingerprint": session.fingerprint, **session_facts(session)}
        curves, rows = after(context, session, rows) if after else ([], rows)
    return ArmResult(rows=rows, facts=facts, parallel=curves)


def model_of(stage: StageContext, arm: ArmConfig) -> tuple[str, str | None]:
    """Name and revision of an arm's model."""
    if arm.model == "base":
        return stage.recipe.model, stage.recipe.revision
    if arm.model != "tuned":
        return arm.model, None
    if "train" not in stage.inputs:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` uses the tuned model, but the recipe has no train "
            "stage. Name a model folder or hub id in its `model`, or `base`."
        )
    return str(stage.inputs["train"] / "model"), None


# --- sampling -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SampleBatch:
    """The samples of one model on one set under one protocol at one temperature."""

    session: Session
    arm: ArmConfig
    problem_set: ProblemSet
    protocol: ProtocolConfig
    temperature: float
    chat: ChatConfig
    tasks: list[Task]


def sample_batches(
    context: EvaluationContext, arm: ArmConfig, session: Session
) -> Iterator[SampleBatch]:
    """The arm's batches, ordered by set, protocol, temperature."""
    recipe = context.stage.recipe
    for problem_set in context.sets:
        for protocol in context.protocols:
            draws = draws_for(protocol, num_problems=len(problem_set.problems))
            chat = chat_for(arm.chat or recipe.chat, protocol, problem_set)
            for temperature in draws.temperatures:
                tasks = make_tasks(
                    session,
                    problem_set.problems,
                    recipe=recipe,
                    chat=chat,
                    budget=_budget_of(arm),
                    sampling=draws.sampling(temperature).record(),
                    points=points_of(arm),
                    num_samples=draws.num_samples if temperature else 1,
                )
                yield SampleBatch(
                    session=session, arm=arm, problem_set=problem_set, protocol=protocol,
                    temperature=temperature, chat=chat, tasks=tasks,
                )  # fmt: skip


def _budget_of(arm: ArmConfig) -> Callable[[Problem], Budget]:
    cap, waits = max(arm.caps), max(arm.waits, default=0)
    return lambda problem: arm.forcing.budget(cap, waits, language=problem.language)


def _sample(context: EvaluationContext, batch: SampleBatch) -> list[EvaluationRow]:
    stage, problem_set = context.stage, batch.problem_set
    stage.notify(
        f"evaluate: {batch.arm.name} on {problem_set.name} ({len(problem_set.problems)} problems, "
        f"{_draws_text(batch)}) at {len(points_of(batch.arm))} points"
    )
    sampler = Sampler(batch.session, context.ledger, tag=tag_of(batch.arm), progress=stage.progress)
    return _graded(context, batch, sampler.complete(batch.tasks))


def _draws_text(batch: SampleBatch) -> str:
    how = f"T={batch.temperature:g}" if batch.temperature else "greedy"
    return how if batch.protocol.name == how else f"{batch.protocol.name}, {how}"


def _graded(
    context: EvaluationContext, batch: SampleBatch, completions: Sequence[Sequence[Completion]]
) -> list[EvaluationRow]:
    arm, tokenizer = batch.arm, batch.session.tokenizer
    format = format_of(batch.chat.format, tokenizer, context.stage.recipe.formats)
    compiled = compile_format(format, tokenizer, eos_ids=batch.session.eos_ids)
    row_context = RowContext(
        arm=arm.name, model=arm.model, benchmark=batch.problem_set.name,
        protocol=batch.protocol.name, temperature=batch.temperature,
        last_number=arm.last_number, decode=compiled.decode,
    )  # fmt: skip
    rows = []
    for task, task_completions in zip(batch.tasks, completions, strict=True):
        for point, completion in zip(task.points, task_completions, strict=True):
            last_number = arm.last_number and not point.forced
            grade = grade_completion(
                context.grader, task.problem, completion, last_number=last_number
            )
            rows.append(
                make_row(
                    row_context, task.problem, completion, grade,
                    sample=task.request.sample, point=point,
                )
            )  # fmt: skip
    return rows


# --- stored samples -------------------------------------------------------------------------------


def _stored_arm(context: EvaluationContext, arm: ArmConfig) -> ArmResult:
    assert arm.samples is not None
    stage = context.stage
    names = [protocol.name for protocol in context.protocols]
    if arm.protocol is not None and arm.protocol not in names:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` names the protocol `{arm.protocol}`; expected one of "
            f"evaluate.protocols ({', '.join(names)}). Add it there, or leave it null."
        )
    stored = read_stored(arm.samples, setting=f"evaluate.arms: {arm.name}")
    if arm.samples_model is not None:
        stored = select_model(stored, model=arm.samples_model)
    tokenizer = load_tokenizer(stage.recipe.model, stage.recipe.revision)
    rows: list[EvaluationRow] = []
    unmatched: Counter[Dropped] = Counter()
    for problem_set in context.sets:
        set_rows, not_in_set = grade_stored(
            stored,
            problem_set.problems,
            arm=arm.name,
            benchmark=problem_set.name,
            protocol=arm.protocol or STORED,
            grader=context.grader,
            count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
            last_number=arm.last_number,
        )
        rows += set_rows
        unmatched.update(not_in_set)
    stage.notify(f"evaluate: {arm.name}, {len(rows)} stored samples of {arm.samples}")
    in_no_set = [drop for drop, count in unmatched.items() if count == len(context.sets)]
    return ArmResult(
        rows=rows, facts={"samples": arm.samples}, dropped=[*stored.dropped, *in_no_set]
    )
