"""A made run folder: real tables and manifests, with figures that tests know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from slowthink.pipeline import run_folder
from slowthink.pipeline.contract import StageContext, StageResult, Step
from slowthink.recipe import Recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.records import (
    AnswerEnd,
    Dropped,
    Grade,
    Problem,
    Split,
    ThinkingEnd,
    Trace,
    Verdict,
    duplicate_key,
    problem_id,
)
from slowthink.stage_rows import EvaluationRow
from slowthink.stages import report

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
    shared = {"natural_ends": 0.75, "mean_thinking_tokens": 40.5}
    checkpoints = [
        {"step": 10, "epoch": 1.0, "accuracy": 0.4, "ci95": [0.12, 0.77], **shared},
        {"step": 20, "epoch": 2.0, "accuracy": 0.2, "ci95": [0.04, 0.62], **shared},
    ]
    dev = {
        "num_problems": 5, "cap": 64, "chosen": 10, "last": 20, "checkpoints": checkpoints
    }  # fmt: skip
    facts = {"num_parameters": 1234, "dev": dev}
    return StageResult(records=rows, record_type=StepRow, facts=facts)


def points_of(arm: str) -> Iterator[dict[str, Any]]:
    """The points of an arm, as in the summary of the evaluate stage."""
    base = [(32, 0, True, 0.10), (96, 0, True, 0.15), (96, 0, False, 0.20)]
    tuned = [(cap, 0, True, 0.1 + place * 0.12) for place, cap in enumerate(CAPS)]
    tuned += [(128, 1, True, 0.75), (128, 2, True, 0.8)]
    for cap, waits, forced, accuracy in base if arm == "base" else tuned:
        yield _point(cap, waits, forced, accuracy)


def _point(
    cap: int, waits: int, forced: bool, accuracy: float, *, num: int = 20, num_samples: int = 1
) -> dict[str, Any]:
    domains = {
        name: {"n": num // 2 if place == 0 else num // 4, "accuracy": 0.4}
        for place, name in enumerate(DOMAINS)
    }
    ks = [k for k in (1, 2, 4) if k <= num_samples]
    return {
        "max_thinking_tokens": cap, "waits": waits, "forced": forced, "n": num,
        "num_samples": num_samples, "accuracy": accuracy,
        "ci95": [max(accuracy - 0.1, 0), min(accuracy + 0.1, 1)],
        "pass_at_k": {str(k): min(1.0, accuracy + 0.05 * (k - 1)) for k in ks},
        "maj_at_k": {str(k): min(1.0, accuracy + 0.02 * (k - 1)) for k in ks},
        "coverage": min(1.0, accuracy + 0.05 * (num_samples - 1)),
        "mean_thinking_tokens": cap * 0.9 + waits,
        "thinking_tokens_quantiles": {"10": cap * 0.5, "50": cap * 0.9, "90": float(cap)},
        "mean_answer_tokens": 5.0, "answer_tokens_quantiles": {"10": 3.0, "50": 5.0, "90": 8.0},
        "mean_waits_used": float(waits), "truncated_rate": 0.0, "no_answer_rate": 0.05,
        "num_ungradable": 0, "num_grader_errors": 0, "thinking_natural_rate": 0.8, "loop_rate": 0.0,
        "answer_eos_rate": 0.97, "budget_violations": 0, "tokens_spent": num * cap,
        "pass_rate_by_domain": domains,
    }  # fmt: skip


def summary(*names: str, violations: int = 0) -> dict[str, Any]:
    """A summary of the evaluate stage: held-out problems, greedy, and AIME24, sampled."""
    both = "base" in names and "tuned" in names
    curve = [_curve_row(point) for point in points_of("tuned") if not point["waits"]]
    waits = [
        _curve_row(point) for point in points_of("tuned") if point["max_thinking_tokens"] == 128
    ]
    return {
        "sets": [_held_out(*names), _aime(*names)],
        "averages": [
            {
                "arm": name, "protocol": "limo-v2", "group": group, "accuracy": 0.42,
                "benchmarks": ["heldout", "aime24"], "ci95": [0.31, 0.53],
            }
            for name in names
            for group in ("in", "ten")
        ],
        "parallel": [made_parallel()], "key_review": KEY_REVIEW, "judge": JUDGE,
        "base_accuracy": 0.2 if both else None, "tuned_accuracy": 0.8,
        "difference": 0.6 if both else None, "difference_ci95": [0.41, 0.77] if both else None,
        "base_point": list(points_of("base"))[2] if both else None,
        "tuned_point": list(points_of(names[-1]))[-1],
        "curve": curve, "waits": waits, "budget_violations": violations,
        "thinking_natural_rate": 0.8, "answer_eos_rate": 0.97,
        "tokens": {"prefilled": 1000, "decoded": 400, "forced": 50, "re_prefilled": 10},
        "sweep": {"spent_tokens": 400, "separate_tokens": 1600},
    }  # fmt: skip


def old_summary(*names: str) -> dict[str, Any]:
    """The same summary in the format of older runs, without sets."""
    new = summary(*names)
    later = ("sets", "averages", "parallel", "key_review", "judge")
    arms = [arm | {"protocol": "greedy, 1 sample"} for arm in new["sets"][0]["arms"]]
    return {key: value for key, value in new.items() if key not in later} | {"arms": arms}


def _held_out(*names: str) -> dict[str, Any]:
    text = "greedy: greedy, 1 sample"
    arms = [_arm(name, text, list(points_of(name))) for name in names]
    return _set("heldout", "greedy", text, arms) | {"num_problems": 20}


def _aime(*names: str) -> dict[str, Any]:
    text = "limo-v2: T=0.6, 4 samples"
    accuracies = {"base": (0.05, 0.1), "tuned": (0.2, 0.35)}
    arms = [
        _arm(name, text, [_point(cap, 0, True, accuracy, num=30, num_samples=4)
                          for cap, accuracy in zip((32, 96), accuracies[name], strict=True)])
        for name in names
    ]  # fmt: skip
    source = {"hub_id": "made/aime24", "revision": None, "path": "eval/aime24.jsonl"}
    elicitation = {
        "base": "base", "tuned": "tuned", "k": 4, "n": 30, "base_pass_at_k": 0.25,
        "tuned_pass_at_1": 0.35, "num_gains": 9, "gain": 0.27, "gain_within_base_coverage": 0.75,
        "ci95": [0.5, 0.95],
    }  # fmt: skip
    return _set("aime24", "limo-v2", text, arms) | {
        "num_problems": 30, "domain": "in", "source": source,
        "elicitation": elicitation if len(arms) > 1 else None,
    }  # fmt: skip


def _set(benchmark: str, protocol: str, text: str, arms: list[dict[str, Any]]) -> dict[str, Any]:
    """A set with a comparison of its two arms, if it has two, and s1's measures of each."""
    ends = [_place(arm["points"][-1]) for arm in arms]
    pair = {
        "n": 20, "difference": 0.25, "ci95": [-0.05, 0.5], "p_bootstrap": 0.0612,
        "p_exact": 0.0001, "minimal_detectable_difference": 0.187,
    }  # fmt: skip
    return {
        "benchmark": benchmark, "protocol": protocol, "protocol_text": text, "domain": None,
        "source": None, "arms": arms, "elicitation": None,
        "comparisons": [
            {"a": arms[0]["name"], "a_point": ends[0], "b": arms[1]["name"], "b_point": ends[1]}
            | pair
        ] if len(arms) > 1 else [],
        "measures": [
            {
                "arm": arm["name"], "control": 1.0, "control_per_sample": 0.995,
                "scaling_per_token": 0.0051, "scaling_per_doubling": 0.148,
                "scaling_per_doubling_ci95": [0.1, 0.2], "performance": 0.8,
                "performance_ci95": [0.7, 0.9], "num_points": len(arm["points"]),
            }
            for arm in arms
        ],
    }  # fmt: skip


