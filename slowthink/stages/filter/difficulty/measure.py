"""How hard problems were for a model, by its attempts that were seen; and what the report shows.

An attempt that gave no answer counts as unsolved, one that was cut off as the step says, and both
apart; one that cannot be graded leaves the denominator.

    {"id": "p-…", "model": "smollm2-135m", "num_correct": 1, "num_counted": 2, "pass_rate": 0.5,
     "low": 0.09, "high": 0.91, "verdicts": {"correct": 1, "truncated": 1}, "outcome": "keep"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.pipeline.contract import counts
from slowthink.recipe import DifficultyStep
from slowthink.records import Grade
from slowthink.stages.filter.difficulty.band import Band, BandDecision, Tally


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What one model's attempts at one problem came to, and the decision on it.

    Where attempts were stopped early, rate and interval are those of the attempts seen: they
    describe, and lean towards the end at which they were stopped.
    """

    id: str
    model: str = ""
    num_correct: int
    num_counted: int
    """Attempts in the denominator."""
    pass_rate: float | None
    """None where no attempt counts."""
    low: float | None
    """Lower end of the pass rate's 95 % Wilson interval."""
    high: float | None
    verdicts: dict[str, int]
    """All attempts seen, also those that do not count."""
    outcome: BandDecision

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"outcome": self.outcome.value}

    def evidence(self) -> str:
        """The measurement in a line."""
        if self.low is None or self.high is None:
            return f"verdicts: {self.verdicts}"
        interval = f"95 % interval {self.low:.2f} to {self.high:.2f}"
        return f"{self.num_correct} of {self.num_counted} right, {interval}"


def measure(
    problem_id: str, grades: Sequence[Grade], *, step: DifficultyStep,
    outcome: BandDecision | None = None, model: str = "",
) -> Measure:  # fmt: skip
    """The pass rate of these attempts, with its interval; without an `outcome` the band's."""
    tally = Tally()
    for grade in grades:
        tally = tally.add(grade, truncated_counts=step.truncated == "unsolved")
    num_correct, num_counted = tally.num_correct, tally.num_counted
    interval = wilson(num_correct, num_counted) if num_counted else None
    return Measure(
        id=problem_id,
        model=model,
        num_correct=num_correct,
        num_counted=num_counted,
        pass_rate=num_correct / num_counted if num_counted else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        verdicts=counts(grade.verdict.value for grade in grades),
        outcome=outcome or Band.of(step).outcome(num_correct, num_counted),
    )


def reason(outcome: BandDecision, step: DifficultyStep) -> str | None:
    """Why a problem with this outcome goes; None where it stays."""
    limits = {
        BandDecision.TOO_OFTEN: "max_pass_rate" if step.max_correct is None else "max_correct",
        BandDecision.TOO_RARELY: "min_pass_rate" if step.min_correct is None else "min_correct",
    }
    sides = {BandDecision.TOO_OFTEN: "above", BandDecision.TOO_RARELY: "below"}
    if outcome is BandDecision.KEEP:
        return None
    where = f" ({sides[outcome]} {limits[outcome]})" if outcome in limits else ""
    return f"{outcome.value}{where}"


def difficulty_facts(
    measures: Sequence[Measure], *, num_untested: int, domains: Mapping[str, str | None]
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
        "num_untested": num_untested,
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
