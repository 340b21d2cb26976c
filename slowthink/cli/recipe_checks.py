"""What a recipe needs of this machine: packages, memory for its models, files, environment keys.

Loads no model and asks no server. A model's size is read from its config, if that is on this
machine, else from its name (`Qwen2.5-32B`); otherwise it is unknown, and reported so.
"""

from __future__ import annotations

import re
import shutil
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from slowthink.cli.diagnosis import Diagnosis, package_version
from slowthink.engines.auto import Machine, this_machine
from slowthink.environment import environment_variable, memory_gb
from slowthink.pipeline.plan import downloads, key_settings, missing_files
from slowthink.recipe import Recipe
from slowthink.recipe.models import ModelUse, model_uses

EXTRAS = {
    "local": ("torch", "transformers", "gguf", "safetensors"),
    "train": ("trl", "accelerate", "peft", "datasets"),
    "vllm": ("vllm",),
    "ray": ("ray",),
}
"""Packages by extra of slowthink."""
LORA_BYTES = 2
"""Bytes per frozen weight, of a model whose shape is unknown."""
_HEADROOM = 1.2
"""Memory for activations and the KV cache, as a factor of the weights'."""
_SIZE_IN_NAME = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.I)


def check_recipe(
    recipe: Recipe,
    machine: Machine | None = None,
    *,
    root: Path | None = None,
    tokens_per_second: float | None = None,
    elsewhere: bool = False,
) -> list[Diagnosis]:
    """One diagnosis per need of the recipe. `auto` settings must have been replaced.

    `root` is the run folder, perhaps with a training set; `tokens_per_second` a measured speed.
    `elsewhere`: the machine is not this one, so that free disk and models here do not matter.
    """
    machine = machine or this_machine()
    uses = list(dict.fromkeys(model_uses(recipe)))
    return [
        *_check_packages(recipe, uses),
        *(() if elsewhere else _check_compiler(uses, machine)),
        *_check_settings(recipe, machine),
        *(_check_model(use, machine) for use in uses if use.is_loaded_here),
        *_check_training(recipe, machine, root or Path(), tokens_per_second, elsewhere=elsewhere),
        *(
            Diagnosis(name="file", ok=False, seen=f"{m.path} ({m.setting})", remedy=m.remedy)
            for m in missing_files(recipe, recipe.stages())
            if not (elsewhere and m.kind in ("model", "cached dataset"))
        ),
        *(
            Diagnosis(name="download", ok=True, seen=f"{name}: from the Hub, unless offline")
            for name in ([] if elsewhere else downloads(recipe, recipe.stages()))
        ),
        *_check_keys(recipe),
    ]


def needed_extras(recipe: Recipe, uses: Sequence[ModelUse]) -> set[str]:
    """The extras of slowthink that the recipe's stages import."""
    kinds = {use.engine.kind for use in uses}
    return {
        *(("local",) if "transformers" in kinds or recipe.trace or recipe.train else ()),
        *(("vllm",) if "vllm" in kinds else ()),
        *(("train",) if recipe.train else ()),
        *(("ray",) if recipe.runner == "ray" else ()),
    }


