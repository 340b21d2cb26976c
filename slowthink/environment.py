"""The environment of a run: machine, installed versions, and commit of a slowthink checkout."""

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
    """Short commit hash of slowthink's checkout, with `+` if files have changed. None for an
    installed package. Computed once, since the loaded code does not change.
    """
    package = Path(slowthink.__file__).parent
    root = _git(package, "rev-parse", "--show-toplevel")
    if root is None or Path(root) / "slowthink" != package:
        return None
    changes = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{_git(package, 'rev-parse', '--short=10', 'HEAD')}{'+' if changes else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None if it fails."""
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
        "processor": _processor_name(),
        "cores": os.cpu_count() or 1,
        "memory_gb": _memory_gb(),
    }


def _processor_name() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text("utf-8", "replace").splitlines():
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
    python = {"slowthink": slowthink.__version__, "python": platform.python_version()}
    return python | _package_versions()


@cache
def _package_versions() -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for package in ("torch", "transformers", "trl", "vllm", "math-verify", "pyarrow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
