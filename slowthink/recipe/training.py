"""Settings of the train stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slowthink.recipe.base import Settings

MicroBatchSize = (
    Annotated[int, Field(ge=1)]
    | Literal["auto"]
    | Annotated[str, Field(pattern=r"^[1-9]\d* tokens$")]
    | None
)


class LoraConfig(Settings):
    """Low-rank adapters."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapters."""
    alpha: int = Field(default=32, ge=1)
    """Scale: updates are multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapters' input."""


class TrainConfig(Settings):
    """Supervised fine-tuning on the selected chains; loss on the completion only."""

    input: str | None = None
    """A file of traces, for a recipe without a select stage."""
    epochs: int = Field(default=5, ge=1)
    """Passes over the training set (s1: 5, LIMO: 15)."""
    max_steps: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Stop after this many optimiser steps. null: after the last epoch. auto: as many as this
    machine trains in `target_seconds`, by the speed of three steps when the run is created; null
    if all fit."""
    target_seconds: float = Field(default=300.0, gt=0)
    """Time of training that `max_steps: auto` aims at."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate after the warm-up, followed by cosine decay to 0."""
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
    """Maximum length of an example in tokens; see `too_long`. Examples are never truncated."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """What to do with longer examples. refuse: stop before training. drop: drop and count them."""
    lora: LoraConfig | None = None
    """Train low-rank adapters. null: all weights are trained."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third slower."""
    save_every_steps: int | None = Field(default=50, ge=1)
    """Steps between checkpoints for resuming. null: only at the end."""

    @property
    def step_limit(self) -> int | None:
        """`max_steps` as a number; None if all steps are trained, or their number is not chosen."""
        return self.max_steps if isinstance(self.max_steps, int) else None

    @property
    def micro_batch_tokens(self) -> int | None:
        """Tokens per forward pass, if the limit is one of tokens."""
        size = self.micro_batch_size
        return int(size.split()[0]) if isinstance(size, str) and size != "auto" else None
