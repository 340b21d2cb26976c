"""A made run folder: real tables and manifests, written by `runs`, with figures that tests know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink import report, runs
from slowthink.loading import parse_recipe
from slowthink.recipe import Recipe
from slowthink.records import (
    AnswerEnd,
    Dropped,
    EvaluationRow,
    Grade,
    Problem,
    Split,
    ThinkingEnd,
    Trace,
    Verdict,
    duplicate_key,
    problem_id,
)  # fmt: skip
from slowthink.runs import StageContext, StageResult, Step

HOSTILE = "</script><img src=x onerror=\"window.hacked=1\"><b class='hostile'>"
CHINESE = "小明有 17 个苹果，又买了 25 个。一共有多少个苹果？"
DOMAINS = ("arithmetic", "equations", "数论 <b>")
CAPS = (0, 16, 32, 64, 96, 128)


@dataclass(frozen=True)
class StepRow:
    """A row of the train stage's table."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    num_loss_tokens: int


def recipe(**changes: Any) -> Recipe:
    """A recipe of all seven stages; a stage set to None is left out."""
    arms = [
        {"name": "base", "model": "base", "caps": [32, 96], "free": True},
        {"name": "tuned", "caps": list(CAPS), "waits": [1, 2]},
    ]
    data = {
        "name": "made <run>", "pool": {"sources": [{"kind": "sandbox"}]}, "filter": {}, "trace": {},
        "select": {}, "train": {}, "evaluate": {"arms": arms}, "report": {"num_transcripts": 8},
    }  # fmt: skip
    return parse_recipe(data | changes)


def problem(number: int, *, split: Split = Split.TRAIN) -> Problem:
    """One problem; the first is hostile, the second Chinese."""
    question = {0: HOSTILE, 1: CHINESE}.get(number, f"What is {number} + 25?")
    return Problem(
        id=problem_id(f"{split.value} {number}"), duplicate_key=duplicate_key(question),
        question=question, answer=str(number + 25), source="made", source_row=str(number),
        domain=DOMAINS[number % 3], split=split,
    )  # fmt: skip


def trace(number: int) -> Trace:
    """The trace of a training problem."""
    return Trace(
        problem=problem(number), thinking="add", response=str(number + 25), teacher="made",
        grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=1, num_response_tokens=1,
        tokenizer="made",
    )  # fmt: skip


def _pool(context: StageContext) -> StageResult:
    heldout = [problem(number, split=Split.HELDOUT) for number in range(20)]
    step = Step(name="read", num_in=51, num_out=50, reasons={"not JSON": 1})
    return StageResult(
        records=[*map(problem, range(30)), *heldout], record_type=Problem, steps=[step],
        facts={"splits": {"train": 30, "heldout": 20}},
    )  # fmt: skip


def _filter(context: StageContext) -> StageResult:
    dropped = [
        Dropped(id=problem(number).id, step="quality", reason="image & link", evidence=HOSTILE)
        for number in range(0, 30, 5)
    ]
    kept = [problem(number) for number in range(30) if number % 5]
    step = Step(name="quality", num_in=30, num_out=24, reasons={"image & link": 6})
    facts = {
        "difficulty": {
            "pass_rates": {"0 of 2": 16, "1 of 2": 6},
            "num_untested": 2,
            "pass_rate": 0.1,
        },
        "tokens": {"prefilled": 100, "decoded": 40, "forced": 4},
        "warnings": ["2 problems <i>untested</i>"],
    }
    return StageResult(
        records=kept, record_type=Problem, dropped=dropped, steps=[step], facts=facts
    )


def _traces(num: int) -> Callable[[StageContext], StageResult]:
    def run(context: StageContext) -> StageResult:
        records = [trace(number) for number in range(30) if number % 5][:num]
        step = Step(name="choose", num_in=24, num_out=num, reasons={"not drawn": 24 - num})
        return StageResult(records=records, record_type=Trace, steps=[step])

    return run


def _train(context: StageContext) -> StageResult:
    rows = [
        StepRow(step + 1, step / 10, 2.0 / (1 + step), 1e-4, 1.0, 1000, 600) for step in range(20)
    ]
    return StageResult(records=rows, record_type=StepRow, facts={"num_parameters": 1234})


def points_of(arm: str) -> Iterator[dict[str, Any]]:
    """(cap, waits, forced, accuracy) of each arm's points, as the evaluate stage sums them up."""
    base = [(32, 0, True, 0.10), (96, 0, True, 0.15), (96, 0, False, 0.20)]
    tuned = [(cap, 0, True, 0.1 + place * 0.12) for place, cap in enumerate(CAPS)]
    tuned += [(128, 1, True, 0.75), (128, 2, True, 0.8)]
    for cap, waits, forced, accuracy in base if arm == "base" else tuned:
        yield _point(cap, waits, forced, accuracy)


