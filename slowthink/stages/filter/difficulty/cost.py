"""Estimated cost of the attempts before any is made, and the part of the pool that fits the hours.

{"step": "difficulty: fine", "model": "deepseek-ai/…", "num_problems": 59000,
 "max_attempts": 1888000, "expected_attempts": 1358976, "expected_tokens": 45229421568,
 "max_tokens": 62836…, "expected_hours": 104.7}
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from slowthink.errors import ConfigError
from slowthink.recipe import AttemptModel, DifficultyConfig, DifficultyStep, Recipe
from slowthink.records import Problem, item_seed
from slowthink.sampling.attempts import Tally
from slowthink.stages.filter.difficulty.band import Band, certain_decision
from slowthink.stages.filter.difficulty.cap import DEFAULT_CAP


@dataclass(frozen=True, slots=True)
class Beta:
    """A Beta distribution of the problems' pass rates."""

    alpha: float
    beta: float


FIRST_STEP_PRIOR, LATER_STEPS_PRIOR = Beta(1.0, 1.0), Beta(1.0, 5.0)
"""Pass rates assumed in estimates: uniform for the first step; for later steps the posterior of the
uniform prior after four wrong attempts."""

UNKNOWN_CAP = f"; for a cap of {DEFAULT_CAP}, which is unknown until the solutions are read"


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """Cost of one model's attempts in one step, if no earlier step drops a problem."""

    step: str
    model: str
    num_problems: int
    max_attempts: int
    expected_attempts: int
    """With early stopping, under the assumed pass rates."""
    max_tokens: int
    expected_tokens: int
    expected_hours: float | None
    """None if the model's speed is unknown."""
    is_cap_fitted: bool = False
    """Whether the cap of thinking tokens is fitted to the solutions, and DEFAULT_CAP is assumed."""

    def line(self) -> str:
        """The estimate in one line."""
        line = (
            f"{self.step}: {self.model}: about {self.expected_attempts:,} attempts at "
            f"{self.num_problems:,} problems"
        )
        if not self.max_tokens:
            return f"{line} (at most {self.max_attempts:,}), all recorded"
        hours = "" if self.expected_hours is None else f", {self.expected_hours:.2g} hours"
        return (
            f"{line}, {self.expected_tokens:,} tokens{hours} "
            f"(at most {self.max_attempts:,} attempts, {self.max_tokens:,} tokens)"
        ) + (UNKNOWN_CAP if self.is_cap_fitted else "")


def step_name(step: DifficultyStep) -> str:
    """The step's name in the funnel."""
    return "difficulty" if step.name is None else f"difficulty: {step.name}"


def model_name(model: AttemptModel, recipe: Recipe) -> str:
    """The file of recorded samples, or the model."""
    return model.samples or model.model or recipe.model


def attempt_settings(
    model: AttemptModel, step: DifficultyStep, *, fitted_cap: int = DEFAULT_CAP
) -> tuple[int, int, float]:
    """Thinking cap, answer limit and temperature: the model's own, else the step's. `fitted_cap`
    counts where the cap is fitted to the solutions."""
    of_model = (model.max_thinking_tokens, model.answer_tokens, model.temperature)
    of_step = (step.max_thinking_tokens, step.answer_tokens, step.temperature)
    thinking, answer, temperature = (
        default if own is None else own for own, default in zip(of_model, of_step, strict=True)
    )
    cap = fitted_cap if thinking == "solutions" else int(thinking)
    return cap, int(answer), float(temperature)


def is_cap_fitted(model: AttemptModel, step: DifficultyStep) -> bool:
    """Whether this model's cap of thinking tokens is fitted to the solutions."""
    cap = model.max_thinking_tokens
    return (step.max_thinking_tokens if cap is None else cap) == "solutions"


def estimate_costs(
    config: DifficultyConfig, recipe: Recipe, *, num_problems: int
) -> list[CostEstimate]:
    """One estimate for each model of each step, in order, for `num_problems` tested problems."""
    costs = []
    for index, step in enumerate(config.resolved_steps()):
        max_attempts = num_problems * step.num_attempts
        attempts_each = expected_attempts(step, LATER_STEPS_PRIOR if index else FIRST_STEP_PRIOR)
        expected = round(num_problems * attempts_each)
        for model in step.models:
            thinking, answer, _ = attempt_settings(model, step)
            limit = thinking + answer if model.samples is None else 0
            is_fitted = bool(limit) and is_cap_fitted(model, step)
            mean = model.tokens_per_attempt or limit
            mean = mean if is_fitted else min(limit, mean)
            has_length = model.tokens_per_attempt is not None or not is_fitted
            speed = model.tokens_per_second if has_length else None
            hours = 0.0 if not limit else expected * mean / speed / 3600 if speed else None
            cost = CostEstimate(
                step=step_name(step), model=model_name(model, recipe), num_problems=num_problems,
                max_attempts=max_attempts, expected_attempts=expected,
                max_tokens=max_attempts * limit, expected_tokens=expected * mean,
                expected_hours=hours,
                is_cap_fitted=is_fitted,
            )  # fmt: skip
            costs.append(cost)
    return costs


