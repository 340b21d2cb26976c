"""One fine-tuning, from examples to a trained model, resumed where it was stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slowthink.engines.transformers.session import keep_freed_memory
from slowthink.errors import EngineError
from slowthink.recipe import TrainConfig
from slowthink.stages.train.checkpoint import PARTIAL, checkpoints
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.masters import MasterAdamW
from slowthink.stages.train.model import load_for_training
from slowthink.stages.train.schedule import PlannedStep, make_schedule
from slowthink.stages.train.trainer import CompletionTrainer, make_trainer


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a fine-tuning came to."""

    model: Any
    """In fp32."""
    log: list[dict[str, Any]]
    """The trainer's, all steps, those before a resume included."""
    schedule: list[PlannedStep]
    seconds: float
    """Of the optimiser steps of this attempt."""
    resumed_at_step: int
    """0: it began anew."""
    numerics: str


def fine_tune(
    source: Path,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    config: TrainConfig,
    *,
    work: Path,
    seed: int,
    notify: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tuned:
    """The model in `source` trained on the examples; goes on from the last checkpoint in `work`.

    Raises EngineError where the loss is no longer a number.
    """
    prepare_machine()
    quiet_libraries()
    lengths = [example.num_tokens for example in examples]
    schedule = make_schedule(lengths, config, seed=seed, num_devices=num_processes())
    model = load_for_training(source, config, seed=seed)
    trainer = make_trainer(
        model, tokenizer, examples, config,
        schedule=schedule, work=work, seed=seed, progress=progress,
    )  # fmt: skip
    numerics = _numerics(model)
    last = _last_checkpoint(work, notify)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    seconds = time.monotonic() - started
    _check_log(trainer.state.log_history)
    return Tuned(
        model=_whole_model(trainer), log=trainer.state.log_history, schedule=schedule,
        seconds=seconds, resumed_at_step=int(last.name[11:]) if last else 0,
        numerics=numerics,
    )  # fmt: skip


def prepare_machine() -> None:
    """What makes a CPU fast here: large pages, freed memory kept, no denormal numbers."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    torch.set_flush_denormal(True)


def quiet_libraries() -> None:
    """No bars and remarks of transformers: the stage has a bar of its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def num_processes() -> int:
    """Devices that train together, as `accelerate launch` set them up."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _last_checkpoint(work: Path, notify: Callable[[str], None]) -> Path | None:
    shutil.rmtree(work / PARTIAL, ignore_errors=True)
    found = checkpoints(work)
    if not found:
        return None
    notify(f"train: goes on after step {found[-1].name[11:]}")
    return found[-1]


def _check_log(log: Sequence[dict[str, Any]]) -> None:
    bad = [entry["step"] for entry in log if entry.get("loss") != entry.get("loss")]
    if bad:
        raise EngineError(
            f"train: the loss is not a number from step {bad[0]} on; expected a finite loss. "
            "Lower the rate: --set train.learning_rate=1e-5 (and --update)."
        )


def _whole_model(trainer: CompletionTrainer) -> Any:
    """The trained model itself, its weights in fp32 where there are masters."""
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    if isinstance(optimizer, MasterAdamW):
        optimizer.promote()
    return trainer.accelerator.unwrap_model(trainer.model)


def _numerics(model: Any) -> str:
    held = "float32 weights, bfloat16 autocast"
    if not torch.cuda.is_available():
        bf16 = any(weight.dtype is torch.bfloat16 for weight in model.parameters())
        held = "bfloat16 compute, float32 masters" if bf16 else "float32"
    return f"{held}; {model.config._attn_implementation} attention"
