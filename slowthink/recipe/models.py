"""Which settings of a recipe make a stage load a language model or an embedding model.

model_loading_settings(recipe, "filter")  # ("filter.domains", "filter.difficulty")

Such a stage runs in its own process, so that its memory is free for the next model; so does trace,
which loads a tokenizer.
"""

from __future__ import annotations

from slowthink.recipe import FilterConfig, Recipe


def model_loading_settings(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """Names of the settings in the recipe; empty if the stage loads no model."""
    if stage == "filter" and recipe.filter is not None:
        return _filter_settings(recipe.filter)
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
