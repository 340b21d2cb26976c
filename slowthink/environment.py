"""What produced a page: the machine, installed versions, and the commit of a slowthink checkout."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import slowthink


@cache
def commit() -> str | None:
    """Short hash of slowthink's checkout, `+` if files are changed; None for an installed package.

    Computed once, since the process keeps the code that it has loaded.
    """
    package = Path(slowthink.__file__).parent
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top) / "slowthink" != package:
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{_git(package, 'rev-parse', '--short=10', 'HEAD')}{'+' if changed else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def machine() -> dict[str, str | int]:
    """Operating system, processor, cores and memory of this machine."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_gb": _memory_gb(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> int:
    """Physical memory in GB, rounded; 0 if the system does not report it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return 0


def versions() -> dict[str, str]:
    """Versions of slowthink, Python and the installed packages that can change results."""
    return {"slowthink": slowthink.__version__, "python": platform.python_version()} | _packages()


@cache
def _packages() -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for package in ("torch", "transformers", "trl", "vllm", "math-verify", "pyarrow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
