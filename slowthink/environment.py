"""Where a page was made: the machine, and the commit of slowthink where it runs from a checkout."""

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
    """Short hash of slowthink's own checkout, `+` for changed files; None where it is installed.

    As it was when first asked for: that is what this process has loaded.
    """
    package = Path(slowthink.__file__).parent
    top = _git(package, "rev-parse", "--show-toplevel")
    if top is None or Path(top) / "slowthink" != package:
        return None
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{_git(package, 'rev-parse', '--short=10', 'HEAD')}{'+' if changed else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, str | int]:
    """System, processor and memory of the machine that makes the page."""
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
    """Physical memory, rounded; 0 where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return 0


def versions() -> dict[str, str]:
    """Versions of slowthink, Python and the packages that move numbers, where installed."""
    return {"slowthink": slowthink.__version__, "python": platform.python_version()} | dict(
        _installed()
    )


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    from importlib import metadata

    found = []
    for package in ("torch", "transformers", "trl", "vllm", "math-verify", "pyarrow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append((package, metadata.version(package)))
    return tuple(found)
