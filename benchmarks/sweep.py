"""Cost of a whole curve in one pass, compared with its longest point alone and a run per point.

8 questions to the embedded model, greedy: caps of 16 to 512 thinking tokens, and 1 to 4 waits at
the largest. By itself this model ends its thinking after 10 to 200 tokens, or never. So that all
waits occur, an end is declared if P(end) >= 1e-4, and from token 384 on (the minimum): 5 to 25
tokens apart, all four before 512. In each round, every method runs once on the same model.

Tokens are counted by the engine: `decoded` (sampled), `prefilled` (prompts), `forced`.

    {"sweep_over_longest": 1.27, "separate_over_sweep": 4.6, "separate_over_sweep_prefilled": 10.0}
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.command import main, spread
from slowthink.engines import open_session
from slowthink.engines.session import Job, JobResult, Point, Session, cut_at, generate
from slowthink.forcing.formats import FORMATS, compile_format
from slowthink.forcing.machine import make_rules
from slowthink.forcing.prompts import prompt_ids
from slowthink.recipe import ChatConfig, EngineConfig
from slowthink.records import Budget, Cost, Problem, Request, Sampling, problem_id
from slowthink.serialise import plain

MODEL = "smollm2-135m"
FORMAT = "plain"
QUESTIONS = (
    "Explain step by step how to add 347 and 586.",
    "What is 17 times 24? Think carefully and check your work.",
    "A train leaves at 3 pm and travels 60 miles per hour. When has it gone 210 miles?",
    "List the prime numbers below 50 and explain each.",
    "How many ways are there to choose 3 books of 7? Explain.",
    "Solve 3x - 7 = 20 and check the result.",
    "Why is the sum of two odd numbers even?",
    "What is the area of a circle of radius 5? Show all steps.",
)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Questions, budget and points."""

    caps: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    waits: tuple[int, ...] = (1, 2, 3, 4)
    num_questions: int = len(QUESTIONS)
    minimum: int = 384
    end_probability: float = 1e-4
    answer_tokens: int = 16

    @property
    def points(self) -> tuple[Point, ...]:
        """All points of the curve; the last is the largest."""
        largest = max(self.caps)
        return (*map(Point, self.caps), *(Point(largest, waits) for waits in self.waits))


@dataclass
class Method:
    """Cost of one method: seconds of each round, tokens of the last one, and its thinking."""

    seconds: list[float] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    thinking: dict[tuple[str, Point], tuple[int, ...]] = field(default_factory=dict)


def run(*, num_rounds: int = 3) -> dict[str, Any]:
    """Ratios of tokens (equal in all rounds) and medians of seconds."""
    with open_session(MODEL, EngineConfig(batch_size=len(QUESTIONS))) as session:
        return measure(session, Workload(), num_rounds=num_rounds)


def measure(session: Session, workload: Workload, *, num_rounds: int) -> dict[str, Any]:
    """Run the three methods in each round."""
    jobs = make_jobs(session, workload)
    longest = workload.points[-1:]
    sweep, alone, separate = Method(), Method(), Method()
    for _ in range(num_rounds):
        _run_method(session, sweep, jobs, [workload.points])
        _run_method(session, alone, jobs, [longest])
        _run_method(session, separate, jobs, [(point,) for point in workload.points])
    return summary(workload, sweep, alone, separate)


def make_jobs(session: Session, workload: Workload) -> list[Job]:
    """One job per question, with all points."""
    budget = Budget(
        min_thinking_tokens=workload.minimum,
        end_rule="probability",
        end_probability=workload.end_probability,
        answer_tokens=workload.answer_tokens,
    )
    chat = ChatConfig(format=FORMAT)
    return [
        Job(
            request=Request(
                model=session.fingerprint,
                numerics=session.numerics,
                prompt_ids=prompt_ids(session.tokenizer, _problem(question), chat),
                format=FORMATS[FORMAT],
                sampling=Sampling(),
                budget=budget,
                seed=0,
            ),
            points=workload.points,
        )
        for question in QUESTIONS[: workload.num_questions]
    ]


