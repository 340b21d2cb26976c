"""One completion and its grade as a row, with the transcript in segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slowthink.engines.session import Point
from slowthink.records import Completion, EvaluationRow, EventKind, Grade, Problem

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """Fields shared by all rows of one arm, set, protocol and temperature."""

    arm: str
    model: str
    benchmark: str
    protocol: str
    temperature: float
    last_number: bool
    decode: Decode


def make_row(
    context: RowContext,
    problem: Problem,
    completion: Completion,
    grade: Grade,
    *,
    sample: int,
    point: Point,
) -> EvaluationRow:
    """The row of one answer at one point."""
    kind = "forced" if point.forced else "free"
    prefix = f"{context.arm}|{context.protocol}|{context.benchmark}"
    problem_part = f"{problem.id}|{context.temperature:g}|{sample}"
    return EvaluationRow(
        id=f"{prefix}|{problem_part}|{point.cap:06d}|{point.waits}|{kind}",
        arm=context.arm,
        model=context.model,
        benchmark=context.benchmark,
        protocol=context.protocol,
        temperature=context.temperature,
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
        last_number=context.last_number and not point.forced,
        score=None,
        verdict=grade.verdict,
        extracted=grade.extracted,
        gold=grade.gold,
        method=grade.method,
        violations=completion.violations,
        segments=json.dumps(segments(completion, context.decode), ensure_ascii=False),
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
