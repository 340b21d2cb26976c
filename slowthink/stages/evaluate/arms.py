"""One arm measured: its model opened once, asked about every set under every protocol, graded.

All points come out of one chain per sample: the longest thinking once, and a short answer at each
cap and wait. An arm of stored samples is graded and counted, and no model is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from slowthink.data.stored import read_stored, rows_of, select
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
from slowthink.stages.evaluate.sets import ProblemSet, chat_for
from slowthink.stages.evaluate.summary import STORED


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """What became of one arm."""

    rows: list[EvaluationRow]
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    parallel: list[dict[str, Any]] = field(default_factory=list)
    """Curves of parallel scaling, an entry a set."""


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """What all arms are measured with."""

    context: StageContext
    sets: Sequence[ProblemSet]
    ledger: Ledger
    grader: Grader

    @property
    def config(self) -> EvaluateConfig:
        """The stage's settings."""
        config: EvaluateConfig = self.context.config
        return config

    @property
    def protocols(self) -> list[ProtocolConfig]:
        """The recipe's, resolved."""
        return [resolve(protocol) for protocol in self.config.protocols]


AfterArm = Callable[
    [EvaluationContext, Session, list[EvaluationRow]],
    tuple[list[dict[str, Any]], list[EvaluationRow]],
]
"""Uses an arm's open session and rows for curves of parallel scaling; gives the rows back, scored.
"""


def points_of(arm: ArmConfig) -> list[Point]:
    """The points of an arm: each cap, each number of waits at the largest cap, and the free one."""
    top = max(arm.caps)
    steps = arm.forcing.max_thinking_steps
    found = [Point(cap, steps=steps) for cap in arm.caps]
    found += [Point(top, waits, steps=steps) for waits in arm.waits]
    found += [Point(top, 0, False)] if arm.free else []
    return sorted(set(found))


def tag_of(arm: ArmConfig) -> str:
    """Under what the ledger counts an arm's tokens."""
    return f"evaluate/{arm.name}"


def measure_arm(
    bench: EvaluationContext,
    arm: ArmConfig,
    *,
    then: AfterArm | None = None,
) -> ArmResult:
    """All rows of an arm. `then` uses its open session for more; stored samples have none."""
    if arm.samples is not None:
        return _stored_arm(bench, arm)
    name, revision = model_of(bench.context, arm)
    context = bench.context
    session = open_session(name, context.recipe.engine, revision=revision, notify=context.notify)
    with session:
        rows = [row for ask in sample_batches(bench, arm, session) for row in _ask(bench, ask)]
        cost, seconds = bench.ledger.spent(tag_of(arm))
        facts = {"tokens": plain(cost), "sampling_seconds": round(seconds, 1)}
        facts |= {"model": name, "fingerprint": session.fingerprint, **session_facts(session)}
        curves, rows = then(bench, session, rows) if then else ([], rows)
    return ArmResult(rows=rows, facts=facts, parallel=curves)