def _arm(name: str, protocol: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name, "model": "smollm2-135m", "format": "s1", "num_problems": points[0]["n"],
        "num_samples": points[0]["num_samples"], "protocol": protocol, "points": points,
    }  # fmt: skip


def _place(point: dict[str, Any]) -> dict[str, Any]:
    return {key: point[key] for key in ("max_thinking_tokens", "waits", "forced")}


def made_parallel() -> dict[str, Any]:
    """Parallel scaling of one arm: forcing alone, votes at two caps, a search with a scorer."""
    curves = [
        ("budget forcing", "sequential", [(0, 60.0, 0.1), (0, 120.0, 0.3), (0, 200.0, 0.4)]),
        ("majority, cap 32", "majority", [(2, 130.0, 0.2), (4, 260.0, 0.3), (8, 520.0, 0.35)]),
        ("majority, cap 96", "majority", [(2, 300.0, 0.42), (4, 600.0, 0.5), (8, 1200.0, 0.55)]),
        ("best of n, cap 96", "best-of-n", [(2, 300.0, 0.45), (4, 600.0, 0.52), (8, 1200.0, 0.5)]),
        ("REBASE", "rebase", [(4, 700.0, 0.55), (8, 1500.0, 0.6)]),
    ]
    return {
        "arm": "tuned", "benchmark": "heldout", "protocol": "t0.8",
        "scorer": {"kind": "model", "model": "made/scorer", "revision": None},
        "curves": [
            {
                "name": name, "method": method, "sequential_point": None,
                "points": [
                    {
                        "k": k, "tokens_per_problem": tokens, "accuracy": accuracy, "n": 20,
                        "scorer_tokens_per_problem": 50.0 if method == "rebase" else 0.0,
                        "ci95": [accuracy - 0.1, accuracy + 0.1], "unresolved_rate": 0.0,
                    }
                    for k, tokens, accuracy in points
                ],
            }
            for name, method, points in curves
        ],
    }  # fmt: skip


