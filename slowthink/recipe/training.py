"""Settings of the train stage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from slowthink.recipe.base import ForcingConfig, Settings

MicroBatchSize = (
    Annotated[int, Field(ge=1)]
    | Literal["auto"]
    | Annotated[str, Field(pattern=r"^[1-9]\d* tokens$")]
    | None
)


LORA_LEARNING_RATE = 1e-4
"""Default under a LoRA: ten times that of full weights ("LoRA Without Regret", Schulman et al.,
https://thinkingmachines.ai/blog/lora/, 2025)."""


class LoraConfig(Settings):
    """Low-rank adapters on all linear layers, without the embeddings and the output layer."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapters."""
    alpha: int = Field(default=32, ge=1)
    """Scale: updates are multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""
    quantize: Literal["nf4"] | None = None
    """nf4: QLoRA, with the frozen weights in 4 bits and quantised scales (bitsandbytes). null: they
    are in bf16 where the machine has it."""
    merge: bool = True
    """true: the adapters are added to the weights, and `model/` is a whole model. false: `model/`
    has the adapters and the base model's name; they are added when the model is loaded."""


class DevConfig(Settings):
    """Problems whose accuracy chooses the checkpoint: drawn from the training problems by seed, and
    not trained on. Held-out problems and benchmarks are never among them."""

    num_problems: int = Field(default=50, ge=1)
    """Number of problems."""
    cap: int = Field(default=1024, ge=0)
    """Maximum number of thinking tokens; the answer is then forced. Decoding is greedy."""
    forcing: ForcingConfig = ForcingConfig()
    """The other settings of budget forcing."""
    every_epochs: int = Field(default=1, ge=1)
    """Epochs between the checkpoints that are measured; the last one always is."""


class StopConfig(Settings):
    """When training ends before the last epoch."""

    token_accuracy: float = Field(default=0.99, gt=0, le=1)
    """Stop after an epoch in which the model found no token more likely than the right one at this
    share of the loss tokens (arXiv 2602.11149)."""


class TrainConfig(Settings):
    """Supervised fine-tuning on the selected chains; loss on the completion only."""

    input: str | None = None
    """A file of traces, for a recipe without a select stage."""
    epochs: int = Field(default=5, ge=1)
    """Passes over the training set (s1: 5, LIMO: 15)."""
    max_steps: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Stop after this many optimiser steps. null: after the last epoch. auto: as many as this
    machine trains in `target_seconds`, by the speed of three steps, in as many `processes`, when
    the run is created; null if all fit."""
    target_seconds: float = Field(default=300.0, gt=0)
    """Time of training that `max_steps: auto` aims at."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate after the warm-up, followed by cosine decay to 0. Default under `lora`:
    1e-4."""
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps with linear warm-up."""
    batch_size: int = Field(default=16, ge=1)
    """Examples per optimiser step, over all devices."""
    micro_batch_size: MicroBatchSize = "auto"
    """Examples per forward pass on a device, or tokens (`65536 tokens`; a longer example is alone).
    null: the whole batch. auto: the tokens that the GPU is estimated to hold; null on a CPU. The
    loss of a step does not depend on it."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of AdamW."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Betas of AdamW."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=20000, ge=1)
    """Maximum length of an example in tokens; see `too_long`. An answer is never cut."""
    too_long: Literal["refuse", "drop", "cut_thinking"] = "refuse"
    """What to do with longer examples. refuse: stop before training. drop: drop and count them.
    cut_thinking: end the thinking after the last line or sentence that fits, and keep the whole
    answer; recorded in `cut.jsonl`. Such a chain may no longer lead to its answer."""
    lora: LoraConfig | None = None
    """Train low-rank adapters. null: all weights are trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third slower."""
    parallel: Literal["auto", "data", "fsdp2"] = "auto"
    """How several processes share the work. data: each holds the whole model. fsdp2: each holds a
    share of weights, gradients and optimiser. auto: fsdp2 for full weights on GPUs, else data."""
    offload: bool = False
    """Keep the shares of `fsdp2` in the machine's memory, and update them there: slower. Also with
    one process. Needs a GPU."""
    compile: bool = False
    """Compile each layer (`torch.compile`): a slow start, then faster steps on a GPU."""
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    """adamw-8bit: AdamW whose two averages are in 8 bits, by bitsandbytes, or by torchao under
    `fsdp2`."""
    report_to: tuple[Literal["trackio", "wandb", "mlflow", "tensorboard"], ...] = ()
    """Trackers that receive the figures of each step. wandb uploads them, as do trackio and mlflow
    if their own variables name a server; tensorboard's files are in the run's `work/tensorboard`.
    With none, nothing leaves this machine."""
    checkpoint: Literal["last", "dev"] = "last"
    """The checkpoint that is evaluated. dev: the one with the highest accuracy on the problems of
    `dev`; the last one is kept in `last/`. A loss or a benchmark never decides."""
    dev: DevConfig = DevConfig()
    """Problems of `checkpoint: dev`."""
    stop: StopConfig | None = None
    """Stop before the last epoch. null: train all epochs."""
    save_every_steps: int | None = Field(default=50, ge=1)
    """Steps between checkpoints for resuming. null: only at the end."""

    @model_validator(mode="before")
    @classmethod
    def _default_rate_of_lora(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("lora") is not None:
            return {"learning_rate": LORA_LEARNING_RATE} | values
        return values

    @model_validator(mode="after")
    def _check_sharding(self) -> TrainConfig:
        quantized = self.lora is not None and self.lora.quantize is not None
        if quantized and self.parallel == "fsdp2":
            raise ValueError(
                "lora.quantize with parallel fsdp2; expected parallel data, since 4-bit weights "
                "cannot be sharded. Set parallel: data, or lora.quantize: null"
            )
        if self.offload and self.parallel != "fsdp2":
            raise ValueError(
                f"offload with parallel {self.parallel}; expected fsdp2, which alone offloads. "
                "Set parallel: fsdp2, or offload: false"
            )
        return self

    @property
    def step_limit(self) -> int | None:
        """`max_steps` as a number; None if all steps are trained, or their number is not chosen."""
        return self.max_steps if isinstance(self.max_steps, int) else None

    @property
    def micro_batch_tokens(self) -> int | None:
        """Tokens per forward pass, if the limit is one of tokens."""
        size = self.micro_batch_size
        return int(size.split()[0]) if isinstance(size, str) and size != "auto" else None