def _check_packages(recipe: Recipe, uses: Sequence[ModelUse]) -> Iterator[Diagnosis]:
    needed = needed_extras(recipe, uses)
    for extra, packages in EXTRAS.items():
        versions = {package: package_version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        seen = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
        seen += "" if extra in needed else " (this recipe does not need it)"
        yield Diagnosis(
            name=f"extra {extra}", ok=not missing, seen=seen, required=extra in needed,
            remedy=f"pip install 'slowthink[{extra}]'" if missing else "",
        )  # fmt: skip


def _check_compiler(uses: Sequence[ModelUse], machine: Machine) -> Iterator[Diagnosis]:
    """What vLLM's Triton kernels are compiled with on a GPU, when it starts."""
    if machine.gpus and any(use.engine.kind == "vllm" for use in uses):
        header = Path(sysconfig.get_paths()["include"], "Python.h")
        found = {
            "a C compiler": any(map(shutil.which, ("cc", "gcc", "clang"))),
            str(header): header.is_file(),
        }
        missing = [name for name, is_found in found.items() if not is_found]
        remedy = "vLLM compiles when it starts: apt-get install gcc python3-dev"
        yield Diagnosis(
            name="compiler", ok=not missing,
            seen=f"{'missing' if missing else 'found'}: {' and '.join(missing or found)}",
            remedy=remedy if missing else "",
        )  # fmt: skip


def _check_settings(recipe: Recipe, machine: Machine) -> Iterator[Diagnosis]:
    """Packages that single settings of the stage train need."""
    if recipe.train is None:
        return
    from slowthink.stages.train.memory import setup_on
    from slowthink.stages.train.packages import required_packages

    number = len(machine.gpus) or recipe.processes
    setup = setup_on(machine, recipe.train, num_devices=number)
    for package, setting in required_packages(setup).items():
        version = package_version(package)
        yield Diagnosis(
            name="package", ok=version is not None,
            seen=f"{package} {version or 'missing'}, for {setting}",
            remedy="" if version else f"pip install {package}, or change the setting",
        )  # fmt: skip


def _check_model(use: ModelUse, machine: Machine) -> Diagnosis:
    num_bytes = 4 if use.engine.dtype == "float32" else 2
    needed = _gigabytes(use.name, num_bytes * _HEADROOM)
    num_gpus = use.engine.vllm.tensor_parallel_size if use.engine.kind == "vllm" else 1
    return _compare_memory(
        "model", f"{use.name} on {use.engine.kind}", needed, _memory(machine, num_gpus),
        remedy="name a smaller model, quantise it, or serve it elsewhere (engine.endpoints)",
    )  # fmt: skip


def _check_training(
    recipe: Recipe,
    machine: Machine,
    root: Path,
    tokens_per_second: float | None,
    *,
    elsewhere: bool,
) -> Iterator[Diagnosis]:
    """Memory, disk and time of the stage train, predicted from the model's config."""
    if recipe.train is None:
        return
    from slowthink.stages.train.forecast import describe, forecast
    from slowthink.stages.train.training_set import known_rows, room_for_training

    predicted = forecast(
        recipe, machine, memory_bytes=memory_gb() * 1e9, rows=known_rows(recipe, root),
        tokens_per_second=tokens_per_second,
    )  # fmt: skip
    if predicted is None:
        yield _compare_memory(
            "training", recipe.model, _gigabytes(recipe.model, LORA_BYTES),
            _memory(machine, len(machine.gpus)), remedy="more GPUs, or a smaller model",
        )  # fmt: skip
        return
    setup, room = predicted.setup, room_for_training(root)
    number = setup.num_devices
    where = f"each of {number} {predicted.device} (--processes {number})"
    where = where if number > 1 else predicted.device
    yield Diagnosis(
        name="training", ok=predicted.fits,
        seen=f"{recipe.model} ({describe(setup)}): needs about "
        f"{predicted.memory.total / 1e9:,.1f} GB of {predicted.device_bytes / 1e9:,.0f} GB on "
        f"{where}: {predicted.memory_text()}",
        remedy="" if predicted.fits else "more GPUs, train.lora, or a smaller model",
    )  # fmt: skip
    yield Diagnosis(name="micro-batch", ok=True, seen=predicted.activations_text())
    is_finished = (root / "train" / "manifest.json").is_file()
    enough = elsewhere or is_finished or predicted.disk.total <= room
    here = "" if elsewhere else f"; {room / 1e9:,.0f} GB free"
    yield Diagnosis(
        name="disk", ok=enough, seen=f"{predicted.disk_text()}{here}",
        remedy="" if enough else "free some, or set train.save_every_steps: null",
    )  # fmt: skip
    yield Diagnosis(name="time", ok=True, seen=predicted.time_text())


def _memory(machine: Machine, num_gpus: int) -> tuple[float, str]:
    """GB that a model may use, of so many GPUs, or of the machine without any."""
    if not machine.gpus:
        return float(memory_gb()), "memory, no NVIDIA GPU"
    sizes = sorted((gpu.memory_gb for gpu in machine.gpus), reverse=True)[: max(num_gpus, 1)]
    return sum(sizes), f"GPU memory on {len(sizes)} of {len(machine.gpus)} GPUs"


def _compare_memory(
    name: str, what: str, needed: float | None, available: tuple[float, str], *, remedy: str
) -> Diagnosis:
    gigabytes, kind = available
    here = f"{gigabytes:.0f} GB of {kind}"
    if needed is None:
        return Diagnosis(
            name=name, ok=False, required=False, known=False, seen=f"{what}: size unknown; {here}",
            remedy="it is in the model's config; with a network: hf download MODEL config.json",
        )  # fmt: skip
    fits = needed <= gigabytes
    seen = f"{what}: needs about {needed:,.1f} GB; {here}"
    return Diagnosis(name=name, ok=fits, seen=seen, remedy="" if fits else remedy)


def _gigabytes(model: str, bytes_per_weight: float) -> float | None:
    num_weights = model_size(model)
    return None if num_weights is None else num_weights * bytes_per_weight / 1e9


def model_size(model: str) -> float | None:
    """Number of weights, from a config on this machine or from the name; None if unknown.

    >>> model_size("Qwen/Qwen2.5-32B-Instruct"), model_size("someone/model")
    (32000000000.0, None)
    """
    from slowthink.stages.train.shapes import find_config, num_weights

    if config := find_config(model):
        return float(num_weights(config))
    if match := _SIZE_IN_NAME.search(Path(model).name):
        copies, number, unit = match.groups()
        return int(copies or 1) * float(number) * {"b": 1e9, "m": 1e6}[unit.lower()]
    return None


def _check_keys(recipe: Recipe) -> Iterator[Diagnosis]:
    """The environment variables that hold the servers' API keys."""
    for name in key_settings(recipe, recipe.stages()):
        is_set = bool(environment_variable(name))
        yield Diagnosis(
            name="key", ok=is_set, seen=f"{name} is {'set' if is_set else 'not set'}",
            remedy="" if is_set else f"export {name}=…",
        )  # fmt: skip