def _point(cap: int, waits: int, forced: bool, accuracy: float) -> dict[str, Any]:
    domains = {
        name: {"n": 10 if place == 0 else 5, "accuracy": 0.4} for place, name in enumerate(DOMAINS)
    }
    return {
        "max_thinking_tokens": cap, "waits": waits, "forced": forced, "n": 20, "accuracy": accuracy,
        "ci95": [max(accuracy - 0.1, 0), accuracy + 0.1], "mean_thinking_tokens": cap * 0.9 + waits,
        "mean_answer_tokens": 5.0, "truncated_rate": 0.0, "no_answer_rate": 0.05,
        "num_ungradable": 0, "num_grader_errors": 0, "thinking_natural_rate": 0.8, "loop_rate": 0.0,
        "answer_eos_rate": 0.97, "budget_violations": 0, "pass_rate_by_domain": domains,
    }  # fmt: skip


def summary(*names: str, violations: int = 0) -> dict[str, Any]:
    """What the evaluate stage says of these arms."""
    arms = [
        {
            "name": name, "model": "smollm2-135m", "format": "s1", "num_problems": 20,
            "num_samples": 1, "protocol": "greedy", "points": list(points_of(name)),
        }
        for name in names
    ]  # fmt: skip
    both = "base" in names and "tuned" in names
    curve = [_curve_row(point) for point in points_of("tuned") if not point["waits"]]
    waits = [
        _curve_row(point) for point in points_of("tuned") if point["max_thinking_tokens"] == 128
    ]
    return {
        "arms": arms, "base_accuracy": 0.2 if both else None, "tuned_accuracy": 0.8,
        "difference": 0.6 if both else None, "difference_ci95": [0.41, 0.77] if both else None,
        "base_point": list(points_of("base"))[2] if both else None,
        "tuned_point": list(points_of(names[-1]))[-1],
        "curve": curve, "waits": waits, "budget_violations": violations,
        "thinking_natural_rate": 0.8, "answer_eos_rate": 0.97,
        "tokens": {"prefilled": 1000, "decoded": 400, "forced": 50, "re_prefilled": 10},
        "sweep": {"spent_tokens": 400, "separate_tokens": 1600},
    }  # fmt: skip


def _curve_row(point: dict[str, Any]) -> dict[str, Any]:
    keys = ("max_thinking_tokens", "waits", "mean_thinking_tokens", "accuracy", "ci95")
    return {key: point[key] for key in keys}


def evaluation_rows(*names: str) -> Iterator[EvaluationRow]:
    """One row per arm, held-out problem and point; every third answer is right."""
    for arm in names:
        for point in points_of(arm):
            for number in range(20):
                yield _row(arm, point, number)


def _row(arm: str, point: dict[str, Any], number: int) -> EvaluationRow:
    asked = problem(number, split=Split.HELDOUT)
    cap, waits, forced = point["max_thinking_tokens"], point["waits"], point["forced"]
    right = number % 3 == 0
    segments = [["thinking", f"{number} plus 25. {HOSTILE}\n"]]
    segments += [["wait", "Wait"], ["thinking", ", 让我再检查一遍。"]] if waits else []
    segments += [["closing", "\nFinal Answer:"]] if forced else []
    segments += [["answer", f" {number + 25 if right else 7}"]]
    return EvaluationRow(
        id=f"{arm}|{asked.id}|0|{cap}|{waits}|{'forced' if forced else 'free'}", arm=arm,
        model="smollm2-135m", problem_id=asked.id, question=asked.question, domain=asked.domain,
        source="made", sample=0, max_thinking_tokens=cap, waits=waits, forced=forced,
        num_prompt_tokens=10, num_thinking_tokens=cap, num_answer_tokens=3, num_forced_tokens=waits,
        thinking_end=ThinkingEnd.CAP, answer_end=AnswerEnd.STOP, num_waits_used=waits,
        verdict=Verdict.CORRECT if right else Verdict.WRONG, extracted="7", gold=asked.answer,
        method="integer", violations=(), segments=json.dumps(segments),
    )  # fmt: skip


def _evaluate(violations: int, *names: str) -> Callable[[StageContext], StageResult]:
    def run(context: StageContext) -> StageResult:
        facts = {"summary": summary(*names, violations=violations)}
        rows = list(evaluation_rows(*names))
        return StageResult(records=rows, record_type=EvaluationRow, facts=facts)

    return run


def make_run(
    root: Path,
    *,
    made: Recipe | None = None,
    violations: int = 0,
    arms: tuple[str, ...] = ("base", "tuned"),
) -> Path:
    """A run folder with every stage of the recipe carried out; returns the report's folder."""
    made = made or recipe()
    steps: dict[str, Callable[[StageContext], StageResult]] = {
        "pool": _pool, "filter": _filter, "trace": _traces(24), "select": _traces(12),
        "train": _train, "evaluate": _evaluate(violations, *arms), "report": report.run,
    }  # fmt: skip
    for stage in made.stages():
        context = runs.make_context(made, root, stage, say=lambda text: None)
        runs.execute(context, steps[stage], version=1)
    return root / "report"
