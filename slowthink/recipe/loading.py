"""Recipes from files: YAML, then `--set a.b=c`; all errors are reported at once.

load_recipe("quickstart", overrides=["train.epochs=1", "pool.sources.0.num_problems=50"])
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from slowthink.errors import ConfigError, did_you_mean, wrong_type
from slowthink.recipe import Recipe, Settings
from slowthink.recipe.base import CONTAINS_SECRET
from slowthink.serialise import is_file, load_yaml

S = TypeVar("S", bound=Settings)
Overrides = Sequence[str] | Mapping[str, Any]
"""Changes of settings: `a.b=VALUE` with the value in YAML, or the values by dotted name."""

_UNUSABLE_TEXT = re.compile("[\x00\ud800-\udfff]")
MAX_RECIPE_BYTES = 2_000_000
"""Size of the largest file that is read as a recipe."""
_URL_CREDENTIALS = re.compile(r"//[^/\s]*@")

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


def load_recipe(source: str, *, overrides: Overrides = ()) -> Recipe:
    """The recipe in a file, or the shipped one of that name, with `a.b=c` overrides applied.

    Raises ConfigError naming every unknown key, wrong type and impossible pair at once.
    """
    where, data = _read_settings(source)
    return parse_recipe(data, where=where, overrides=overrides)


def _read_settings(source: str, extending: tuple[str, ...] = ()) -> tuple[str, dict[str, Any]]:
    """Where settings are from, and all of them: those of the recipe that `extends` names, changed
    by the recipe's own. A mapping changes single settings, a list replaces the whole list."""
    where, text = _read_source(source)
    try:
        data = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{where}: not valid YAML ({error}); expected a mapping of settings. Fix the file."
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{where}: saw {text[:40]!r}; expected a mapping of settings, e.g. `name: mine`. "
            "Fix the file."
        )
    base = data.pop("extends", None)
    if base is None:
        return where, data
    if not isinstance(base, str) or where in extending:
        seen = " extends ".join((*extending, where)) if isinstance(base, str) else repr(base)
        raise ConfigError(
            f"{where}: extends: saw {seen:.200}; expected the name or the file of one other "
            "recipe, and no circle. Name another: extends: quickstart"
        )
    beside = Path(where).parent / base
    base = str(beside) if is_file(beside) and is_file(Path(where)) else base
    try:
        return where, _merge(_read_settings(base, (*extending, where))[1], data)
    except ConfigError as error:
        raise ConfigError(f"{where}: extends: {error}") from None


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The base's settings with the changes made, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merge(old, value)
        merged[key] = value
    return merged


def recipe_summary(name: str) -> str:
    """What a shipped recipe does: the first sentence of the comment at its top, or without one what
    it extends and which sections it changes."""
    source = _read_source(name)[1]
    if comment := re.match(r"(?:# \S.*\n)+", source):
        text = " ".join(line[2:] for line in comment[0].splitlines())
    else:
        data = load_yaml(source)
        changed = [key for key in data if key not in ("extends", "name")]
        text = f"The same as `{data['extends']}`"
        text += f", with other settings of {', '.join(changed)}" if changed else ""
    sentence = re.split(r"(?<=[.])\s| Run first:", text)[0].rstrip(".")
    return textwrap.shorten(sentence, width=110, placeholder=" …")


def parse_recipe(
    data: dict[str, Any], *, where: str = "recipe", overrides: Overrides = ()
) -> Recipe:
    """Validated settings, with `a.b=c` overrides applied. Raises ConfigError with every problem."""
    return parse_settings(Recipe, data, where=where, overrides=overrides)


def parse_settings(
    cls: type[S], data: dict[str, Any], *, where: str, overrides: Overrides = ()
) -> S:
    """Validated settings of class `cls`; `where` is their origin, for messages."""
    _check_overrides(overrides)
    if isinstance(overrides, Mapping):
        for name, value in overrides.items():
            _set_value(data, name, as_setting(value), override=f"{name}={value}")
    else:
        for override in overrides:
            _apply_override(data, override)
    _check_texts(data, where)
    try:
        return cls.model_validate(without_removed_settings(data))
    except ValidationError as error:
        lines = list(_explain(error, cls, data))
        problems = "\n".join(f"  {line}" for line in lines)
        raise ConfigError(f"{where}: {len(lines)} setting(s) cannot be used:\n{problems}") from None


