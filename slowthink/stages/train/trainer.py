"""TRL's SFTTrainer, adapted to packed rows and to checkpoints that are complete or absent.

Rows are packed without padding, the loss is computed in tiles (`loss`), and the data types are
those of `precision`. Nothing in a step waits for a GPU: loss and gradient norm stay on it and are
read every few steps (`step_log`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from slowthink.recipe import TrainConfig
from slowthink.stages.train.candidates import unchanged
from slowthink.stages.train.checkpoint import (
    CANDIDATES,
    PARTIAL,
    move_into_place,
    write_processes,
)
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.guard import LossGuard
from slowthink.stages.train.loss import completion_loss
from slowthink.stages.train.masters import MasterAdamW
from slowthink.stages.train.optimizers import base_optimizer
from slowthink.stages.train.packing import pack
from slowthink.stages.train.precision import Precision, choose_precision
from slowthink.stages.train.processes import has_shares, world_size
from slowthink.stages.train.schedule import PlannedStep, step_sizes
from slowthink.stages.train.step_log import STEPS_PER_READ, StepLog
from slowthink.stages.train.stop import epoch_ends, stopping_step


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on the micro-batches of the schedule, in order."""

    optimizer: Any

    def __init__(
        self,
        *,
        config: TrainConfig,
        precision: Precision,
        step_log: StepLog,
        schedule: Sequence[PlannedStep],
        **settings: Any,
    ) -> None:
        self._config = config
        self._schedule = schedule
        self._deciding_steps = frozenset(epoch_ends(schedule) if config.stop else ())
        self._precision = precision
        self._step_log = step_log
        self._guard = LossGuard()
        self._is_sharded = has_shares(settings["model"])
        super().__init__(**settings)
        self._num_correct = torch.zeros((), dtype=torch.long, device=self.args.device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Loss summed over completion tokens, divided by their number in the optimiser step.

        The number is that of all devices, which average their gradients.
        """
        loss = completion_loss(model, inputs, num_items_in_batch, num_correct=self._num_correct)
        loss = loss * self.accelerator.num_processes
        return (loss, {}) if return_outputs else loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: the count is not used, and counting the parameters takes time in every step."""
        return 0

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW, with fp32 masters if the precision has them."""
        small = self._config.optimizer == "adamw-8bit"
        if self.optimizer is None and (small or self._precision.masters):
            self.optimizer = MasterAdamW(
                self._parameter_groups(), lr=self.args.learning_rate, betas=self._config.betas,
                base=base_optimizer(self._config, sharded=self._is_sharded),
            )  # fmt: skip
            return self.optimizer
        return super().create_optimizer(model)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups: with weight decay, and without (norms, biases)."""
        decayed = set(self.get_decay_parameter_names(self.model))
        trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        decay = self.args.weight_decay
        return [
            {"params": [p for n, p in trained.items() if n in decayed], "weight_decay": decay},
            {"params": [p for n, p in trained.items() if n not in decayed], "weight_decay": 0.0},
        ]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card; the run folder documents the model."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / PARTIAL)

    def _maybe_log_save_evaluate(
        self, tr_loss: Any, grad_norm: Any, *args: Any, learning_rate: Any = None, **settings: Any
    ) -> None:
        """Keep the step's figures on the device; read them every few steps and before a save.

        Raises DivergedError before a checkpoint is written of a step that is no good.
        """
        if self._step_log.add(self.state, tr_loss, self._num_correct, grad_norm, learning_rate):
            step = self.state.global_step
            last = step == self.state.max_steps or step in self._deciding_steps
            for entry in self._step_log.read(
                self.accelerator, force=last or self.control.should_save
            ):
                self.state.log_history.append(entry)
                self._report(entry)
                self._guard.check(entry)
            if step in self._deciding_steps:
                self._stop_if_learnt()
        super()._maybe_log_save_evaluate(
            tr_loss, grad_norm, *args, learning_rate=learning_rate, **settings
        )

    def _stop_if_learnt(self) -> None:
        """End training, with a checkpoint, once the recipe's `stop` is reached."""
        log, sizes = self.state.log_history, self._step_log.sizes
        step = stopping_step(log, self._schedule, sizes, self._config.stop)
        if step == self.state.global_step:
            self.control.should_training_stop = True
            self.control.should_save = self._config.save_every_steps is not None

    def _report(self, entry: dict[str, Any]) -> None:
        """Send a step's figures to the trackers, which read its number from the state."""
        if self.args.report_to:
            state = replace(self.state, global_step=entry["step"])
            figures = {name: value for name, value in entry.items() if name != "step"}
            self.callback_handler.on_log(self.args, state, self.control, figures)

    # --- checkpoints ------------------------------------------------------------------------------

    def _move_model_to_device(self, model: Any, device: Any) -> None:
        if not self._is_sharded:
            super()._move_model_to_device(model, device)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the weights; those in shares are saved with the optimiser."""
        if not self._is_sharded:
            super().save_model(output_dir, _internal_call)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._is_sharded:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._is_sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.optimizer.state_dict(), folder / self._share_name())
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), folder / "scheduler.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self._is_sharded:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        for part, name in (
            (self.optimizer, self._share_name()), (self.lr_scheduler, "scheduler.pt"),
        ):  # fmt: skip
            state = torch.load(Path(checkpoint) / name, map_location="cpu", weights_only=True)
            part.load_state_dict(state)

    def _share_name(self) -> str:
        return f"optimizer-{self.args.process_index}.pt"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir)
            write_processes(
                folder / PARTIAL / f"checkpoint-{self.state.global_step}",
                num_processes=self.args.world_size, sharded=self._is_sharded,
            )  # fmt: skip
            move_into_place(folder)
        self.accelerator.wait_for_everyone()


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Reports the number of steps done, and starts the clock of the step log."""

    def __init__(self, progress: Callable[[int, int], None], step_log: StepLog) -> None:
        self._progress = progress
        self._step_log = step_log

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the first or the resumed step."""
        self._step_log.start()
        self._progress(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report a finished optimiser step."""
        self._progress(state.global_step, state.max_steps)


class SaveCandidates(TrainerCallback):  # type: ignore[misc]
    """Calls `save(model, folder)` after each of these steps; in all processes."""

    def __init__(
        self, steps: frozenset[int], work: Path, save: Callable[[Any, Path], None]
    ) -> None:
        self._steps, self._work, self._save = steps, work, save

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Save after the update, before a checkpoint for resuming is written."""
        if state.global_step not in self._steps:
            return
        name = f"step-{state.global_step}"
        part, target = self._work / CANDIDATES / f"partial-{name}", self._work / CANDIDATES / name
        if args.process_index == 0:
            shutil.rmtree(part, ignore_errors=True)
        with unchanged(model):
            self._save(model, part / "model")
        if args.process_index == 0:
            shutil.rmtree(target, ignore_errors=True)
            os.replace(part, target)


def make_trainer(
    model: Any,
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    config: TrainConfig,
    *,
    schedule: Sequence[PlannedStep],
    work: Path,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    precision: Precision | None = None,
    run_name: str | None = None,
) -> CompletionTrainer:
    """Make a trainer that starts afresh, or resumes from a checkpoint in `work`.

    `precision` is that with which the model was loaded; it defaults to `choose_precision`.
    `run_name`: name for trackers.
    """
    from datasets import Dataset

    precision = precision or choose_precision(config)
    step_log = StepLog(
        step_sizes(schedule, examples),
        steps_per_read=STEPS_PER_READ if torch.cuda.is_available() else 1,
    )
    micro_batches = [batch for step in schedule for batch in step.micro_batches]
    arguments = training_arguments(
        config, work=work, num_steps=len(schedule), num_micro_batches=len(micro_batches),
        seed=seed, autocast=precision.autocast, run_name=run_name,
    )  # fmt: skip
    trainer = CompletionTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict({"batch": micro_batches}),
        data_collator=lambda rows: pack([[examples[i] for i in row["batch"]] for row in rows]),
        processing_class=tokenizer, callbacks=[ProgressCallback(progress, step_log)],
        config=config, precision=precision, step_log=step_log, schedule=schedule,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(
    config: TrainConfig,
    *,
    work: Path,
    num_steps: int,
    num_micro_batches: int,
    seed: int,
    autocast: bool,
    run_name: str | None = None,
) -> Any:
    """TRL's arguments for the recipe. Data is read in order, since the schedule is shuffled. Of
    several GPUs one process uses its own: the trainer would split the batch over all."""
    on_gpu = torch.cuda.is_available()
    if "tensorboard" in config.report_to:  # which writes into `work`, removed when all is done
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(work.parent / "tensorboard"))
    arguments = SFTConfig(
        output_dir=str(work), max_steps=num_steps, per_device_train_batch_size=1,
        gradient_accumulation_steps=num_micro_batches // num_steps // world_size(),
        train_sampling_strategy="sequential", dataloader_pin_memory=on_gpu,
        remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None, packing=False, seed=seed % 2**31, learning_rate=config.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay, adam_beta1=config.betas[0], adam_beta2=config.betas[1],
        optim="adamw_torch_fused", max_grad_norm=config.max_grad_norm, bf16=autocast,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_strategy="no", logging_nan_inf_filter=False,
        accelerator_config={"non_blocking": on_gpu},
        report_to=list(config.report_to), project="slowthink", run_name=run_name,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        use_cpu=not on_gpu and not torch.mps.is_available(),
        save_strategy="no" if config.save_every_steps is None else "steps",
        save_steps=config.save_every_steps or 500,
    )  # fmt: skip
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
