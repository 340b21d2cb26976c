"""Sample one arm batch by batch (set, protocol, temperature) and grade the answers as rows.

All points share one chain per sample: the longest thinking is sampled once, and a short answer at
each cap and number of waits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from slowthink.data.load import ProblemSet
from slowthink.engines.session import Point, Session
from slowthink.forcing.formats import resolve_format
from slowthink.grading import Grader
from slowthink.pipeline.contract import StageContext
from slowthink.recipe import ArmConfig, ChatConfig, EvaluateConfig, ProtocolConfig
from slowthink.recipe.protocols import draws_for, resolve_protocol
from slowthink.records import Budget, Completion, Dropped, EventKind, Grade, Problem
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, Task, grade_completion, make_tasks
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.evaluate.sets import resolve_chat

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, kw_only=True)
class EvaluationContext:
    """What the evaluation of all arms shares."""

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
        return [resolve_protocol(protocol) for protocol in self.config.protocols]


@dataclass(frozen=True, kw_only=True)
class SampleBatch:
    """The samples of one arm on one set under one protocol at one temperature."""

    session: Session
    arm: ArmConfig
    problem_set: ProblemSet
    protocol: ProtocolConfig
    temperature: float
    chat: ChatConfig
    tasks: list[Task]


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """Graded rows of one arm."""

    rows: list[EvaluationRow]
    facts: dict[str, Any] = field(default_factory=dict)
    dropped: list[Dropped] = field(default_factory=list)
    parallel: list[dict[str, Any]] = field(default_factory=list)
    """Curves of parallel scaling, one entry per set."""


def arm_points(arm: ArmConfig) -> list[Point]:
    """The points of an arm: each cap, each number of waits at the largest cap, and the free one."""
    max_cap = max(arm.caps)
    steps = arm.forcing.max_thinking_steps
    points = {Point(cap, steps=steps) for cap in arm.caps}
    points |= {Point(max_cap, waits, steps=steps) for waits in arm.waits}
    return sorted(points | ({Point(max_cap, 0, False)} if arm.free else set()))


def ledger_tag(arm: ArmConfig) -> str:
    """Tag of the arm's tokens in the ledger."""
    return f"evaluate/{arm.name}"


def sample_batches(
    context: EvaluationContext, arm: ArmConfig, session: Session
) -> Iterator[SampleBatch]:
    """The arm's batches, ordered by set, protocol, temperature."""
    recipe = context.stage.recipe
    for problem_set in context.sets:
        for protocol in context.protocols:
            draws = draws_for(protocol, num_problems=len(problem_set.problems))
            chat = resolve_chat(arm.chat or recipe.chat, protocol, problem_set)
            for temperature in draws.temperatures:
                tasks = make_tasks(
                    session,
                    problem_set.problems,
                    recipe=recipe,
                    chat=chat,
                    budget=_make_budget(arm),
                    sampling=draws.sampling(temperature).to_record(),
                    points=arm_points(arm),
                    num_samples=draws.num_samples if temperature else 1,
                )
                yield SampleBatch(
                    session=session, arm=arm, problem_set=problem_set, protocol=protocol,
                    temperature=temperature, chat=chat, tasks=tasks,
                )  # fmt: skip


def _make_budget(arm: ArmConfig) -> Callable[[Problem], Budget]:
    """The budget for a problem: the arm's largest cap and most waits."""
    cap, waits = max(arm.caps), max(arm.waits, default=0)
    return lambda problem: arm.forcing.budget(cap, waits, language=problem.language)


def sample_rows(context: EvaluationContext, batch: SampleBatch) -> list[EvaluationRow]:
    """Sample the batch and grade every completion."""
    stage, arm, session = context.stage, batch.arm, batch.session
    stage.notify(
        f"evaluate: {arm.name} on {batch.problem_set.name} "
        f"({len(batch.problem_set.problems)} problems, {_protocol_label(batch)}) "
        f"at {len(arm_points(arm))} points"
    )
    format = resolve_format(batch.chat.format, session.tokenizer, stage.recipe.formats)
    decode = session.compiler.token_format(format).decode
    sampler = Sampler(session, context.ledger, tag=ledger_tag(arm), progress=stage.progress)
    rows = []
    for task, completions in zip(batch.tasks, sampler.complete(batch.tasks), strict=True):
        for point, completion in zip(task.points, completions, strict=True):
            last_number = arm.last_number and not point.forced
            grade = grade_completion(
                context.grader, task.problem, completion, last_number=last_number
            )
            transcript = json.dumps(segments(completion, decode), ensure_ascii=False)
            rows.append(_make_row(batch, task, point, completion, grade, segments=transcript))
    return rows


def _protocol_label(batch: SampleBatch) -> str:
    """Protocol and temperature for progress messages, e.g. `limo-v2, T=0.6`."""
    sampling = f"T={batch.temperature:g}" if batch.temperature else "greedy"
    name = batch.protocol.name
    return name if name == sampling else f"{name}, {sampling}"


def _make_row(
    batch: SampleBatch,
    task: Task,
    point: Point,
    completion: Completion,
    grade: Grade,
    *,
    segments: str,
) -> EvaluationRow:
    arm, benchmark, protocol = batch.arm, batch.problem_set.name, batch.protocol.name
    problem, sample = task.problem, task.request.sample
    prefix = f"{arm.name}|{protocol}|{benchmark}|{problem.id}|{batch.temperature:g}|{sample}"
    return EvaluationRow(
        id=f"{prefix}|{point.cap:06d}|{point.waits}|{'forced' if point.forced else 'free'}",
        arm=arm.name,
        model=arm.model,
        benchmark=benchmark,
        protocol=protocol,
        temperature=batch.temperature,
        problem_id=problem.id,
        question=problem.question,
        domain=problem.domain,
        source=problem.source,
        sample=sample,
        max_thinking_tokens=point.cap,
        waits=point.waits,
        forced=point.forced,
        num_prompt_tokens=completion.num_prompt_tokens,
        num_thinking_tokens=completion.num_thinking_tokens,
        num_closing_tokens=len(completion.closing_ids),
        num_answer_tokens=len(completion.answer_ids),
        num_forced_tokens=completion.num_forced_tokens,
        count_source=completion.count_source,
        thinking_end=completion.thinking_end,
        answer_end=completion.answer_end,
        num_waits_used=sum(event.kind is EventKind.WAIT for event in completion.events),
        answer=completion.answer,
        last_number=arm.last_number and not point.forced,
        score=None,
        **asdict(grade),
        violations=completion.violations,
        segments=segments,
    )


def segments(completion: Completion, decode: Decode) -> list[tuple[str, str]]:
    """The transcript as (kind, text); `wait` and `closing` were forced, the others sampled."""
    ids, parts, start = completion.thinking_ids, [], 0
    for event in completion.events:
        if event.forced:
            end = event.position + event.forced
            parts.append(("thinking", decode(ids[start : event.position])))
            parts.append(("wait", decode(ids[event.position : end])))
            start = end
    parts.append(("thinking", decode(ids[start:])))
    parts.append(("closing", decode(completion.closing_ids)))
    parts.append(("answer", decode(completion.answer_ids)))
    return [(kind, text) for kind, text in parts if text]