def _check_overrides(overrides: Any) -> None:
    """Raise ConfigError for what is neither a mapping by name nor a list of texts."""
    names = overrides if isinstance(overrides, list | tuple | Mapping) else [overrides]
    wrong = [name for name in names if not isinstance(name, str) or names is not overrides]
    if wrong:
        expected = 'a mapping by name, e.g. {"seed": 1}. Or give a list of texts: ["seed=1"].'
        raise ConfigError(wrong_type(wrong[0], "settings", expected))


def _check_texts(value: Any, where: str, setting: str = "") -> None:
    """Raise ConfigError for a text that no file, model or prompt can have: with a NUL in it, or
    bytes that are not UTF-8."""
    if isinstance(value, str) and _UNUSABLE_TEXT.search(value):
        raise ConfigError(
            f"{where}: {setting or 'a key'}: {value[:80]!r} has a NUL character, or is not UTF-8; "
            "expected text. Remove or convert it."
        )
    is_list = isinstance(value, list | tuple)
    items: Any = enumerate(value) if is_list else value.items() if isinstance(value, dict) else ()
    for key, item in items:
        _check_texts(key, where)
        _check_texts(item, where, f"{setting}.{key}".lstrip("."))


def without_removed_settings(settings: Any, prefix: str = "") -> Any:
    """The settings without those in REMOVED_SETTINGS that have their old default."""
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


