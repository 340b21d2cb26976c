"""Which models the settings of a recipe name, and which make a stage load one.

model_loading_settings(recipe, "filter")  # ("filter.domains", "filter.difficulty")

Such a stage runs in its own process, so that its memory is free for the next model; so does trace,
which loads a tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_args

from slowthink.recipe import (
    ArmConfig,
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
        setting = "model" if is_own else ".".join(map(str, (*place, "model")))
        yield ModelUse(
            name=recipe.model if is_own else config.model, engine=engine,
            revision=recipe.revision if is_own else getattr(config, "revision", None),
            setting="" if config.model == "tuned" else setting, stage=str(place[0]),
            engine_setting=".".join(map(str, (*place, "engine"))) if own_engine else "engine",
        )  # fmt: skip


def _model_sections(recipe: Recipe) -> Iterator[tuple[Place, Any]]:
    """The sections that name a model to run, with their places."""
    kinds = (
        PromptedModelConfig, ArmConfig, JudgeConfig, ModelScorer, JudgeScorer, StudentScore,
        TeacherTraces,
    )  # fmt: skip
    for place, section in sections(recipe):
        if isinstance(section, kinds) and not getattr(section, "samples", None):
            yield place, section
    difficulty = recipe.filter.difficulty if recipe.filter else None
    for step in difficulty.resolved_steps() if difficulty else ():
        for model in step.models:
            if model.samples is None:
                yield ("filter", "difficulty"), model


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