def _problem(question: str) -> Problem:
    name = problem_id(question)
    return Problem(id=name, duplicate_key=name, question=question, source="bench", source_row="0")


def _run_method(
    session: Session, method: Method, jobs: Sequence[Job], runs: Sequence[tuple[Point, ...]]
) -> None:
    """Run the jobs separately for each of these groups of points."""
    cost_before, start_time = session.cost, time.perf_counter()
    results = []
    for points in runs:
        run_jobs = [replace(job, points=points) for job in jobs]
        results.append((points, list(generate(session, run_jobs))))
    method.seconds.append(time.perf_counter() - start_time)
    method.cost = session.cost - cost_before
    thinking_at = _thinking_at_points(session, jobs)
    for points, run_results in results:
        for result in run_results:
            method.thinking |= {(result.key, p): thinking_at(result, p) for p in points}


def _thinking_at_points(
    session: Session, jobs: Sequence[Job]
) -> Callable[[JobResult, Point], tuple[int, ...]]:
    """A function that returns the thinking of a result at a point."""
    request = jobs[0].request
    format = compile_format(request.format, session.tokenizer, eos_ids=session.eos_ids)
    rules = make_rules(request.budget, format)

    def thinking_at(result: JobResult, point: Point) -> tuple[int, ...]:
        cut = cut_at(result.chain, rules, point)
        assert cut is not None
        return cut.ids

    return thinking_at


def summary(workload: Workload, sweep: Method, alone: Method, separate: Method) -> dict[str, Any]:
    """The reported figures. Ratios are of decoded tokens unless the name says otherwise."""
    same = [sweep.thinking[key] == ids for key, ids in separate.thinking.items()]
    lengths = [
        len(sweep.thinking[key, workload.points[-1]]) for key in {k for k, _ in sweep.thinking}
    ]
    return {
        "sweep_over_longest": _ratio(sweep.cost.decoded, alone.cost.decoded),
        "separate_over_sweep": _ratio(separate.cost.decoded, sweep.cost.decoded),
        "separate_over_sweep_prefilled": _ratio(separate.cost.prefilled, sweep.cost.prefilled),
        "sweep_over_longest_all_tokens": _ratio(_num_tokens(sweep.cost), _num_tokens(alone.cost)),
        "separate_over_sweep_all_tokens": _ratio(
            _num_tokens(separate.cost), _num_tokens(sweep.cost)
        ),
        "sweep_over_longest_seconds": _ratios(sweep.seconds, alone.seconds),
        "separate_over_sweep_seconds": _ratios(separate.seconds, sweep.seconds),
        "seconds": {
            name: round(statistics.median(method.seconds), 1)
            for name, method in (("sweep", sweep), ("longest", alone), ("separate", separate))
        },
        "tokens": {
            name: plain(method.cost)
            for name, method in (("sweep", sweep), ("longest", alone), ("separate", separate))
        },
        "points": len(workload.points),
        "questions": workload.num_questions,
        "waits_made_to_occur": _share_of_waits(workload, sweep),
        "longest_thinking": {"min": min(lengths), "median": statistics.median(lengths)},
        "same_thinking_as_separate_runs": round(statistics.mean(same), 4),
        "rounds": len(sweep.seconds),
    }


def _share_of_waits(workload: Workload, sweep: Method) -> float:
    """Share of waits, over all questions, that made the thinking longer."""
    cap = max(workload.caps)
    points = [Point(cap), *(Point(cap, waits) for waits in workload.waits)]
    longer = [
        len(sweep.thinking[key, more]) > len(sweep.thinking[key, less])
        for key in {key for key, _ in sweep.thinking}
        for less, more in itertools.pairwise(points)
    ]
    return round(statistics.mean(longer), 4)


def _num_tokens(cost: Cost) -> int:
    return cost.prefilled + cost.decoded + cost.forced


def _ratio(numerator: float, denominator: float) -> float:
    return round(numerator / denominator, 3)


def _ratios(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """The ratio of each round, summarised."""
    return spread([n / d for n, d in zip(numerators, denominators, strict=True)])


if __name__ == "__main__":
    main(run, __doc__)
