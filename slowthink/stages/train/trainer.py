"""TRL's SFTTrainer with what a CPU needs, and with a checkpoint that is whole or absent.

On a GPU (one, or several under accelerate with FSDP2 or DeepSpeed) the loss is TRL's own, in tiles,
with fp32 weights under bf16 autocast. On a CPU the logits are computed at the learnt tokens only,
and the weights compute in bf16 with fp32 masters (`masters`). Both pack rows without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from slowthink.recipe import TrainConfig
from slowthink.stages.train.checkpoint import PARTIAL, put_in_place
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.masters import MasterAdamW
from slowthink.stages.train.packing import IGNORED, pack
from slowthink.stages.train.schedule import PlannedStep


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on the planned forward passes, in their order."""

    optimizer: Any

    def __init__(self, *, betas: tuple[float, float], **settings: Any) -> None:
        self._betas = betas
        super().__init__(**settings)
        self._on_cpu = self.args.device.type == "cpu"

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Summed loss of the learnt tokens over their number in the whole optimiser step."""
        if not self._on_cpu:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = loss_at_learnt_tokens(model, inputs, num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW; on a CPU with fp32 masters."""
        if self.optimizer is None and self._on_cpu:
            self.optimizer = MasterAdamW(
                self._weight_groups(), lr=self.args.learning_rate, betas=self._betas
            )
            return self.optimizer
        return super().create_optimizer(model)

    def _weight_groups(self) -> list[dict[str, Any]]:
        """The trained weights; norms and biases do not decay."""
        decayed = set(self.get_decay_parameter_names(self.model))
        named = [pair for pair in self.model.named_parameters() if pair[1].requires_grad]
        decay = self.args.weight_decay
        return [
            {"params": [p for n, p in named if n in decayed], "weight_decay": decay},
            {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
        ]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is no publication, and the run folder says more."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / PARTIAL)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            put_in_place(Path(self.args.output_dir))
        self.accelerator.wait_for_everyone()


def loss_at_learnt_tokens(model: Any, inputs: dict[str, Any], num_learnt: Any = None) -> Any:
    """Mean cross-entropy over `num_learnt` tokens; logits exist only where a token is learnt."""
    labels = inputs["labels"][0]
    learnt = (labels != IGNORED).nonzero()[:, 0]
    settings = {name: value for name, value in inputs.items() if name != "labels"}
    output = model(**settings, logits_to_keep=learnt - 1, use_cache=False)
    total = torch.nn.functional.cross_entropy(
        output.logits[0].float(), labels[learnt], reduction="sum"
    )
    return total / (len(learnt) if num_learnt is None else num_learnt)


class Progress(TrainerCallback):  # type: ignore[misc]
    """Tells how far the training is."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first or the resumed step."""
        self._progress(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One optimiser step is done."""
        self._progress(state.global_step, state.max_steps)


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
) -> CompletionTrainer:
    """The trainer, ready to train or to resume from a checkpoint in `work`."""
    from datasets import Dataset

    parts = [part for step in schedule for part in step.parts]
    arguments = training_arguments(
        config, work=work, num_steps=len(schedule), num_parts=len(parts), seed=seed
    )
    trainer = CompletionTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict({"part": parts}),
        data_collator=lambda rows: pack([[examples[i] for i in row["part"]] for row in rows]),
        processing_class=tokenizer, callbacks=[Progress(progress)], betas=config.betas,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer


def training_arguments(
    config: TrainConfig, *, work: Path, num_steps: int, num_parts: int, seed: int
) -> Any:
    """The recipe in TRL's words; the order is planned already, so the data is read as it lies."""
    on_gpu = torch.cuda.is_available()
    save: dict[str, Any] = {"save_strategy": "no"}
    if config.save_every_steps is not None:
        save = {"save_strategy": "steps", "save_steps": config.save_every_steps}
    return SFTConfig(
        output_dir=str(work), max_steps=num_steps, per_device_train_batch_size=1,
        gradient_accumulation_steps=_accumulation(num_parts, num_steps),
        train_sampling_strategy="sequential", dataloader_pin_memory=on_gpu,
        remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None, packing=False, seed=seed % 2**31, learning_rate=config.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay, adam_beta1=config.betas[0], adam_beta2=config.betas[1],
        optim="adamw_torch_fused", max_grad_norm=config.max_grad_norm, bf16=on_gpu,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1, logging_first_step=True, logging_nan_inf_filter=False,
        report_to=[], disable_tqdm=True, use_cpu=not on_gpu and not torch.mps.is_available(),
        **save,
    )  # fmt: skip


def _accumulation(num_parts: int, num_steps: int) -> int:
    """Forward passes per device and optimiser step."""
    from accelerate import PartialState

    return int(num_parts // num_steps // PartialState().num_processes)
