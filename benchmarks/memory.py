"""Memory of training: predicted from the model's config, and measured, each case in a process.

    python -m benchmarks.memory --json

Two steps of one example. `peak_mb` is the peak resident memory on a CPU, and what torch allocated
at most on a GPU; `error` is predicted / peak - 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import main
from slowthink.engines.auto import this_machine
from slowthink.environment import python_command, python_environment
from slowthink.recipe import LoraConfig, TrainConfig
from slowthink.stages.train.forecast import setup_on
from slowthink.stages.train.memory import estimate_memory
from slowthink.stages.train.shapes import find_config

MODEL = "smollm2-135m"
LENGTHS = (256, 1024, 2048)
CHECKED = (("full", 512), ("full", 1536), ("full", 3072), ("lora", 512), ("lora", 1536))
"""Kinds and lengths that set nothing in the formula: see LOG.md."""
NUM_STEPS = 2


def run() -> dict[str, Any]:
    """Predicted and measured MB of full and LoRA training: at three lengths, which set the formula,
    with checkpointing, and at further lengths."""
    cases = [
        case_arguments(kind, length, checkpointing=False)
        for kind in ("full", "lora")
        for length in LENGTHS
    ]
    cases += [case_arguments(kind, max(LENGTHS), checkpointing=True) for kind in ("full", "lora")]
    cases += [case_arguments(kind, length, checkpointing=False) for kind, length in CHECKED]
    return {"model": MODEL, "cases": [_run_apart(case) for case in cases]}


def case_arguments(kind: str, num_tokens: int, *, checkpointing: bool) -> dict[str, Any]:
    """The arguments of `measure`, as JSON."""
    return {"kind": kind, "num_tokens": num_tokens, "checkpointing": checkpointing}


def measure(*, kind: str, num_tokens: int, checkpointing: bool) -> dict[str, float]:
    """Peak memory in MB of this process, which must have trained nothing before."""
    from benchmarks.train import random_examples
    from slowthink.engines.models import load_tokenizer, resolve_model
    from slowthink.stages.train.loop import fine_tune
    from slowthink.stages.train.step_log import peak_memory_mb

    config = training_config(kind, checkpointing=checkpointing)
    imported = peak_memory_mb()
    with tempfile.TemporaryDirectory() as work:
        fine_tune(
            resolve_model(MODEL), load_tokenizer(MODEL),
            random_examples(1, lengths=(num_tokens, num_tokens)), config, work=Path(work), seed=0,
        )  # fmt: skip
    mb = 2**20 / 1e6
    return {"imported_mb": imported * mb, "peak_mb": peak_memory_mb() * mb}


def training_config(kind: str, *, checkpointing: bool) -> TrainConfig:
    """The settings of a case."""
    return TrainConfig.model_validate({
        "epochs": NUM_STEPS, "save_every_steps": None, "batch_size": 1,
        "gradient_checkpointing": checkpointing, "lora": LoraConfig() if kind == "lora" else None,
    })  # fmt: skip


def _run_apart(case: dict[str, Any]) -> dict[str, Any]:
    command = [*python_command("benchmarks.memory"), "--case", json.dumps(case)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=python_environment()
    )
    if done.returncode:
        return case | {"failed": done.stderr.strip().splitlines()[-1]}
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    predicted = predict(**case)
    error = round(predicted / measured["peak_mb"] - 1, 3)
    return case | measured | {"predicted_mb": round(predicted), "error": error}


def predict(*, kind: str, num_tokens: int, checkpointing: bool) -> float:
    """Predicted peak in MB on this machine. CUDA's context is not in what torch allocated."""
    machine = this_machine()
    setup = setup_on(machine, training_config(kind, checkpointing=checkpointing))
    model = find_config(MODEL)
    assert model is not None
    memory = estimate_memory(model, setup, num_tokens)
    return (memory.total - (memory.process if machine.gpus else 0)) / 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(**json.loads(sys.argv[2]))))
    else:
        main(run, __doc__)
