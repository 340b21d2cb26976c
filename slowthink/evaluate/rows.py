"""One completion and its grade as a row, with the transcript in segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from slowthink.engines.base import Point
from slowthink.records import Completion, EvaluationRow, EventKind, Grade, Problem

Decode = Callable[[Sequence[int]], str]


def make_row(
    problem: Problem,
    completion: Completion,
    grade: Grade,
    *,
    arm: str,
    model: str,
    sample: int,
    point: Point,
    decode: Decode,
) -> EvaluationRow:
    """The row of one answer at one point."""
    kind = "forced" if point.forced else "free"
    return EvaluationRow(
        id=f"{arm}|{problem.id}|{sample}|{point.cap:06d}|{point.waits}|{kind}",
        arm=arm,
        model=model,
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
        num_answer_tokens=len(completion.answer_ids),
        num_forced_tokens=completion.num_forced_tokens,
        thinking_end=completion.thinking_end,
        answer_end=completion.answer_end,
        num_waits_used=sum(event.kind is EventKind.WAIT for event in completion.events),
        verdict=grade.verdict,
        extracted=grade.extracted,
        gold=grade.gold,
        method=grade.method,
        violations=completion.violations,
        segments=json.dumps(segments(completion, decode), ensure_ascii=False),
    )


def segments(completion: Completion, decode: Decode) -> list[tuple[str, str]]:
    """The transcript as (kind, text); `wait` and `closing` were forced, the others drawn."""
    ids, parts, place = completion.thinking_ids, [], 0
    for event in completion.events:
        if event.forced:
            end = event.position + event.forced
            parts.append(("thinking", decode(ids[place : event.position])))
            parts.append(("wait", decode(ids[event.position : end])))
            place = end
    parts.append(("thinking", decode(ids[place:])))
    parts.append(("closing", decode(completion.closing_ids)))
    parts.append(("answer", decode(completion.answer_ids)))
    return [(kind, text) for kind, text in parts if text]