def _read_source(source: str) -> tuple[str, str]:
    path = Path(source)
    if is_file(path) and path.suffix.lower() in (".csv", ".jsonl", ".parquet"):
        raise ConfigError(
            f"{source}: a file of rows; expected a recipe or a run folder. Write a recipe for it: "
            f"slowthink init own-data --data {source}"
        )
    if is_file(path):
        if (size := path.stat().st_size) > MAX_RECIPE_BYTES:
            raise ConfigError(
                f"{source}: {size:,} bytes; expected a recipe, of at most {MAX_RECIPE_BYTES:,}. "
                "Name a recipe's file."
            )
        try:
            return source, path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{source}: not UTF-8 text ({error.reason} at byte {error.start}). Convert it."
            ) from None
    if source in recipe_names():
        shipped = resources.files("slowthink.recipe") / "recipes" / f"{source}.yaml"
        return source, shipped.read_text("utf-8")
    if path.name == "recipe.yaml":
        raise ConfigError(
            f"{path.parent}: no recipe.yaml; expected the folder of a run. Name one, such as "
            "runs/quickstart, or start a run: slowthink run RECIPE"
        )
    hint = did_you_mean(source[:100], recipe_names())
    raise ConfigError(
        f"recipe `{source[:200]}`: no such file or run folder, and no shipped recipe of that "
        f"name{hint}; expected one of these. List the shipped ones: slowthink recipes"
    )


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted key in place; list items by index, e.g. `pool.sources.0.path=x`."""
    name, equals, text = override.partition("=")
    if not equals:
        raise _not_a_setting(override)
    try:
        value = load_yaml(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {override[:100]}: the value is not valid YAML ({error}); expected e.g. 3, text "
            "or [1, 2]. Close its brackets and quotes."
        ) from None
    _set_value(data, name, value, override=override)


def _set_value(data: dict[str, Any], name: str, value: Any, *, override: str) -> None:
    keys = name.strip().split(".")
    if not all(keys):
        raise _not_a_setting(override)
    node: Any = data
    for key in keys[:-1]:
        node = _child(node, key, override)
    if isinstance(node, list):
        node[_list_index(node, keys[-1], override)] = value
    else:
        node[keys[-1]] = value


def _not_a_setting(override: str) -> ConfigError:
    return ConfigError(f"--set {override[:100]}: expected KEY=VALUE, e.g. --set train.epochs=1")


def as_setting(value: Any) -> Any:
    """A value given in Python as YAML would give it: paths as text, settings as mappings."""
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [as_setting(item) for item in value]
    if isinstance(value, Mapping):
        return {key: as_setting(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _child(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_list_index(node, key, override)]
    if node.get(key) is None:
        node[key] = {}
    if not isinstance(node[key], (dict, list)):
        raise ConfigError(
            f"--set {override[:100]}: `{key[:40]}` is {node[key]!r:.100} and "
            "has no settings inside; expected a "
            "section such as `train`. Set the value itself, e.g. --set seed=1"
        )
    return node[key]


def _list_index(node: list[Any], key: str, override: str) -> int:
    is_number = key.isascii() and key.isdecimal() and len(key) < 10
    if not is_number or int(key) >= len(node):
        raise ConfigError(
            f"--set {override[:100]}: `{key[:40]}` is not an index of a list of {len(node)}; "
            "expected a "
            f"number below {len(node)}. To add an item, set the whole list: --set NAME=[…]"
        )
    return int(key)


def _explain(error: ValidationError, cls: type[Settings], data: Any) -> Iterator[str]:
    """One line per fault: the setting, what is wrong, and the value.

    Pydantic reports a value that fits no type of a union once per type, and a list once more than
    its item: those of one setting are joined, and those around a faulty setting left out.
    """
    faults: dict[tuple[str, ...], list[Any]] = {}
    for item in error.errors():
        faults.setdefault(_setting_path(item, data), []).append(item)
    for path, items in faults.items():
        if not any(other[: len(path)] == path and other != path for other in faults):
            yield _fault(".".join(path), items, cls)


def _setting_path(item: Any, data: Any) -> tuple[str, ...]:
    """The keys of a fault's setting, without the names that pydantic gives the types of a union:
    a key that the data lacks is one of these, unless that is the fault."""
    path: list[str] = []
    for position, key in enumerate(item["loc"]):
        is_last = position + 1 == len(item["loc"])
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            if not (is_last and item["type"] == "missing"):
                continue
        path.append(str(key))
    return tuple(path)


def _fault(setting: str, items: Sequence[Any], cls: type[Settings]) -> str:
    item = items[0]
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"], cls)
        hint = did_you_mean(str(item["loc"][-1]), known) or f"; expected one of {', '.join(known)}"
        return f"{setting}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{setting}: missing; this setting is required"
    messages = dict.fromkeys(map(_message, items))
    text = f"{setting}: {', or: '.join(messages)}".removeprefix(": ")
    if item["type"] == CONTAINS_SECRET:
        return text
    return f"{text}; saw {_without_credentials(repr(item['input']))[:80]}"


def _without_credentials(text: str) -> str:
    """To be called before a text is cut: half of a password would no longer be known as one."""
    return _URL_CREDENTIALS.sub("//…@", text)


def _message(item: Any) -> str:
    """What is wrong with a value; kinds of YAML in place of Python's classes."""
    match item["type"]:
        case "tuple_type" | "list_type":
            value = item["input"]
            is_item = isinstance(value, str | int | float)
            example = f", e.g. [{_without_credentials(str(value)):.40}]" if is_item else ""
            return f"Input should be a list{example}"
        case "dict_type":
            return "Input should be a mapping"
        case "model_type" | "model_attributes_type":
            return "Input should be a mapping of settings"
    return str(item["msg"]).removeprefix("Value error, ")


def _known_keys(location: tuple[int | str, ...], cls: type[Settings]) -> list[str]:
    """Names of the settings that may be given where the unknown key is."""
    classes: list[type[Settings]] = [cls]
    for key in location[:-1]:
        classes = [inner for outer in classes for inner in _classes_inside(outer, key)] or classes
    return sorted({name for known in classes for name in known.model_fields})


def _classes_inside(cls: type[Settings], key: int | str) -> list[type[Settings]]:
    """Classes of settings in the type of one setting; empty if `cls` has no such setting."""
    if key not in cls.model_fields:
        return []
    classes: list[type[Settings]] = []
    queue: list[Any] = [cls.model_fields[str(key)].annotation]
    while queue:
        hint = queue.pop()
        if isinstance(hint, type) and issubclass(hint, Settings):
            classes.append(hint)
        queue.extend(getattr(hint, "__args__", ()))
        if hasattr(hint, "__origin__") and not isinstance(hint.__origin__, type):
            queue.append(hint.__origin__)
    return classes