def expected_attempts(step: DifficultyStep, pass_rates: Beta) -> float:
    """Mean number of attempts at one problem, in waves of one."""
    if step.stop == "exact" and step.measure == "pass_rate":
        return expected_attempts_until_decided(Band.from_step(step), pass_rates)
    return float(step.num_attempts)


def expected_attempts_until_decided(band: Band, pass_rates: Beta) -> float:
    """Mean number of attempts until the decision is certain (`stop: exact`).

    No rule that always gives the decision of all attempts needs fewer: if it stopped earlier, the
    remaining attempts could change the decision. Sums over the states (number of attempts, number
    of correct ones) that are reached.
    """
    probabilities = {(0, 0): 1.0}
    mean = 0.0
    for num_seen in range(band.num_attempts + 1):
        for num_correct in range(num_seen + 1):
            probability = probabilities.pop((num_seen, num_correct), 0.0)
            if probability == 0.0:
                continue
            if certain_decision(band, Tally(num_correct, num_seen, num_seen)) is not None:
                mean += probability * num_seen
                continue
            total = pass_rates.alpha + pass_rates.beta + num_seen
            pass_rate = (pass_rates.alpha + num_correct) / total
            for is_correct, share in ((1, pass_rate), (0, 1 - pass_rate)):
                state = (num_seen + 1, num_correct + is_correct)
                probabilities[state] = probabilities.get(state, 0.0) + probability * share
    return mean


# --- which problems are tested --------------------------------------------------------------------


def num_tested(config: DifficultyConfig, recipe: Recipe, *, num_problems: int) -> int:
    """How many of `num_problems` are tested: those that fit `hours`, or `max_problems`.

    Raises ConfigError if hours are given and a model's speed is not.
    """
    if config.hours is not None:
        return _num_fitting_hours(config, recipe, num_problems=num_problems, hours=config.hours)
    is_single_step = config.preset is None and not config.steps
    limit = config.max_problems if is_single_step else None
    return min(num_problems, limit or num_problems)


def ids_to_test(problems: Sequence[Problem], config: DifficultyConfig, recipe: Recipe) -> set[str]:
    """Ids of the problems to test, independent of their order. Raises as `num_tested` does.

    Costs are estimated from the recipe alone, so every run tests the same problems.
    """
    num = num_tested(config, recipe, num_problems=len(problems))
    if config.hours is not None:
        return set(stratified_order(problems, seed=recipe.seed)[:num])
    ids = sorted(problem.id for problem in problems)
    return set(sorted(ids, key=lambda id: item_seed(recipe.seed, "difficulty", id))[:num])


def _num_fitting_hours(
    config: DifficultyConfig, recipe: Recipe, *, num_problems: int, hours: float
) -> int:
    """How many problems are expected to fit the hours, at least one."""

    def expected_hours(num_problems: int) -> float:
        costs = estimate_costs(config, recipe, num_problems=num_problems)
        return sum(cost.expected_hours or 0.0 for cost in costs)

    costs = estimate_costs(config, recipe, num_problems=1)
    without_speed = [cost.model for cost in costs if cost.expected_hours is None]
    if without_speed:
        raise ConfigError(
            f"filter.difficulty.hours: no tokens_per_second for {', '.join(without_speed)}; "
            "expected the measured speed of each model, and tokens_per_attempt where its cap is "
            "fitted to solutions. Run a few problems (steps, or max_problems) and take them from "
            "facts.attempts in the manifest."
        )
    num_fitting = bisect.bisect_right(range(1, num_problems + 1), hours, key=expected_hours)
    return max(num_fitting, min(1, num_problems))


def stratified_order(problems: Sequence[Problem], *, seed: int) -> list[str]:
    """The ids, ordered so that every prefix contains the domains in proportion, beginning with one
    problem of each. Problems without a domain count by source. Independent of the given order."""
    strata: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        name = ("source", problem.source) if problem.domain is None else ("domain", problem.domain)
        strata.setdefault(name, []).append(problem.id)
    quantiles: dict[str, float] = {}
    for ids in strata.values():
        ids.sort(key=lambda id: (item_seed(seed, "sub-pool", id), id))
        quantiles |= {id: rank / len(ids) for rank, id in enumerate(ids)}
    return sorted(quantiles, key=lambda id: (quantiles[id], item_seed(seed, "sub-pool", id), id))
