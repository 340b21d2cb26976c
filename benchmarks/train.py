"""Training speed: our trainer against a plain PyTorch loop, turn by turn on the same batches.

The plain loop is what one would write by hand and tune: padded batches, bf16 weights, fused AdamW,
logits at the learnt tokens only. After each step of ours it takes one, so that a busy machine slows
both. Data loading, logging and clipping count for both.

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
    """Seconds of each step, ours and the plain loop's, and its tokens."""

    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)


def run(*, num_rounds: int = 5) -> dict[str, Any]:
    """Tokens per second and their ratio; medians over the steps, with the least and the most."""
    import torch

    from slowthink.engines.models import load_tokenizer, resolve_model
    from slowthink.stages.train.loop import prepare_machine, quiet_libraries

    prepare_machine()
    quiet_libraries()
    num_steps = WARM_UP_STEPS + num_rounds * STEPS_PER_ROUND
    source = resolve_model(MODEL)
    times = _race(source, load_tokenizer(MODEL), made_examples(num_steps * BATCH_SIZE), num_steps)
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


def made_examples(number: int) -> list[TrainingExample]:
    """Examples of made ids, 60 to 160 tokens long, 40 of them the prompt."""
    rng = random.Random(0)
    return [
        TrainingExample(
            id=str(index),
            prompt_ids=tuple(rng.randrange(5, 40_000) for _ in range(40)),
            completion_ids=tuple(rng.randrange(5, 40_000) for _ in range(rng.randint(20, 120))),
        )
        for index in range(number)
    ]


def _race(source: Path, tokenizer: Any, examples: list[TrainingExample], num_steps: int) -> Times:
    from transformers import TrainerCallback

    from slowthink.stages.train.model import load_for_training
    from slowthink.stages.train.schedule import make_schedule
    from slowthink.stages.train.trainer import make_trainer

    config = TrainConfig(epochs=1, batch_size=BATCH_SIZE, save_every_steps=None)
    schedule = make_schedule([one.num_tokens for one in examples], config, seed=0)
    times, plain = Times(), PlainLoop(source)

    class Turns(TrainerCallback):  # type: ignore[misc]
        started = 0.0

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.ours.append(time.perf_counter() - self.started)
            batch = [examples[i] for part in schedule[state.global_step - 1].parts for i in part]
            times.num_tokens.append(sum(one.num_tokens for one in batch))
            times.plain.append(plain.timed_step(batch))
            self.started = time.perf_counter()

    with tempfile.TemporaryDirectory() as work:
        trainer = make_trainer(
            load_for_training(source, config, seed=0), tokenizer, examples, config,
            schedule=schedule, work=Path(work), seed=0,
        )  # fmt: skip
        trainer.add_callback(Turns())
        assert len(schedule) == num_steps
        trainer.train()
    return times


class PlainLoop:
    """The loop by hand."""

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
        learnt = labels[:, 1:] != -100
        logits = self.model.lm_head(hidden[learnt]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][learnt])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()
        return time.perf_counter() - started


def _padded(batch: Sequence[TrainingExample]) -> tuple[dict[str, Any], Any]:
    """Input ids and mask, padded on the right; and labels."""
    import torch

    longest = max(one.num_tokens for one in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, one in enumerate(batch):
        end = one.num_tokens
        ids[row, :end] = torch.tensor([*one.prompt_ids, *one.completion_ids])
        labels[row, len(one.prompt_ids) : end] = ids[row, len(one.prompt_ids) : end]
        mask[row, :end] = 1
    return {"input_ids": ids, "attention_mask": mask}, labels


if __name__ == "__main__":
    main(run, __doc__)
