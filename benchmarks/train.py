"""Training speed: our trainer against a plain PyTorch loop, alternating on the same batches.

The plain loop is a tuned loop written by hand: padded batches, bf16 weights, fused AdamW, logits
only for completion tokens. It runs one step after each of ours, so that a busy machine slows both.
Data loading, logging and clipping count for both.

    {"ratio": {"median": 1.07, "low": 0.98, "high": 1.21}, "tokens_per_second": {...}, ...}
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command import main, spread
from slowthink.recipe import TrainConfig
from slowthink.stages.train.examples import TrainingExample

STEPS_PER_ROUND = 3
WARM_UP_STEPS = 2
BATCH_SIZE = 8
MODEL = "smollm2-135m"


@dataclass
class Times:
    """Seconds of each step by our trainer and by the plain loop, and its number of tokens."""

    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)


def run(*, num_rounds: int = 5) -> dict[str, Any]:
    """Tokens per second and their ratio: median, minimum and maximum over the steps."""
    import torch

    from slowthink.engines.models import load_tokenizer, resolve_model
    from slowthink.stages.train.loop import configure_cpu, quiet_libraries

    configure_cpu()
    quiet_libraries()
    num_steps = WARM_UP_STEPS + num_rounds * STEPS_PER_ROUND
    source = resolve_model(MODEL)
    times = _alternate(
        source, load_tokenizer(MODEL), random_examples(num_steps * BATCH_SIZE), num_steps
    )
    return summary(times) | {"model": MODEL, "threads": torch.get_num_threads()}


def summary(times: Times) -> dict[str, Any]:
    """The figures, without the warm-up steps."""
    ours, plain = times.ours[WARM_UP_STEPS:], times.plain[WARM_UP_STEPS:]
    tokens = times.num_tokens[WARM_UP_STEPS:]
    return {
        "ratio": spread([p / o for o, p in zip(ours, plain, strict=True)]),
        "tokens_per_second": spread([n / s for n, s in zip(tokens, ours, strict=True)]),
        "plain_tokens_per_second": spread([n / s for n, s in zip(tokens, plain, strict=True)]),
        "num_steps": len(ours),
        "tokens_per_step": round(statistics.mean(tokens)),
    }


def random_examples(number: int) -> list[TrainingExample]:
    """Examples of random ids: 40 prompt tokens and 20 to 120 completion tokens."""
    rng = random.Random(0)
    return [
        TrainingExample(
            id=str(index),
            prompt_ids=tuple(rng.randrange(5, 40_000) for _ in range(40)),
            completion_ids=tuple(rng.randrange(5, 40_000) for _ in range(rng.randint(20, 120))),
        )
        for index in range(number)
    ]


def _alternate(
    source: Path, tokenizer: Any, examples: list[TrainingExample], num_steps: int
) -> Times:
    from transformers import TrainerCallback

    from slowthink.stages.train.model import load_for_training
    from slowthink.stages.train.schedule import make_schedule
    from slowthink.stages.train.trainer import make_trainer

    config = TrainConfig(epochs=1, batch_size=BATCH_SIZE, save_every_steps=None)
    schedule = make_schedule([example.num_tokens for example in examples], config, seed=0)
    times, plain = Times(), PlainLoop(source)

    class Alternate(TrainerCallback):  # type: ignore[misc]
        started = 0.0

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.ours.append(time.perf_counter() - self.started)
            step = schedule[state.global_step - 1]
            batch = [examples[i] for indices in step.micro_batches for i in indices]
            times.num_tokens.append(sum(example.num_tokens for example in batch))
            times.plain.append(plain.timed_step(batch))
            self.started = time.perf_counter()

    with tempfile.TemporaryDirectory() as work:
        trainer = make_trainer(
            load_for_training(source, config, seed=0), tokenizer, examples, config,
            schedule=schedule, work=Path(work), seed=0,
        )  # fmt: skip
        trainer.add_callback(Alternate())
        assert len(schedule) == num_steps
        trainer.train()
    return times


class PlainLoop:
    """A training loop written by hand."""

    def __init__(self, source: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

    def timed_step(self, batch: Sequence[TrainingExample]) -> float:
        """Seconds of one optimiser step."""
        import torch

        started = time.perf_counter()
        inputs, labels = _padded(batch)
        hidden = self.model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        has_loss = labels[:, 1:] != -100
        logits = self.model.lm_head(hidden[has_loss]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][has_loss])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()
        return time.perf_counter() - started


def _padded(batch: Sequence[TrainingExample]) -> tuple[dict[str, Any], Any]:
    """Input ids and mask, padded on the right, and labels."""
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


if __name__ == "__main__":
    main(run, __doc__)
