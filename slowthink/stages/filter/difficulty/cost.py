"""What the attempts will cost, before any is made; and the part of the pool that fits the time.

{"step": "difficulty: fine", "model": "deepseek-ai/…", "num_problems": 59000,
 "max_attempts": 1888000, "expected_attempts": 1358976, "expected_tokens": 45229421568,
 "max_tokens": 62836…, "expected_hours": 104.7}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slowthink.errors import ConfigError
from slowthink.recipe import AttemptModel, DifficultyConfig, DifficultyStep, Recipe
from slowthink.records import Problem, item_seed
from slowthink.stages.filter.difficulty.band import Band, Tally, decided


@dataclass(frozen=True, slots=True)
class Beta:
    """A Beta distribution of the problems' pass rates."""

    alpha: float
    beta: float


FIRST_STEP, LATER_STEPS = Beta(1.0, 1.0), Beta(1.0, 5.0)
"""Pass rates assumed in estimates: uniform for the first step; for later steps the posterior after
four failures."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one model's attempts in one step may cost, if no step before drops anything."""

    step: str
    model: str
    num_problems: int
    max_attempts: int
    expected_attempts: int
    """With early stopping, under pass rates that a step usually meets."""
    max_tokens: int
    expected_tokens: int
    expected_hours: float | None
    """None where the model's speed is not known."""

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def line(self) -> str:
        """In a line, for people."""
        hours = "" if self.expected_hours is None else f", {self.expected_hours:.2g} hours"
        return (
            f"{self.step}: {self.model} tries {self.num_problems} problems, about "
            f"{self.expected_attempts} attempts and {self.expected_tokens} tokens{hours} "
            f"(at most {self.max_attempts} and {self.max_tokens})"
        )


def step_name(step: DifficultyStep) -> str:
    """The step's name in the funnel."""
    return "difficulty" if step.name is None else f"difficulty: {step.name}"


def model_name(model: AttemptModel, recipe: Recipe) -> str:
    """Who tries: the model, or the file of its samples."""
    return model.samples or model.model or recipe.model


def settings_of(model: AttemptModel, step: DifficultyStep) -> tuple[int, int, float]:
    """Cap of thinking, limit of the answer, temperature: the model's own, else the step's."""
    own = (model.max_thinking_tokens, model.answer_tokens, model.temperature)
    general = (step.max_thinking_tokens, step.answer_tokens, step.temperature)
    thinking, answer, temperature = (
        b if a is None else a for a, b in zip(own, general, strict=True)
    )
    return int(thinking), int(answer), float(temperature)


def estimates(config: DifficultyConfig, recipe: Recipe, *, num_problems: int) -> list[Estimate]:
    """One estimate for each model of each step, in order, for `num_problems` tested problems."""
    return [
        _estimate(
            step, model, recipe,
            num_problems=num_problems, pass_rates=LATER_STEPS if number else FIRST_STEP,
        )
        for number, step in enumerate(config.in_sequence())
        for model in step.models
    ]  # fmt: skip


def _estimate(
    step: DifficultyStep,
    model: AttemptModel,
    recipe: Recipe,
    *,
    num_problems: int,
    pass_rates: Beta,
) -> Estimate:
    thinking, answer, _ = settings_of(model, step)
    limit = thinking + answer if model.samples is None else 0
    mean = min(limit, model.tokens_per_attempt or limit)
    max_attempts = num_problems * step.num_attempts
    expected = round(num_problems * attempts_per_problem(step, pass_rates))
    speed = model.tokens_per_second
    known = 0.0 if not limit else expected * mean / speed / 3600 if speed else None
    return Estimate(
        step=step_name(step), model=model_name(model, recipe), num_problems=num_problems,
        max_attempts=max_attempts, expected_attempts=expected, max_tokens=max_attempts * limit,
        expected_tokens=expected * mean, expected_hours=known,
    )  # fmt: skip


def attempts_per_problem(step: DifficultyStep, pass_rates: Beta) -> float:
    """Mean number of attempts at a problem, in waves of one."""
    if step.stop == "exact" and step.measure == "pass_rate":
        return attempts_until_decided(Band.of(step), pass_rates)
    return float(step.num_attempts)


