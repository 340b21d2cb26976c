"""Which settings of a recipe have a stage load a model: a language model, or one that embeds.

model_parts(recipe, "filter")  # ("filter.domains", "filter.difficulty")

Such a stage runs in a process of its own, whose end frees the memory for the next one's model.
"""

from __future__ import annotations

from slowthink.recipe import FilterConfig, Recipe


def model_parts(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """The settings, as the recipe names them; empty where the stage loads none."""
    if stage == "filter" and recipe.filter is not None:
        return _of_filter(recipe.filter)
    return (stage,) if stage in ("train", "evaluate") else ()


def _of_filter(config: FilterConfig) -> tuple[str, ...]:
    duplicates, contamination = config.duplicates, config.contamination
    domains, difficulty = config.domains, config.difficulty
    steps = difficulty.in_sequence() if difficulty else ()
    loads = {
        "duplicates.semantic": not isinstance(duplicates, str | None)
        and duplicates.semantic is not None,
        "contamination.paraphrase": contamination is not None
        and contamination.paraphrase is not None,
        "domains": domains is not None and set(domains.methods) != {"lexical"},
        "difficulty": any(model.samples is None for step in steps for model in step.models),
    }
    return tuple(f"filter.{name}" for name, is_so in loads.items() if is_so)
