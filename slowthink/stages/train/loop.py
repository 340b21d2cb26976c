"""Fine-tune a model on examples, resuming from the last checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slowthink.engines.transformers.session import keep_freed_memory
from slowthink.errors import EngineError
from slowthink.pipeline.run_folder import peak_rss_mb
from slowthink.recipe import TrainConfig
from slowthink.stages.train.candidates import candidate_steps
from slowthink.stages.train.checkpoint import (
    PARTIAL,
    check_files,
    check_processes,
    checkpoint_step,
    checkpoints,
)
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.guard import DivergedError
from slowthink.stages.train.masters import MasterAdamW
from slowthink.stages.train.model import load_for_training, load_with_weights
from slowthink.stages.train.packages import require_packages
from slowthink.stages.train.precision import Precision, choose_precision
from slowthink.stages.train.processes import (
    has_shares,
    is_sharded,
    rank,
    this_setup,
    wait_for_others,
    world_size,
)
from slowthink.stages.train.schedule import PlannedStep, make_schedule, step_sizes
from slowthink.stages.train.stop import stopping_step
from slowthink.stages.train.trainer import CompletionTrainer, SaveCandidates, make_trainer


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """Result of a fine-tuning."""

    model: Any
    """The trained model, in fp32; None in other processes than the first."""
    log: list[dict[str, Any]]
    """Trainer log of all steps, including those before a resume."""
    schedule: list[PlannedStep]
    seconds: float
    """Duration of this attempt, from loading the model on."""
    training_seconds: float
    """Duration of the optimiser steps of this attempt."""
    resumed_at_step: int
    """Number of steps done before this attempt; 0 if it did not resume."""
    numerics: str
    """Data types and attention implementation, as text."""
    num_processes: int
    peak_rss_mb: int
    """Peak memory of the first process."""

    def to_json(self) -> dict[str, Any]:
        """All fields but the model and the schedule."""
        names = [field.name for field in fields(self) if field.name not in ("model", "schedule")]
        return {name: getattr(self, name) for name in names}


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
    trust_remote_code: bool = False,
    precision: Precision | None = None,
    run_name: str | None = None,
    save: Callable[[Any, Path], None] | None = None,
) -> FineTuned:
    """Train the model in `source` on the examples, from the last checkpoint in `work` if any.

    `precision` defaults to `choose_precision`. Called by each of the processes that train together,
    within `process_group`, with the same arguments. Raises EngineError if the loss diverges or the
    memory is full, DataError if the last checkpoint is damaged, ConfigError if another number of
    processes wrote it, or if a package that the settings need is not installed. `run_name`: name
    for trackers. `save` writes a model into a folder: one after each epoch, with `checkpoint: dev`.
    """
    started = time.monotonic()
    require_packages(this_setup(config))
    configure_cpu()
    quiet_libraries()
    lengths = [example.num_tokens for example in examples]
    schedule = make_schedule(lengths, config, seed=seed, num_devices=world_size())
    checkpoint = _last_checkpoint(work, config, notify)
    if checkpoint and _ends_training(checkpoint, schedule, examples, config):
        schedule = schedule[: checkpoint_step(checkpoint)]
    precision = precision or choose_precision(config)
    with _memory_explained(schedule, lengths, config):
        model = load_for_training(
            source, config, seed=seed, precision=precision, trust_remote_code=trust_remote_code
        )
        trainer = make_trainer(
            model, tokenizer, examples, config, schedule=schedule, work=work, seed=seed,
            progress=progress, precision=precision, run_name=run_name,
        )  # fmt: skip
    numerics = f"{precision}; {model.config._attn_implementation} attention"
    whole_model = partial(_whole_model, trainer, source, config, trust_remote_code)
    if save is not None:
        steps = candidate_steps(schedule, config)
        trainer.add_callback(SaveCandidates(steps, work, partial(_save, whole_model, save)))
    training_started = time.monotonic()
    with _memory_explained(schedule, lengths, config):
        _train(trainer, checkpoint, config, work)
    training_seconds = time.monotonic() - training_started
    model = whole_model()
    return FineTuned(
        model=model if rank() == 0 else None, log=trainer.state.log_history,
        schedule=schedule[: trainer.state.global_step],
        seconds=time.monotonic() - started, training_seconds=training_seconds,
        resumed_at_step=checkpoint_step(checkpoint) if checkpoint else 0, numerics=numerics,
        num_processes=world_size(), peak_rss_mb=peak_rss_mb(),
    )  # fmt: skip


@contextmanager
def _memory_explained(
    schedule: Sequence[PlannedStep], lengths: Sequence[int], config: TrainConfig
) -> Iterator[None]:
    """Raise EngineError, with what to set, if the GPU's memory is full: also by the weights."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EngineError(_out_of_memory_message(schedule, lengths, config)) from error