KEY_REVIEW = [
    {
        "benchmark": "aime24", "problem_id": "p-0123456789abcdef", "question": HOSTILE,
        "gold": "12", "answer": "16", "arms": ["base", "tuned"], "num_votes": 7, "num_answers": 8,
    }
]  # fmt: skip
JUDGE = {
    "model": "made/judge", "num_asked": 12, "num_no_opinion": 3, "num_decided": 9, "audited": 50,
    "agreement": 0.9, "agreement_ci95": [0.79, 0.96],
    "disagreements": [{"problem_id": "p-1", "extracted": "0.5", "rules": "correct", "judge": "wrong"}],
}  # fmt: skip


def _curve_row(point: dict[str, Any]) -> dict[str, Any]:
    keys = ("max_thinking_tokens", "waits", "mean_thinking_tokens", "accuracy", "ci95")
    return {key: point[key] for key in keys}


@cache
def evaluation_rows(*names: str) -> tuple[EvaluationRow, ...]:
    return tuple(_evaluation_rows(names))


def _evaluation_rows(names: tuple[str, ...]) -> Iterator[EvaluationRow]:
    """One row per arm, held-out problem and point; every third answer is right, of tuned's every
    second. AIME24 has four samples of 30 problems at two caps."""
    for arm in names:
        for point in points_of(arm):
            for number in range(20):
                yield _row(arm, point, number)
        for cap in (32, 96):
            for number in range(30):
                for sample in range(4):
                    yield _row(
                        arm, _point(cap, 0, True, 0.5), number, benchmark="aime24", sample=sample
                    )


def _row(
    arm: str, point: dict[str, Any], number: int, *, benchmark: str = "heldout", sample: int = 0
) -> EvaluationRow:
    heldout = problem(number, split=Split.HELDOUT)
    cap, waits, forced = point["max_thinking_tokens"], point["waits"], point["forced"]
    protocol, temperature = ("greedy", 0.0) if benchmark == "heldout" else ("limo-v2", 0.6)
    right = (number + sample) % (2 if arm == "tuned" else 3) == 0
    segments = [["thinking", f"{number} plus 25. {HOSTILE}\n"]]
    segments += [["wait", "Wait"], ["thinking", ", 让我再检查一遍。"]] if waits else []
    segments += [["closing", "\nFinal Answer:"]] if forced else []
    segments += [["answer", f" {number + 25 if right else 7}"]]
    return EvaluationRow(
        id=f"{arm}|{protocol}|{benchmark}|{heldout.id}|{temperature}|{sample}|{cap}|{waits}|"
        + ("forced" if forced else "free"),
        arm=arm, model="smollm2-135m", benchmark=benchmark, protocol=protocol,
        temperature=temperature, problem_id=heldout.id, question=heldout.question,
        domain=heldout.domain, source="made", sample=sample, max_thinking_tokens=cap, waits=waits,
        forced=forced, num_prompt_tokens=10, num_thinking_tokens=cap, num_answer_tokens=3,
        num_forced_tokens=waits, num_closing_tokens=0, count_source="ids", thinking_end=ThinkingEnd.CAP,
        answer_end=AnswerEnd.STOP, num_waits_used=waits, answer=segments[-1][1], last_number=False,
        score=None, verdict=Verdict.CORRECT if right else Verdict.WRONG,
        extracted=str(number + 25) if right else "7", gold=heldout.answer, method="integer",
        violations=(), segments=json.dumps(segments),
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
        context = run_folder.make_context(made, root, stage, notify=lambda text: None)
        run_folder.execute(context, steps[stage], version=1)
    return root / "report"
