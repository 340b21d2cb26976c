"""Replaces `auto` in the settings, once, when a run is created. All rules stand in RULES.

The values are saved in the run's `recipe.yaml`, so a later command, or another machine, keeps them;
`run.json` records why. A value that the user gave is never changed.

`engine.device: auto` is no such setting: it names the best device of the machine that runs the
stage, which may differ from one command to the next, and decides no other setting by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from slowthink.engines.auto import (
    BY_MACHINE,
    Choice,
    Machine,
    Workload,
    choose_kind,
    this_machine,
)
from slowthink.pipeline.contract import GENERATING_STAGES, stage_module
from slowthink.recipe import Recipe, Settings
from slowthink.recipe.models import model_loading_settings
from slowthink.recipe.saved import Place, load_saved, sections, set_value, value_at

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class AutoContext:
    """What a rule may look at besides its own section."""

    recipe: Recipe
    machine: Machine
    workload: Callable[[], Workload]
    """What the section's engine is expected to do; estimated when called."""


AUTO = "auto"
AutoRule = Callable[[Any, AutoContext], Choice]
"""The choice for a section of settings, and the context."""


def _micro_batch_size(section: Any, context: AutoContext) -> Choice:
    choice: Choice = stage_module("train").choose_micro_batch_size(
        section, context.recipe, context.machine
    )
    return choice


def _max_steps(section: Any, context: AutoContext) -> Choice:
    train = stage_module("train")
    choice: Choice = train.choose_max_steps(
        section, context.recipe, num_examples=train.planned_examples(context.recipe)
    )
    return choice


def _by_machine(choose: Callable[[Any, Machine], Choice]) -> AutoRule:
    return lambda section, context: choose(section, context.machine)


RULES: dict[str, AutoRule] = {
    "EngineConfig.kind": lambda engine, context: choose_kind(
        engine, context.workload, context.machine
    ),
    **{f"EngineConfig.{name}": _by_machine(choose) for name, choose in BY_MACHINE.items()},
    "TrainConfig.micro_batch_size": _micro_batch_size,
    "TrainConfig.max_steps": _max_steps,
    "TraceConfig.gate": lambda trace, context: Choice("standard", "the default of a new run"),
}
"""The rule of each setting that may be `auto`, by class and name."""
NULL_TEXTS = {"micro_batch_size": "the whole batch", "max_steps": "all steps"}
"""What null means, by the name of the setting."""
MEASURED = frozenset({"TrainConfig.max_steps"})
"""Settings whose rule loads a model and measures its speed. A plan leaves them `auto`."""


@dataclass(frozen=True)
class Resolved(Generic[R]):
    """Settings without `auto`."""

    recipe: R
    choices: Mapping[str, Choice] = field(default_factory=dict)
    """What was chosen now, by setting; values kept from an earlier command are not in it."""

    @property
    def text(self) -> str:
        """The choices, on one line."""
        return "; ".join(
            choice_text(name, choice.value, choice.reason) for name, choice in self.choices.items()
        )

    def to_json(self) -> dict[str, Any]:
        """The choices, as `run.json` has them."""
        return {name: asdict(choice) for name, choice in self.choices.items()}


def resolve_run(
    recipe: R,
    root: Path | None = None,
    *,
    machine: Machine | None = None,
    measure: bool = True,
    notify: Callable[[str], None] = lambda _: None,
) -> Resolved[R]:
    """Settings for a run in this folder: what its `recipe.yaml` has, otherwise chosen now, for this
    machine or another one.

    Without `measure`, settings that need a measurement stay `auto`. `notify` receives a message
    before each measurement.
    """
    return resolve(
        recipe,
        saved=_saved_recipe(root) if root else None,
        workload=lambda place: planned_work(recipe, place),
        machine=machine,
        measure=measure,
        notify=notify,
    )


def resolve(
    recipe: R,
    *,
    workload: Callable[[Place], Workload],
    saved: Recipe | None = None,
    machine: Machine | None = None,
    measure: bool = True,
    notify: Callable[[str], None] = lambda _: None,
) -> Resolved[R]:
    """Replace each `auto` by the saved value, or by the choice for the machine (this one) and the
    workload of the engine in a place."""
    machine = machine or this_machine()
    values = recipe.model_dump(mode="json")
    choices: dict[str, Choice] = {}
    for place, section in sections(recipe):
        context = AutoContext(recipe, machine, partial(workload, place))
        for name in _auto_settings(section):
            setting = f"{type(section).__name__}.{name}"
            value = _value_in(saved, (*place, name))
            if value == AUTO and (measure or setting not in MEASURED):
                where = ".".join(map(str, (*place, name)))
                if setting in MEASURED:
                    notify(f"auto: measuring the speed of this machine for {where}")
                choice = choices[where] = RULES[setting](section, context)
                value = choice.value
            set_value(values, (*place, name), value)
    return Resolved(type(recipe).model_validate(values), choices)


def choice_text(setting: str, value: object, reason: str) -> str:
    """The chosen value of a setting and why, as a user reads it."""
    shown = NULL_TEXTS.get(setting.rsplit(".", 1)[-1], "null") if value is None else value
    return f"{setting}={shown} ({reason})"


def _auto_settings(section: Settings) -> Iterator[str]:
    """Names of the settings in this section that are `auto` and have a rule."""
    for name in type(section).model_fields:
        if f"{type(section).__name__}.{name}" in RULES and getattr(section, name) == AUTO:
            yield name


def _value_in(saved: Recipe | None, place: Place) -> Any:
    """The saved value of a setting; `auto` if there is none."""
    try:
        return value_at(saved, place)
    except LookupError:
        return AUTO


def planned_work(recipe: Recipe, place: Place) -> Workload:
    """Tokens and model loads that the recipe plans for the engine in this place: that of a stage,
    or the recipe's own, which all stages use."""
    stages = [stage for stage in GENERATING_STAGES if stage in recipe.stages()]
    if place[0] != "engine":
        stages = [stage for stage in stages if stage == place[0]]
    plans = [stage_module(stage).plan(recipe) for stage in stages]
    return Workload(
        num_tokens=sum(plan.get("estimated_tokens", 0) for plan in plans),
        num_starts=sum(_num_loads(recipe, stage) for stage in stages),
    )


def _num_loads(recipe: Recipe, stage: str) -> int:
    """How often a stage loads a model, roughly: once for each arm, or each step of the filter."""
    if stage == "evaluate" and recipe.evaluate is not None:
        return sum(arm.samples is None for arm in recipe.evaluate.arms)
    return len(model_loading_settings(recipe, stage))


def _saved_recipe(root: Path) -> Recipe | None:
    """The settings of an earlier command in this folder; None for a new run."""
    was_run = (root / "run.json").exists() or any(root.glob("*/manifest.json"))
    path = root / "recipe.yaml"
    return load_saved(path) if was_run and path.exists() else None
