"""How hard problems are for a model, by its own attempts: the decision, apart from the asking.

An attempt that was cut off or gave no answer counts as unsolved, and apart; one that cannot be
graded leaves the denominator.

    {"id": "p-…", "num_correct": 1, "num_counted": 2, "pass_rate": 0.5, "low": 0.09, "high": 0.91,
     "verdicts": {"correct": 1, "truncated": 1}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slowthink.funnel import counts
from slowthink.recipe import DifficultyConfig
from slowthink.records import Dropped, Grade, Problem, Verdict, item_seed
from slowthink.stats import wilson

STEP = "difficulty"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What the attempts at one problem came to."""

    id: str
    num_correct: int
    num_counted: int
    """Attempts in the denominator."""
    pass_rate: float | None
    """None where no attempt counts."""
    low: float | None
    """Lower end of the pass rate's 95 % Wilson interval."""
    high: float | None
    verdicts: dict[str, int]

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def drawn_to_test(problems: Sequence[Problem], config: DifficultyConfig, *, seed: int) -> set[str]:
    """Ids of the problems that are tried, whatever their order."""
    ids = sorted({problem.id for problem in problems})
    ids.sort(key=lambda one: item_seed(seed, STEP, one))
    return set(ids[: config.max_problems])


def measure(problem_id: str, grades: Sequence[Grade]) -> Measure:
    """The pass rate of these attempts, with its interval."""
    counted = [grade for grade in grades if grade.verdict.counts]
    num_correct = sum(grade.verdict is Verdict.CORRECT for grade in counted)
    interval = wilson(num_correct, len(counted)) if counted else None
    return Measure(
        id=problem_id,
        num_correct=num_correct,
        num_counted=len(counted),
        pass_rate=num_correct / len(counted) if counted else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        verdicts=counts(grade.verdict.value for grade in grades),
    )


def decide(found: Measure, config: DifficultyConfig) -> str | None:
    """None where the pass rate lies in the band, else why the problem goes."""
    if found.pass_rate is None:
        return "no attempt can be graded"
    if found.pass_rate > config.max_pass_rate:
        return "solved too often (above max_pass_rate)"
    if found.pass_rate < config.min_pass_rate:
        return "solved too rarely (below min_pass_rate)"
    return None


def out_of_band(measures: Sequence[Measure], config: DifficultyConfig) -> list[Dropped]:
    """The measured problems that go, with the measurement as evidence."""
    return [
        Dropped(id=found.id, step=STEP, reason=reason, evidence=_evidence(found))
        for found in measures
        if (reason := decide(found, config)) is not None
    ]


def _evidence(found: Measure) -> str:
    if found.low is None or found.high is None:
        return f"verdicts: {found.verdicts}"
    interval = f"95 % interval {found.low:.2f} to {found.high:.2f}"
    return f"{found.num_correct} of {found.num_counted} right, {interval}"


def difficulty_facts(
    measures: Sequence[Measure], *, num_problems: int, domains: Mapping[str, str | None]
) -> dict[str, Any]:
    """What the report shows; `domains` are the problems' domains by id."""
    verdicts: dict[str, int] = {}
    for found in measures:
        for verdict, number in found.verdicts.items():
            verdicts[verdict] = verdicts.get(verdict, 0) + number
    num_correct = sum(found.num_correct for found in measures)
    num_counted = sum(found.num_counted for found in measures)
    overall = wilson(num_correct, num_counted) if num_counted else None
    return {
        "num_tested": len(measures),
        "num_untested": num_problems - len(measures),
        "verdicts": dict(sorted(verdicts.items())),
        "pass_rate": num_correct / num_counted if num_counted else None,
        "pass_rate_ci95": [overall.low, overall.high] if overall else None,
        "pass_rates": _histogram(measures),
        "pass_rate_by_domain": _by_domain(measures, domains),
    }


def _histogram(measures: Sequence[Measure]) -> dict[str, int]:
    """Problems by pass rate, as `1 of 2`, from hard to easy."""
    ordered = sorted(measures, key=lambda found: (found.pass_rate or 0.0, found.num_counted))
    histogram: dict[str, int] = {}
    for found in ordered:
        label = f"{found.num_correct} of {found.num_counted}"
        histogram[label] = histogram.get(label, 0) + 1
    return histogram


def _by_domain(
    measures: Sequence[Measure], domains: Mapping[str, str | None]
) -> dict[str, float | None]:
    groups: dict[str, list[Measure]] = {}
    for found in measures:
        groups.setdefault(domains.get(found.id) or "unknown", []).append(found)
    rates = {}
    for domain, group in sorted(groups.items()):
        num_counted = sum(found.num_counted for found in group)
        num_correct = sum(found.num_correct for found in group)
        rates[domain] = round(num_correct / num_counted, 4) if num_counted else None
    return rates
