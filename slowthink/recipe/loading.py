"""Recipes from files: YAML, then `--set a.b=c`; all errors are reported at once.

load_recipe("quickstart", overrides=["train.epochs=1", "pool.sources.0.num_problems=50"])
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from slowthink.errors import ConfigError, did_you_mean
from slowthink.recipe import Recipe, Settings
from slowthink.recipe.base import CONTAINS_SECRET
from slowthink.serialise import load_yaml

S = TypeVar("S", bound=Settings)

_CREDENTIALS = re.compile(r"//[^/\s]*@")

REMOVED_SETTINGS: dict[str, object] = {
    "filter.difficulty.max_error": 0.05,
    "filter.difficulty.steps.max_error": 0.05,
}
"""Settings that older recipes and manifests contain, without list indices, each with its old
default. The default changed nothing and is ignored; any other value is an unknown key."""


def recipe_names() -> list[str]:
    """Names of the recipes that ship with slowthink; those in a folder as `ablations/NAME`."""
    return sorted(_names_in(resources.files("slowthink.recipe") / "recipes"))


def _names_in(folder: Traversable, prefix: str = "") -> Iterator[str]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _names_in(item, f"{prefix}{item.name}/")
        elif item.name.endswith(".yaml"):
            yield prefix + item.name.removesuffix(".yaml")


def load_recipe(source: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, or the shipped one of that name, with `a.b=c` overrides applied.

    Raises ConfigError naming every unknown key, wrong type and impossible pair at once.
    """
    where, text = _read(source)
    try:
        data = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}. Fix the file.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: saw {type(data).__name__}; expected a mapping of settings.")
    return parse_recipe(data, where=where, overrides=overrides)


def parse_recipe(
    data: dict[str, Any], *, where: str = "recipe", overrides: Sequence[str] = ()
) -> Recipe:
    """Validated settings, with `a.b=c` overrides applied. Raises ConfigError with every problem."""
    return parse_settings(Recipe, data, where=where, overrides=overrides)


def parse_settings(
    kind: type[S], data: dict[str, Any], *, where: str, overrides: Sequence[str] = ()
) -> S:
    """The same for settings of any class."""
    for override in overrides:
        _apply(data, override)
    try:
        return kind.model_validate(without_removed_settings(data))
    except ValidationError as error:
        problems = "\n".join(f"  {line}" for line in _explain(error, kind))
        raise ConfigError(
            f"{where}: {error.error_count()} setting(s) cannot be used:\n{problems}"
        ) from None


def without_removed_settings(settings: Any, prefix: str = "") -> Any:
    """The settings without those of REMOVED_SETTINGS that have their old default."""
    if isinstance(settings, list):
        return [without_removed_settings(item, prefix) for item in settings]
    if not isinstance(settings, dict):
        return settings
    names = {key: f"{prefix}.{key}".lstrip(".") for key in settings}
    return {
        key: without_removed_settings(value, names[key])
        for key, value in settings.items()
        if names[key] not in REMOVED_SETTINGS or value != REMOVED_SETTINGS[names[key]]
    }


def _read(source: str) -> tuple[str, str]:
    path = Path(source)
    if path.is_file():
        try:
            return source, path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{source}: not UTF-8 text ({error.reason} at byte {error.start})."
            ) from None
    if source in recipe_names():
        shipped = resources.files("slowthink.recipe") / "recipes" / f"{source}.yaml"
        return source, shipped.read_text("utf-8")
    hint = did_you_mean(source, recipe_names())
    raise ConfigError(
        f"recipe `{source}`: no such file, and no shipped recipe of that name{hint}. "
        f"Shipped: {', '.join(recipe_names())}."
    )


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one dotted key; list items by index, e.g. `pool.sources.0.path=x`."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected KEY=VALUE, e.g. --set train.epochs=1")
    node: Any = data
    for key in keys[:-1]:
        node = _descend(node, key, override)
    value = yaml.safe_load(text) if text else None
    if isinstance(node, list):
        node[_index(node, keys[-1], override)] = value
    else:
        node[keys[-1]] = value


def _descend(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, key, override)]
    if node.get(key) is None:
        node[key] = {}
    if not isinstance(node[key], (dict, list)):
        raise ConfigError(f"--set {override}: `{key}` is {node[key]!r}; it has no settings inside.")
    return node[key]


def _index(node: list[Any], key: str, override: str) -> int:
    if not key.isdigit() or int(key) >= len(node):
        raise ConfigError(
            f"--set {override}: `{key}` is not an index of a list of {len(node)}; "
            f"expected 0 to {len(node) - 1}."
        )
    return int(key)


def _explain(error: ValidationError, kind: type[Settings]) -> Iterator[str]:
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        where = ".".join(path)
        if item["type"] == "extra_forbidden":
            yield f"{where}: unknown key{did_you_mean(path[-1], _siblings(item['loc'], kind))}"
        elif item["type"] == "missing":
            yield f"{where}: needed, but not given"
        elif item["type"] == CONTAINS_SECRET:
            yield f"{where}: {item['msg']}"
        else:
            seen = _CREDENTIALS.sub("//…@", repr(item["input"]))[:80]
            yield f"{where}: {item['msg'].removeprefix('Value error, ')}; saw {seen}"


def _siblings(location: tuple[int | str, ...], kind: type[Settings]) -> list[str]:
    """Names allowed beside the unknown key."""
    models: list[Any] = [kind]
    for part in location[:-1]:
        models = [inner for model in models for inner in _inner(model, part)] or models
    return sorted({name for model in models for name in getattr(model, "model_fields", {})})


def _inner(model: Any, part: int | str) -> list[Any]:
    fields = getattr(model, "model_fields", {})
    if part not in fields:
        return []
    inner: list[Any] = []
    queue = [fields[part].annotation]
    while queue:
        hint = queue.pop()
        if isinstance(hint, type) and issubclass(hint, Settings):
            inner.append(hint)
        queue.extend(getattr(hint, "__args__", ()))
        if hasattr(hint, "__origin__") and not isinstance(hint.__origin__, type):
            queue.append(hint.__origin__)
    return inner
