"""Ways to train on the same rows, each timed in blocks of steps: a plain loop, ours, and TRL's.

| arm | what |
| --- | --- |
| plain | a loop by hand: padded batches, bf16 weights and optimiser, logits of completions |
| ours | our trainer by default |
| ours_autocast | our trainer with fp32 weights under bf16 autocast |
| trl_default | `SFTTrainer` with nothing set (gradient checkpointing, loss in tiles) |
| trl_best | without checkpointing, fused AdamW, no padding where flash-attn is installed |

The device is waited for only between blocks, so that each arm may run ahead of it.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command import device_name, synchronise
from slowthink.recipe import LoraConfig, TrainConfig
from slowthink.stages.train.examples import TrainingExample

Batches = Sequence[Sequence[TrainingExample]]
LEARNING_RATE = 1e-5
STEPS_PER_BLOCK = 3
WARM_UP_STEPS = 2


@dataclass
class BlockClock:
    """Tokens per second of each block of steps; the first block begins after the warm-up."""

    tokens: Sequence[int]
    """Number of tokens of each step."""
    rates: list[float] = field(default_factory=list)
    _steps: int = 0
    _started: float = 0.0

    def step_done(self) -> None:
        """Count a step; at the end of a block wait for the device and read the time."""
        self._steps += 1
        done = self._steps - WARM_UP_STEPS
        if done < 0 or done % STEPS_PER_BLOCK:
            return
        synchronise()
        now = time.perf_counter()
        if done:
            block = self.tokens[self._steps - STEPS_PER_BLOCK : self._steps]
            self.rates.append(sum(block) / (now - self._started))
        self._started = time.perf_counter()


@dataclass(frozen=True)
class Losses:
    """Losses of an arm, each before its step's update."""

    mean: float
    """Over all steps."""
    last: float
    """Of the last step; on a GPU TRL reports every tenth."""


@dataclass(frozen=True)
class ArmResult:
    """Figures of one arm."""

    rates: list[float]
    """Tokens per second, by block."""
    losses: Losses
    peak_memory_mb: float | None
    """Largest allocation on the GPU, above what was there before; None on a CPU."""


Arm = Callable[[Path, Batches, BlockClock], Losses]
"""Trains the model in a folder on the batches in order."""


def run_arm(arm: Arm, source: Path, batches: Batches) -> ArmResult:
    """Train by one arm, with the device's memory to itself."""
    import torch

    gc.collect()
    on_gpu = torch.cuda.is_available()
    before = 0
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    clock = BlockClock([sum(example.num_tokens for example in batch) for batch in batches])
    losses = arm(source, batches, clock)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if on_gpu else None
    return ArmResult(rates=clock.rates, losses=losses, peak_memory_mb=peak)


