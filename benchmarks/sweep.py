"""What a whole curve costs in one pass: beside its longest run alone, and beside one run a point.

8 questions to the embedded model, greedy: caps of 16 to 512 thinking tokens, and 1 to 4 waits at
the largest. Left to itself this model ends its thinking after 10 to 200 tokens, or never; so that
all waits do occur an end counts as declared where P(end) >= 1e-4, and from token 384 on (the
minimum): some 5 to 25 tokens apart, all four before 512. In a round each way has its turn on the
same model.

Tokens are counted by the engine: `decoded` drawn, `prefilled` fed as prompts, `forced` fed between.

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
class Load:
    """What is asked."""

    caps: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    waits: tuple[int, ...] = (1, 2, 3, 4)
    num_questions: int = len(QUESTIONS)
    minimum: int = 384
    end_probability: float = 1e-4
    answer_tokens: int = 16

    @property
    def points(self) -> tuple[Point, ...]:
        """All points of the curve; the last is the longest."""
        top = max(self.caps)
        return (*map(Point, self.caps), *(Point(top, waits) for waits in self.waits))


@dataclass
class Way:
    """What one way of asking spent: seconds a round, and the tokens of one."""

    seconds: list[float] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    thinking: dict[tuple[str, Point], tuple[int, ...]] = field(default_factory=dict)


def run(*, num_rounds: int = 3) -> dict[str, Any]:
    """Ratios of tokens, of one round as they are the same in all, and medians of seconds."""
    with open_session(MODEL, EngineConfig(batch_size=len(QUESTIONS))) as session:
        return measure(session, Load(), num_rounds=num_rounds)


def measure(session: Session, load: Load, *, num_rounds: int) -> dict[str, Any]:
    """The three ways on a session, in turns."""
    jobs = make_jobs(session, load)
    longest = load.points[-1:]
    sweep, alone, separate = Way(), Way(), Way()
    for _ in range(num_rounds):
        _take_turn(session, sweep, jobs, [load.points])
        _take_turn(session, alone, jobs, [longest])
        _take_turn(session, separate, jobs, [(point,) for point in load.points])
    return summary(load, sweep, alone, separate)


def make_jobs(session: Session, load: Load) -> list[Job]:
    """A job a question, of all points."""
    budget = Budget(
        min_thinking_tokens=load.minimum,
        end_rule="probability",
        end_probability=load.end_probability,
        answer_tokens=load.answer_tokens,
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
            points=load.points,
        )
        for question in QUESTIONS[: load.num_questions]
    ]


def _problem(question: str) -> Problem:
    name = problem_id(question)
    return Problem(id=name, duplicate_key=name, question=question, source="bench", source_row="0")


def _take_turn(
    session: Session, way: Way, jobs: Sequence[Job], runs: Sequence[tuple[Point, ...]]
) -> None:
    """Ask for each of these sets of points by itself."""
    before, started = session.cost, time.perf_counter()
    found = []
    for points in runs:
        asked = [replace(job, points=points) for job in jobs]
        found.append((points, list(generate(session, asked))))
    way.seconds.append(time.perf_counter() - started)
    way.cost = session.cost - before
    cut = _cutter(session, jobs)
    for points, outcomes in found:
        for outcome in outcomes:
            way.thinking |= {(outcome.key, point): cut(outcome, point) for point in points}


def _cutter(session: Session, jobs: Sequence[Job]) -> Callable[[JobResult, Point], tuple[int, ...]]:
    request = jobs[0].request
    format = compile_format(request.format, session.tokenizer, eos_ids=session.eos_ids)
    rules = make_rules(request.budget, format)

    def cut(outcome: JobResult, point: Point) -> tuple[int, ...]:
        found = cut_at(outcome.chain, rules, point)
        assert found is not None
        return found.ids

    return cut


def summary(load: Load, sweep: Way, alone: Way, separate: Way) -> dict[str, Any]:
    """The figures. Ratios of tokens are of decoded ones unless they say otherwise."""
    same = [sweep.thinking[place] == ids for place, ids in separate.thinking.items()]
    lengths = [len(sweep.thinking[key, load.points[-1]]) for key in {k for k, _ in sweep.thinking}]
    return {
        "sweep_over_longest": _ratio(sweep.cost.decoded, alone.cost.decoded),
        "separate_over_sweep": _ratio(separate.cost.decoded, sweep.cost.decoded),
        "separate_over_sweep_prefilled": _ratio(separate.cost.prefilled, sweep.cost.prefilled),
        "sweep_over_longest_all_tokens": _ratio(_all(sweep.cost), _all(alone.cost)),
        "separate_over_sweep_all_tokens": _ratio(_all(separate.cost), _all(sweep.cost)),
        "sweep_over_longest_seconds": _pairwise(sweep.seconds, alone.seconds),
        "separate_over_sweep_seconds": _pairwise(separate.seconds, sweep.seconds),
        "seconds": {
            name: round(statistics.median(way.seconds), 1)
            for name, way in (("sweep", sweep), ("longest", alone), ("separate", separate))
        },
        "tokens": {
            name: plain(way.cost)
            for name, way in (("sweep", sweep), ("longest", alone), ("separate", separate))
        },
        "points": len(load.points),
        "questions": load.num_questions,
        "waits_made_to_occur": _waits(load, sweep),
        "longest_thinking": {"min": min(lengths), "median": statistics.median(lengths)},
        "same_thinking_as_separate_runs": round(statistics.mean(same), 4),
        "rounds": len(sweep.seconds),
    }


def _waits(load: Load, sweep: Way) -> float:
    """Share of questions and numbers of waits whose thinking a further wait made longer."""
    top = max(load.caps)
    ladder = [Point(top), *(Point(top, waits) for waits in load.waits)]
    longer = [
        len(sweep.thinking[key, more]) > len(sweep.thinking[key, less])
        for key in {key for key, _ in sweep.thinking}
        for less, more in itertools.pairwise(ladder)
    ]
    return round(statistics.mean(longer), 4)


def _all(cost: Cost) -> int:
    return cost.prefilled + cost.decoded + cost.forced


def _ratio(one: float, other: float) -> float:
    return round(one / other, 3)


def _pairwise(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """The rounds' ratios."""
    return spread([one / other for one, other in zip(ones, others, strict=True)])


if __name__ == "__main__":
    main(run, __doc__)