def model_of(context: StageContext, arm: ArmConfig) -> tuple[str, str | None]:
    """Name and revision of an arm's model."""
    if arm.model == "base":
        return context.recipe.model, context.recipe.revision
    if arm.model != "tuned":
        return arm.model, None
    if "train" not in context.inputs:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` wants the tuned model, but the recipe has no train "
            "stage. Name a model folder or hub id in its `model`, or `base`."
        )
    return str(context.inputs["train"] / "model"), None


# --- asking ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SampleBatch:
    """One set put to one model under one protocol at one temperature."""

    session: Session
    arm: ArmConfig
    one: ProblemSet
    protocol: ProtocolConfig
    temperature: float
    chat: ChatConfig
    tasks: list[Task]


def sample_batches(
    bench: EvaluationContext, arm: ArmConfig, session: Session
) -> Iterator[SampleBatch]:
    """What the arm is asked, in order: sets, protocols, temperatures."""
    recipe = bench.context.recipe
    for one in bench.sets:
        for protocol in bench.protocols:
            draws = draws_for(protocol, num_problems=len(one.problems))
            chat = chat_for(arm.chat or recipe.chat, protocol, one)
            for temperature in draws.temperatures:
                tasks = make_tasks(
                    session,
                    one.problems,
                    recipe=recipe,
                    chat=chat,
                    budget=_budget_of(arm),
                    sampling=draws.sampling(temperature).record(),
                    points=points_of(arm),
                    num_samples=draws.num_samples if temperature else 1,
                )
                yield SampleBatch(
                    session=session, arm=arm, one=one, protocol=protocol,
                    temperature=temperature, chat=chat, tasks=tasks,
                )  # fmt: skip


def _budget_of(arm: ArmConfig) -> Callable[[Problem], Budget]:
    cap, waits = max(arm.caps), max(arm.waits, default=0)
    return lambda problem: arm.forcing.budget(cap, waits, language=problem.language)


def _ask(bench: EvaluationContext, ask: SampleBatch) -> list[EvaluationRow]:
    context = bench.context
    context.notify(
        f"evaluate: {ask.arm.name} on {ask.one.name} ({len(ask.one.problems)} problems, "
        f"{_ask_words(ask)}) at {len(points_of(ask.arm))} points"
    )
    sampler = Sampler(ask.session, bench.ledger, tag=tag_of(ask.arm), progress=context.progress)
    return _graded(bench, ask, sampler.complete(ask.tasks))


def _ask_words(ask: SampleBatch) -> str:
    how = f"T={ask.temperature:g}" if ask.temperature else "greedy"
    return how if ask.protocol.name == how else f"{ask.protocol.name}, {how}"


def _graded(
    bench: EvaluationContext, ask: SampleBatch, completions: Sequence[Sequence[Completion]]
) -> list[EvaluationRow]:
    format = format_of(ask.chat.format, ask.session.tokenizer, bench.context.recipe.formats)
    compiled = compile_format(format, ask.session.tokenizer, eos_ids=ask.session.eos_ids)
    asked = RowContext(
        arm=ask.arm.name, model=ask.arm.model, benchmark=ask.one.name,
        protocol=ask.protocol.name, temperature=ask.temperature,
        last_number=ask.arm.last_number, decode=compiled.decode,
    )  # fmt: skip
    rows = []
    for task, found in zip(ask.tasks, completions, strict=True):
        for point, completion in zip(task.points, found, strict=True):
            last_number = asked.last_number and not point.forced
            grade = grade_completion(
                bench.grader, task.problem, completion, last_number=last_number
            )
            sample = task.request.sample
            rows.append(
                make_row(asked, task.problem, completion, grade, sample=sample, point=point)
            )
    return rows


# --- stored samples -------------------------------------------------------------------------------


def _stored_arm(bench: EvaluationContext, arm: ArmConfig) -> ArmResult:
    assert arm.samples is not None
    context = bench.context
    names = [protocol.name for protocol in bench.protocols]
    if arm.protocol is not None and arm.protocol not in names:
        raise ConfigError(
            f"evaluate.arms: `{arm.name}` names the protocol `{arm.protocol}`; expected one of "
            f"evaluate.protocols ({', '.join(names)}). Add it there, or leave it null."
        )
    stored = read_stored(arm.samples, setting=f"evaluate.arms: {arm.name}")
    if arm.samples_model is not None:
        stored = select(stored, model=arm.samples_model)
    tokenizer = load_tokenizer(context.recipe.model, context.recipe.revision)
    rows: list[EvaluationRow] = []
    left: Counter[Dropped] = Counter()
    for one in bench.sets:
        found, unmatched = rows_of(
            stored,
            one.problems,
            arm=arm.name,
            benchmark=one.name,
            protocol=arm.protocol or STORED,
            grader=bench.grader,
            count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
            last_number=arm.last_number,
        )
        rows += found
        left.update(unmatched)
    context.notify(f"evaluate: {arm.name}, {len(rows)} stored samples of {arm.samples}")
    nowhere = [drop for drop, count in left.items() if count == len(bench.sets)]
    return ArmResult(rows=rows, facts={"samples": arm.samples}, dropped=[*stored.dropped, *nowhere])
