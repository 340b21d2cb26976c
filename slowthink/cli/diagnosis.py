"""One check of `slowthink doctor`, and versions of packages."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The result of one check."""

    name: str
    ok: bool
    seen: str
    """What was observed."""
    remedy: str = ""
    required: bool = True
    """Whether the recipe cannot run without it."""
    known: bool = True
    """Whether it could be checked. If not, it is neither `ok` nor `required`."""


def package_version(package: str) -> str | None:
    """The installed version, or `installed` under another distribution's name (vLLM for CPUs);
    None if the package is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "installed" if importlib.util.find_spec(package) else None
