"""The error tree. A message says where, what was seen, what was expected, and what to do.

SlowthinkError ├── ConfigError(ValueError)     a recipe, option or setting is wrong: nothing has
been done yet ├── DataError(ValueError)       a file or a row cannot be used ├──
EngineError(RuntimeError)   a model, server or ledger does not do what was asked └──
GraderError(RuntimeError)   grading as a whole cannot be trusted (one bad item is a verdict, not an
error)
"""

from __future__ import annotations


class SlowthinkError(Exception):
    """Any failure that slowthink explains; the command line prints its message and no traceback."""


class ConfigError(SlowthinkError, ValueError):
    """A recipe, an option or a setting cannot be carried out; raised before any work."""


class DataError(SlowthinkError, ValueError):
    """A file or a row is not what it should be."""


class EngineError(SlowthinkError, RuntimeError):
    """A model, a server or the ledger failed, or cannot do what was asked of it."""


class GraderError(SlowthinkError, RuntimeError):
    """The grader as a whole cannot be trusted: a broken dependency, or too many failures."""


def missing_extra(package: str, *, extra: str) -> ConfigError:
    """The error for a part whose packages are not installed, with the pip line that mends it."""
    return ConfigError(
        f"`{package}` is not installed; this needs slowthink's extra `{extra}`. "
        f"Run: pip install 'slowthink[{extra}]'"
    )