def attempts_until_decided(band: Band, pass_rates: Beta) -> float:
    """Mean number of attempts until the decision is certain (`stop: exact`).

    The minimum of every rule that always gives the decision of all attempts, since a rule that
    stops earlier leaves a possible outcome that changes the decision. Sums over the reachable
    states (attempts made, correct ones), starting from the first attempt.
    """
    reached = {(0, 0): 1.0}
    mean = 0.0
    for drawn in range(band.num_attempts + 1):
        for correct in range(drawn + 1):
            chance = reached.pop((drawn, correct), 0.0)
            if chance == 0.0:
                continue
            if decided(band, Tally(correct, drawn, drawn)) is not None:
                mean += chance * drawn
                continue
            rate = (pass_rates.alpha + correct) / (pass_rates.alpha + pass_rates.beta + drawn)
            for state, share in (
                ((drawn + 1, correct + 1), rate),
                ((drawn + 1, correct), 1 - rate),
            ):
                reached[state] = reached.get(state, 0.0) + chance * share
    return mean


# --- a part of the pool ---------------------------------------------------------------------------


def num_tried(config: DifficultyConfig, recipe: Recipe, *, num_problems: int) -> int:
    """How many of so many problems are tried: those that fit the hours, or `max_problems`.

    Raises ConfigError where hours are given and a model's speed is not.
    """
    if config.hours is not None:
        return _num_fitting(config, recipe, num_problems=num_problems, hours=config.hours)
    limit = config.max_problems if _is_single(config) else None
    return min(num_problems, limit or num_problems)


def sub_pool(problems: Sequence[Problem], config: DifficultyConfig, recipe: Recipe) -> list[str]:
    """Ids of the problems that are tried within `config.hours`, at least one.

    Hours are a pure function of the recipe, so the part is the same in every run. Raises
    ConfigError where a model's speed is not given.
    """
    number = num_tried(config, recipe, num_problems=len(problems))
    return stratified(problems, seed=recipe.seed)[:number]


def _num_fitting(
    config: DifficultyConfig, recipe: Recipe, *, num_problems: int, hours: float
) -> int:
    unknown = [one.model for one in estimates(config, recipe, num_problems=1)
               if one.expected_hours is None]  # fmt: skip
    if unknown:
        raise ConfigError(
            f"filter.difficulty.hours: no tokens_per_second for {', '.join(unknown)}; expected a "
            "measured speed of each model. Run a few problems (steps, or max_problems) and take it "
            "from facts.attempts in the manifest."
        )
    low, high = min(1, num_problems), num_problems
    while low < high:
        middle = (low + high + 1) // 2
        fits = _hours(config, recipe, middle) <= hours
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _hours(config: DifficultyConfig, recipe: Recipe, num_problems: int) -> float:
    found = estimates(config, recipe, num_problems=num_problems)
    return sum(one.expected_hours or 0.0 for one in found)


def stratified(problems: Sequence[Problem], *, seed: int) -> list[str]:
    """Ids in an order whose every beginning holds the domains (of a problem without one, the
    source) in their shares, each once at first; the same whatever the order of the problems."""
    strata: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        name = ("source", problem.source) if problem.domain is None else ("domain", problem.domain)
        strata.setdefault(name, []).append(problem.id)
    places: dict[str, float] = {}
    for ids in strata.values():
        ids.sort(key=lambda one: (item_seed(seed, "sub-pool", one), one))
        places |= {one: place / len(ids) for place, one in enumerate(ids)}
    return sorted(places, key=lambda one: (places[one], item_seed(seed, "sub-pool", one), one))


def drawn_to_test(problems: Sequence[Problem], config: DifficultyConfig, *, seed: int) -> set[str]:
    """Ids of the problems that a single step tries (`max_problems`), whatever their order."""
    ids = sorted({problem.id for problem in problems})
    if not _is_single(config):
        return set(ids)
    ids.sort(key=lambda one: item_seed(seed, "difficulty", one))
    return set(ids[: config.max_problems])


def _is_single(config: DifficultyConfig) -> bool:
    return config.preset is None and not config.steps
