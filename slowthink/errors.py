"""The errors that slowthink raises.

A message contains the location, what was observed, what was expected, and what to do.

    SlowthinkError(Exception)
    ├── ConfigError(ValueError)     a recipe, option or setting is invalid; raised before any work
    ├── DataError(ValueError)       a file or a row is invalid
    ├── EngineError(RuntimeError)   a model, a server or the ledger failed, or lacks a feature
    └── GraderError(RuntimeError)   grading as a whole is unreliable; one failed item is a verdict
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any, TypeGuard


class SlowthinkError(Exception):
    """Base of all errors; the command line prints its message without a traceback."""


class ConfigError(SlowthinkError, ValueError):
    """A recipe, an option or a setting is invalid; raised before any work."""


class DataError(SlowthinkError, ValueError):
    """A file or a row is invalid."""


class EngineError(SlowthinkError, RuntimeError):
    """A model, a server or the ledger failed, or lacks a feature that was requested."""


class GraderError(SlowthinkError, RuntimeError):
    """Grading as a whole is unreliable: a dependency is broken, or too many items failed."""


def missing_extra(package: str, *, extra: str) -> ConfigError:
    """Return an error for a package that is not installed, with the pip command to install it."""
    return ConfigError(
        f"`{package}` is not installed; this needs slowthink's extra `{extra}`. "
        f"Run: pip install 'slowthink[{extra}]'"
    )


def require_text(value: object, name: str) -> str:
    """The value of an argument if it is a text. Raises ConfigError for another type."""
    if isinstance(value, str):
        return value
    raise ConfigError(wrong_type(value, name, "a text. Give a str, e.g. str(value)."))


def is_count(value: object, *, minimum: int = 0) -> TypeGuard[Integral]:
    """Whether an argument is a whole number from `minimum`, of Python or NumPy."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum


def require_count(value: object, name: str, *, minimum: int = 0) -> int:
    """The value of an argument if it is a whole number from `minimum`. Raises ConfigError for
    another."""
    if is_count(value, minimum=minimum):
        return int(value)
    raise ConfigError(
        f"{name}: {value!r:.80}; expected a whole number from {minimum}. Name one, e.g. {name}=1."
    )


def require_list(values: Any, name: str) -> list[Any]:
    """The values of an argument. Raises ConfigError for one text, a mapping or a single value."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        kind = "a text" if isinstance(values, str) else f"of type {type(values).__name__}"
        is_item = isinstance(values, str | int | float)
        remedy = f"Write [{values!r:.80}]" if is_item else "Give a list"
        raise ConfigError(f"{name}: {values!r:.80} is {kind}; expected a list. {remedy}.")
    return list(values)


def wrong_type(value: object, name: str, expected: str) -> str:
    """The message for an argument of another type than it takes."""
    return f"{name}: {value!r:.80} is of type {type(value).__name__}; expected {expected}"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint for a message, e.g. " (did you mean `math500`?)"; empty if no name is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""
