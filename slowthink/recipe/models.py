"""Which models the settings of a recipe name, and which make a stage load one.

model_loading_settings(recipe, "filter")  # ("filter.domains", "filter.difficulty")

Such a stage runs in its own process, so that its memory is free for the next model; so does trace,
which loads a tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

import yaml

from slowthink.recipe import (
    ArmConfig,
    AttemptModel,
    EngineConfig,
    FilterConfig,
    FunctionScorer,
    JudgeConfig,
    JudgeScorer,
    ModelScore,
    ModelScorer,
    PromptedModelConfig,
    Recipe,
    StudentScore,
    TeacherTraces,
    TraceConfig,
)
from slowthink.recipe.saved import Place, sections

MODEL_SCORES = frozenset(score.model_fields["kind"].default for score in get_args(ModelScore))
"""Kinds of scores of chains that are computed by a model."""


def model_loading_settings(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """Names of the settings in the recipe; empty if the stage loads no model."""
    if stage == "filter" and recipe.filter is not None:
        return _filter_settings(recipe.filter)
    if stage == "trace" and recipe.trace is not None:
        return _trace_settings(recipe.trace)
    return (stage,) if stage in ("train", "evaluate") else ()


def _filter_settings(config: FilterConfig) -> tuple[str, ...]:
    duplicates, contamination = config.duplicates, config.contamination
    domains, difficulty = config.domains, config.difficulty
    steps = difficulty.resolved_steps() if difficulty else ()
    loads_model = {
        "duplicates.semantic": not isinstance(duplicates, str | None)
        and duplicates.semantic is not None,
        "contamination.paraphrase": contamination is not None
        and contamination.paraphrase is not None,
        "domains": domains is not None and set(domains.methods) != {"lexical"},
        "difficulty": any(model.samples is None for step in steps for model in step.models),
    }
    return tuple(f"filter.{name}" for name, loads in loads_model.items() if loads)


def _trace_settings(config: TraceConfig) -> tuple[str, ...]:
    teachers = [f"trace.sources.{i}" for i, s in enumerate(config.sources) if s.kind == "teacher"]
    scores = [f"trace.scores.{i}" for i, s in enumerate(config.scores) if s.kind in MODEL_SCORES]
    return (*teachers, *scores)


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """A model that a stage generates with, and its engine."""

    name: str
    revision: str | None
    engine: EngineConfig
    setting: str = field(compare=False)
    """The setting that names it; empty for the model that stage `train` makes."""
    value: str = field(compare=False, default="FOLDER")
    """What the setting is set to for another model, in a folder FOLDER."""
    engine_setting: str = field(compare=False)
    """The setting of its engine."""
    stage: str = field(compare=False)

    @property
    def is_loaded_here(self) -> bool:
        """Whether this machine loads it, and not a server."""
        return self.engine.kind in ("transformers", "vllm")


def model_uses(recipe: Recipe) -> Iterator[ModelUse]:
    """The models that the recipe's stages generate with."""
    for place, config in _model_sections(recipe):
        is_own = config.model in (None, "base", "tuned")
        own_engine = getattr(config, "engine", None)
        engine = own_engine or recipe.engine
        if isinstance(config, StudentScore | ModelScorer):
            engine = engine.model_copy(update={"kind": "transformers"})
        setting, value = "model" if is_own else ".".join(map(str, (*place, "model"))), "FOLDER"
        if place == _PRESET_MODELS:
            setting, value = ".".join(place), _replacements(recipe, config)
        yield ModelUse(
            name=recipe.model if is_own else config.model, engine=engine,
            revision=recipe.revision if is_own else getattr(config, "revision", None),
            setting="" if config.model == "tuned" else setting, value=value, stage=str(place[0]),
            engine_setting=".".join(map(str, (*place, "engine"))) if own_engine else "engine",
        )  # fmt: skip


_PRESET_MODELS = ("filter", "difficulty", "models")
"""The setting that replaces the models of a difficulty preset; they are in no section."""


def _replacements(recipe: Recipe, replaced: AttemptModel) -> str:
    """The preset's models as the setting that replaces this one, since it must name them all."""
    folder = {"model": "FOLDER", "revision": None}
    models = [
        (model.model_copy(update=folder) if model == replaced else model).model_dump(
            mode="json", exclude_defaults=True
        )
        for model in _attempt_models(recipe)
    ]
    text = yaml.safe_dump(
        models, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return str(text).strip()


def _model_sections(recipe: Recipe) -> Iterator[tuple[Place, Any]]:
    """The sections that name a model to run, with their places."""
    domains = recipe.filter.domains if recipe.filter else None
    unused = domains.llm if domains and "llm" not in domains.methods else None
    kinds = (
        PromptedModelConfig, ArmConfig, JudgeConfig, ModelScorer, JudgeScorer, StudentScore,
        TeacherTraces,
    )  # fmt: skip
    for place, section in sections(recipe):
        is_used = section is not unused and not getattr(section, "samples", None)
        if isinstance(section, kinds) and is_used:
            yield place, section
    for model in _attempt_models(recipe):
        if model.samples is None:
            given = (place for place, section in sections(recipe) if section is model)
            yield next(given, _PRESET_MODELS), model


def _attempt_models(recipe: Recipe) -> list[AttemptModel]:
    """The models of all difficulty steps."""
    difficulty = recipe.filter.difficulty if recipe.filter else None
    steps = difficulty.resolved_steps() if difficulty else ()
    return [model for step in steps for model in step.models]


def code_that_runs(recipe: Recipe) -> list[str]:
    """Settings that make a run execute code from outside slowthink, each as a sentence: a recipe
    of somebody else can name any function."""
    notices = []
    for place, section in sections(recipe):
        setting = ".".join(map(str, place))
        if isinstance(section, FunctionScorer):
            notices.append(f"{setting} runs your code: the function {section.function}")
        if isinstance(section, EngineConfig) and section.trust_remote_code:
            notices.append(f"{setting}.trust_remote_code runs code of the model's folder")
    return notices
