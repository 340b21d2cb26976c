"""Settings that an earlier command saved, perhaps by an older version; places of settings.

A place is the keys and indices that lead to a setting: ("filter", "difficulty", "models", 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slowthink.recipe import Recipe, Settings
from slowthink.recipe.loading import Overrides, load_recipe, parse_recipe

Place = tuple[str | int, ...]

FORMER_DEFAULTS: dict[str, object] = {
    "EngineConfig.kind": "transformers",
    "EngineConfig.dtype": "bfloat16",
    "EngineConfig.batch_size": 48,
    "EngineConfig.batch_tokens": 32_768,
    "TrainConfig.micro_batch_size": None,
    "TraceConfig.gate": None,
}
"""By class and name: what a setting counts as where it was saved before it existed, or before it
could be `auto`, if that is not its default of today."""


def load_saved(path: Path, *, overrides: Overrides = ()) -> Recipe:
    """The recipe in a run folder's `recipe.yaml`, with these settings changed."""
    return _with_former_defaults(load_recipe(str(path), overrides=overrides))


def parse_saved(settings: Mapping[str, Any], *, where: str) -> Recipe:
    """The settings in a stage's manifest, as a recipe. Raises ConfigError for an unknown one."""
    return _with_former_defaults(parse_recipe({"name": "saved", **settings}, where=where))


def _with_former_defaults(recipe: Recipe) -> Recipe:
    """The recipe with settings that were not given at their former defaults."""
    values = recipe.model_dump(mode="json")
    for place, section in sections(recipe):
        for name in type(section).model_fields.keys() - section.model_fields_set:
            setting = f"{type(section).__name__}.{name}"
            if setting in FORMER_DEFAULTS:
                set_value(values, (*place, name), FORMER_DEFAULTS[setting])
    return Recipe.model_validate(values)


# --- places of settings ---------------------------------------------------------------------------


def sections(value: Any, place: Place = ()) -> Iterator[tuple[Place, Settings]]:
    """Every section of settings inside this one, itself included, with its place."""
    if isinstance(value, Settings):
        yield place, value
        items: Any = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        items = value.items()
    else:
        items = enumerate(value) if isinstance(value, tuple | list) else ()
    for key, item in items:
        yield from sections(item, (*place, key))


def value_at(value: Any, place: Place) -> Any:
    """The value of the setting at this place. Raises LookupError if there is none."""
    for key in place:
        if isinstance(value, Settings) and key in type(value).model_fields:
            value = getattr(value, str(key))
        elif isinstance(value, tuple | list | Mapping):
            value = value[key]  # type: ignore[index]
        else:
            raise LookupError(place)
    return value


def set_value(values: Any, place: Place, value: object) -> None:
    """Set the value at this place of dumped settings."""
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = value