def _train(
    trainer: CompletionTrainer, checkpoint: Path | None, config: TrainConfig, work: Path
) -> None:
    """Take the steps that are left. Raises EngineError if the loss diverges."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except DivergedError as error:
        raise EngineError(_diverged_message(error, work, config)) from None


def configure_cpu() -> None:
    """Speed up training on a CPU: large pages, freed memory kept, no denormal numbers."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()
    torch.set_flush_denormal(True)


def quiet_libraries() -> None:
    """Turn off the progress bars and messages of transformers; the stage has its own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _last_checkpoint(work: Path, config: TrainConfig, notify: Callable[[str], None]) -> Path | None:
    if rank() == 0:
        shutil.rmtree(work / PARTIAL, ignore_errors=True)
    wait_for_others()
    complete = checkpoints(work)
    if not complete:
        return None
    check_processes(complete[-1], num_processes=world_size(), sharded=is_sharded(config))
    if rank() == 0:
        check_files(complete[-1])
    notify(f"train: resuming after step {checkpoint_step(complete[-1])}")
    return complete[-1]


def _out_of_memory_message(
    schedule: Sequence[PlannedStep], lengths: Sequence[int], config: TrainConfig
) -> str:
    sizes = [
        sum(lengths[i] for i in batch) for step in schedule for batch in step.micro_batches
    ]  # fmt: skip
    longest, remedies = max(lengths), ["a LoRA (train.lora), or a GPU with more memory"]
    if not config.gradient_checkpointing:
        remedies.insert(0, "--set train.gradient_checkpointing=true")
    if max(sizes) > longest:
        remedies.insert(0, f'--set train.micro_batch_size="{max(sizes) // 2} tokens"')
    return (
        f"train: the GPU's memory is full; the largest micro-batch has {max(sizes)} tokens, the "
        f"longest example {longest}; expected each to fit. "
        f"Run again with --update and one of: {'; '.join(remedies)}."
    )


def _diverged_message(error: DivergedError, work: Path, config: TrainConfig) -> str:
    """The message of a run that diverged. Checkpoints from that step on are removed."""
    wait_for_others()
    if rank() == 0:
        for checkpoint in checkpoints(work):
            if checkpoint_step(checkpoint) >= error.first_step:
                shutil.rmtree(checkpoint)
    wait_for_others()
    kept = checkpoints(work)
    last = f"The last good checkpoint is kept: {kept[-1]}. " if kept else ""
    return (
        f"train: {error.seen}, from step {error.first_step} on; expected {error.expected}. {last}"
        f"Train with a lower rate, e.g. --set train.learning_rate={config.learning_rate / 10:.3g} "
        "--update, or a longer train.warmup_ratio, or a lower train.max_grad_norm. A model that "
        "was saved earlier is not overwritten."
    )


def _ends_training(
    checkpoint: Path,
    schedule: Sequence[PlannedStep],
    examples: Sequence[TrainingExample],
    config: TrainConfig,
) -> bool:
    """Whether training stopped at this checkpoint, before the last epoch."""
    log = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["log_history"]
    step = stopping_step(log, schedule, step_sizes(schedule, examples), config.stop)
    return step == checkpoint_step(checkpoint)


def _save(
    whole_model: Callable[[], Any], save: Callable[[Any, Path], None], _: Any, folder: Path
) -> None:
    """Save the model as it is; called in all processes, written by the first."""
    model = whole_model()
    if rank() == 0:
        save(model, folder)


def _whole_model(
    trainer: CompletionTrainer, source: Path, config: TrainConfig, trust_remote_code: bool
) -> Any:
    """The trained model, in fp32 if the optimiser has fp32 masters. Of a model in shares the whole,
    in the first process; None in the others."""
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(optimizer, MasterAdamW):
        optimizer.promote(model)
    if not has_shares(model):
        return model
    from slowthink.stages.train.sharding import gather_weights

    weights = gather_weights(model)
    if rank() != 0:
        return None
    return load_with_weights(source, config, weights, trust_remote_code=trust_remote_code)