class PlainLoop:
    """A training loop written by hand."""

    def __init__(self, source: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.device = device_name()
        self.model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
        self.model = self.model.to(self.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)

    def step(self, batch: Sequence[TrainingExample]) -> Any:
        """One optimiser step; returns its loss, on the device."""
        import torch

        inputs, labels = padded(batch)
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        hidden = self.model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        has_loss = labels[:, 1:] != -100
        logits = self.model.lm_head(hidden[has_loss.to(self.device)]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][has_loss].to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def timed_step(self, batch: Sequence[TrainingExample]) -> float:
        """Seconds of one optimiser step, until its loss is known."""
        started = time.perf_counter()
        self.step(batch).item()
        synchronise()
        return time.perf_counter() - started


def padded(batch: Sequence[TrainingExample]) -> tuple[dict[str, Any], Any]:
    """Input ids and mask, padded on the right, and labels; on the host."""
    import torch

    longest = max(example.num_tokens for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, example in enumerate(batch):
        start, end = len(example.prompt_ids), example.num_tokens
        ids[row, :end] = torch.tensor([*example.prompt_ids, *example.completion_ids])
        labels[row, start:end] = ids[row, start:end]
        mask[row, :end] = 1
    return {"input_ids": ids, "attention_mask": mask}, labels


def plain(source: Path, batches: Batches, clock: BlockClock) -> Losses:
    """The loop by hand."""
    import torch

    loop, losses = PlainLoop(source), []
    for batch in batches:
        losses.append(loop.step(batch))
        clock.step_done()
    return Losses(mean=float(torch.stack(losses).mean()), last=float(losses[-1]))


def ours(
    source: Path,
    batches: Batches,
    clock: BlockClock,
    lora: LoraConfig | None = None,
    **precision: Any,
) -> Losses:
    """Our trainer, on a schedule of these batches."""
    from slowthink.engines.models import load_tokenizer
    from slowthink.stages.train.model import load_for_training
    from slowthink.stages.train.schedule import PlannedStep
    from slowthink.stages.train.trainer import make_trainer

    examples = [example for batch in batches for example in batch]
    indices = iter(range(len(examples)))
    schedule = [
        PlannedStep(epoch=0, micro_batches=(tuple(next(indices) for _ in batch),))
        for batch in batches
    ]
    config = TrainConfig(
        epochs=1,
        batch_size=len(batches[0]),
        learning_rate=LEARNING_RATE,
        save_every_steps=None,
        lora=lora,
    )
    model = load_for_training(source, config, seed=0, **precision)
    with tempfile.TemporaryDirectory() as work:
        trainer = make_trainer(
            model, load_tokenizer(str(source)), examples, config,
            schedule=schedule, work=Path(work), seed=0, **precision,
        )  # fmt: skip
        trainer.add_callback(_clock_callback(clock))
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Losses(mean=float(sum(losses) / len(losses)), last=losses[-1])


def ours_autocast(source: Path, batches: Batches, clock: BlockClock) -> Losses:
    """Our trainer with fp32 weights under bf16 autocast."""
    import torch

    from slowthink.stages.train.precision import Precision

    precision = Precision(weights=torch.float32, autocast=True)
    return ours(source, batches, clock, precision=precision)


def trl_default(source: Path, batches: Batches, clock: BlockClock) -> Losses:
    """`SFTTrainer` as it comes."""
    return _train_by_trl(source, batches, clock)


def trl_best(source: Path, batches: Batches, clock: BlockClock) -> Losses:
    """`SFTTrainer` with the settings that are fastest without changing the training."""
    from slowthink.stages.train.attention import flash_attn_installed

    settings: dict[str, Any] = {"gradient_checkpointing": False, "optim": "adamw_torch_fused"}
    if device_name() == "cuda" and flash_attn_installed():
        attention = {"attn_implementation": "flash_attention_2", "dtype": "float32"}
        settings |= {"padding_free": True, "model_init_kwargs": attention}
    return _train_by_trl(source, batches, clock, **settings)


def _train_by_trl(source: Path, batches: Batches, clock: BlockClock, **settings: Any) -> Losses:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [example for batch in batches for example in batch]
    dataset = Dataset.from_dict(
        {
            "input_ids": [[*row.prompt_ids, *row.completion_ids] for row in rows],
            "labels": [[-100] * len(row.prompt_ids) + list(row.completion_ids) for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as work:
        arguments = SFTConfig(
            output_dir=work, per_device_train_batch_size=len(batches[0]), max_steps=len(batches),
            max_length=None, learning_rate=LEARNING_RATE, train_sampling_strategy="sequential",
            bf16=device_name() == "cuda", use_cpu=device_name() == "cpu",
            report_to=[], disable_tqdm=True, save_strategy="no",
            logging_steps=1 if device_name() == "cpu" else min(10, len(batches)), **settings,
        )  # fmt: skip
        arguments._n_gpu = min(arguments.n_gpu, 1)  # of several GPUs one, as our trainer
        trainer = SFTTrainer(model=str(source), args=arguments, train_dataset=dataset)
        trainer.add_callback(_clock_callback(clock))
        mean = float(trainer.train().training_loss)
        logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return Losses(mean=mean, last=float(logged[-1]))


def _clock_callback(clock: BlockClock) -> Any:
    from transformers import TrainerCallback

    class CountSteps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.step_done()

    return CountSteps()


ARMS: dict[str, Arm] = {
    "plain": plain, "ours": ours, "ours_autocast": ours_autocast,
    "trl_default": trl_default, "trl_best": trl_best,
}  # fmt: skip
