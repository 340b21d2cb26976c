"""How hard problems are for a model: pass rates of its attempts, and their summary for the report.

An attempt without an answer counts as unsolved, a truncated one as the step's settings say; both
are also counted separately. An attempt that cannot be graded leaves the denominator.

    {"id": "p-…", "model": "smollm2-135m", "num_correct": 1, "num_counted": 2, "pass_rate": 0.5,
     "low": 0.09, "high": 0.91, "verdicts": {"correct": 1, "truncated": 1}, "outcome": "keep"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slowthink.analysis.statistics import wilson
from slowthink.pipeline.contract import count_values
from slowthink.recipe import DifficultyStep
from slowthink.records import Grade
from slowthink.sampling.attempts import Tally
from slowthink.stages.filter.difficulty.band import Band, BandDecision


@dataclass(frozen=True, kw_only=True)
class PassRateEstimate:
    """One model's pass rate on one problem, and the decision on it.

    After early stopping, rate and interval describe only the attempts made. They are biased, since
    attempts stop once the rate is certain to be above or below a bound of the band.
    """

    id: str
    model: str = ""
    num_correct: int
    num_counted: int
    """Attempts in the denominator."""
    pass_rate: float | None
    """None if no attempt counts."""
    low: float | None
    """Lower end of the pass rate's 95 % Wilson interval."""
    high: float | None
    verdicts: dict[str, int]
    """Number of attempts by verdict, including those that do not count."""
    decision: BandDecision

    def row(self) -> dict[str, Any]:
        """The estimate as a row of difficulty.jsonl."""
        values = asdict(self)
        return values | {"outcome": values.pop("decision").value}

    def evidence(self) -> str:
        """The estimate in one line."""
        if self.low is None or self.high is None:
            return f"verdicts: {self.verdicts}"
        interval = f"95 % interval {self.low:.2f} to {self.high:.2f}"
        return f"{self.num_correct} of {self.num_counted} right, {interval}"


def estimate_pass_rate(
    problem_id: str, grades: Sequence[Grade], *, step: DifficultyStep,
    decision: BandDecision | None = None, model: str = "",
) -> PassRateEstimate:  # fmt: skip
    """The pass rate of these attempts with its interval. `decision` defaults to the band's."""
    tally = Tally()
    for grade in grades:
        tally = tally.add(grade, truncated_counts=step.truncated == "unsolved")
    num_correct, num_counted = tally.num_correct, tally.num_counted
    interval = wilson(num_correct, num_counted) if num_counted else None
    return PassRateEstimate(
        id=problem_id,
        model=model,
        num_correct=num_correct,
        num_counted=num_counted,
        pass_rate=num_correct / num_counted if num_counted else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        verdicts=count_values(grade.verdict.value for grade in grades),
        decision=decision or Band.from_step(step).decide(num_correct, num_counted),
    )


def drop_reason(decision: BandDecision, step: DifficultyStep) -> str | None:
    """Why a problem with this decision is dropped; None if it is kept."""
    if decision is BandDecision.KEEP:
        return None
    if decision is BandDecision.TOO_OFTEN:
        bound = "max_pass_rate" if step.max_correct is None else "max_correct"
        return f"{decision.value} (above {bound})"
    if decision is BandDecision.TOO_RARELY:
        bound = "min_pass_rate" if step.min_correct is None else "min_correct"
        return f"{decision.value} (below {bound})"
    return str(decision.value)


def difficulty_facts(
    estimates: Sequence[PassRateEstimate],
    *,
    num_untested: int,
    domains: Mapping[str, str | None],
) -> dict[str, Any]:
    """Figures for the report; `domains` maps problem ids to domains."""
    verdicts: Counter[str] = Counter()
    for estimate in estimates:
        verdicts.update(estimate.verdicts)
    num_correct = sum(estimate.num_correct for estimate in estimates)
    num_counted = sum(estimate.num_counted for estimate in estimates)
    overall = wilson(num_correct, num_counted) if num_counted else None
    return {
        "num_tested": len(estimates),
        "num_untested": num_untested,
        "verdicts": dict(sorted(verdicts.items())),
        "pass_rate": num_correct / num_counted if num_counted else None,
        "pass_rate_ci95": [overall.low, overall.high] if overall else None,
        "pass_rates": _pass_rate_histogram(estimates),
        "pass_rate_by_domain": _pass_rate_by_domain(estimates, domains),
    }


def _pass_rate_histogram(estimates: Sequence[PassRateEstimate]) -> dict[str, int]:
    """Number of problems by pass rate, as `1 of 2`, from hard to easy."""
    ordered = sorted(estimates, key=lambda e: (e.pass_rate or 0.0, e.num_counted))
    return dict(Counter(f"{e.num_correct} of {e.num_counted}" for e in ordered))


def _pass_rate_by_domain(
    estimates: Sequence[PassRateEstimate], domains: Mapping[str, str | None]
) -> dict[str, float | None]:
    correct: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for estimate in estimates:
        domain = domains.get(estimate.id) or "unknown"
        correct[domain] += estimate.num_correct
        counted[domain] += estimate.num_counted
    return {
        domain: round(correct[domain] / number, 4) if number else None
        for domain, number in sorted(counted.items())
    }
