"""Training speed, memory and loss of ways to train (`train_arms`) on the same rows.

Each arm of a round runs in a process of its own, one after the other, so that its peak memory is
its own and a busy machine slows all. `ours_over` compares arms of the same round. `stepwise` lets
our trainer and the plain loop take turns at every step, in one process: the fairest ratio of both.

    {"arms": {"ours": {"tokens_per_second": {"median": …, "low": …, "high": …}, "peak_mb": 1510,
       "final_loss": 11.2}, "plain": …}, "ours_over": {"plain": {"median": 1.02, …}, …},
     "stepwise": {"ratio": {"median": 1.07, "low": 0.98, "high": 1.21}, …}}

The plain loop is tuned, written by hand: padded batches, bf16 weights, fused AdamW, logits only for
completion tokens. Loading data, logging and clipping count for all. Without AVX-512:
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.train --json
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command import main, spread, synchronise
from benchmarks.train_arms import (
    ARMS,
    STEPS_PER_BLOCK,
    WARM_UP_STEPS,
    Arm,
    Batches,
    PlainLoop,
    run_arm,
)
from slowthink.environment import commit
from slowthink.pipeline.run_folder import peak_rss_mb
from slowthink.recipe import TrainConfig
from slowthink.stages.train.examples import TrainingExample

BATCH_SIZE = 8
SHORT_ROWS = (60, 160)
LONG_ROWS = (2000, 4000)
MODEL = "smollm2-135m"


@dataclass
class Times:
    """Seconds of each step by our trainer and by the plain loop, and its number of tokens."""

    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)


COMPARED = ("plain", "ours", "trl_default", "trl_best")


def run(*, num_rounds: int = 3) -> dict[str, Any]:
    """Figures of each arm, ratios of the same round, and ours beside the plain loop by steps."""
    import torch

    rounds = [{arm: run_apart(arm) for arm in COMPARED} for _ in range(num_rounds)]
    return {
        "model": MODEL, "threads": torch.get_num_threads(), "commit": commit(),
        "load": [round(load, 1) for load in os.getloadavg()],
        **compare_rounds(rounds), "stepwise": run_stepwise(num_rounds=num_rounds),
    }  # fmt: skip


def compare_rounds(rounds: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Speed over the rounds, peak memory and last loss of each arm; and ours over each other."""
    arms, ours_over = {}, {}
    for arm in rounds[0]:
        of_arm = [figures[arm] for figures in rounds]
        arms[arm] = {
            "tokens_per_second": spread([figures["speed"] for figures in of_arm]),
            "peak_mb": max(figures["peak_mb"] for figures in of_arm),
            "final_loss": of_arm[-1]["final_loss"],
        }
        if arm != "ours":
            ratios = [figures["ours"]["speed"] / figures[arm]["speed"] for figures in rounds]
            ours_over[arm] = spread(ratios)
    return {"arms": arms, "ours_over": ours_over}


def run_apart(arm: str) -> dict[str, Any]:
    """The figures of `measure_here` in a process of its own."""
    command = [sys.executable, "-c", f"from benchmarks.train import *; print_here({arm!r})"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_here(arm: str) -> None:
    """Print speed, peak memory and last loss of an arm in this process, as JSON."""
    figures = measure(arms=(arm,), num_blocks=2)[arm]
    peak = figures.get("peak_memory_mb") or peak_rss_mb()
    speed = figures["tokens_per_second"]["median"]
    print(json.dumps({"speed": speed, "peak_mb": peak, "final_loss": figures["final_loss"]}))


def run_stepwise(*, num_rounds: int = 5) -> dict[str, Any]:
    """Tokens per second and their ratio: median, minimum and maximum over the steps."""

    from slowthink.engines.models import load_tokenizer, resolve_model
    from slowthink.stages.train.loop import configure_cpu, quiet_libraries

    configure_cpu()
    quiet_libraries()
    num_steps = steps_of(num_rounds)
    source = resolve_model(MODEL)
    times = _alternate(
        source, load_tokenizer(MODEL), random_examples(num_steps * BATCH_SIZE), num_steps
    )
    return summary(times)


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


def measure(
    *,
    lengths: tuple[int, int] = SHORT_ROWS,
    num_blocks: int = 5,
    batch_size: int = BATCH_SIZE,
    arms: Sequence[str] = tuple(ARMS),
    source: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of each arm on the same rows of `lengths` tokens, both ends included.

    `ratio` is that of ours to the arm, of the medians. `peak_memory_mb` is None on a CPU. An arm
    that fails has only the key `error`.

        {"ours": {"tokens_per_second": {"median": …, "low": …, "high": …}, "ratio": 1.0,
                  "loss": 11.2, "peak_memory_mb": 5123.0}, "plain": …}
    """
    from slowthink.engines.models import resolve_model
    from slowthink.stages.train.loop import configure_cpu, quiet_libraries

    configure_cpu()
    quiet_libraries()
    source = source or resolve_model(MODEL)
    num_steps = steps_of(num_blocks)
    rows = random_examples(num_steps * batch_size, lengths=lengths)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    figures = {name: _figures(ARMS[name], source, batches) for name in arms}
    ours = figures.get("ours", {}).get("tokens_per_second")
    for arm in figures.values():
        if ours and "tokens_per_second" in arm:
            arm["ratio"] = round(ours["median"] / arm["tokens_per_second"]["median"], 3)
    return figures


def steps_of(num_blocks: int) -> int:
    """Steps of so many blocks, with those of the warm-up."""
    return WARM_UP_STEPS + num_blocks * STEPS_PER_BLOCK


def _figures(arm: Arm, source: Path, batches: Batches) -> dict[str, Any]:
    try:
        result = run_arm(arm, source, batches)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "tokens_per_second": spread(result.rates), "loss": round(result.losses.mean, 4),
        "final_loss": round(result.losses.last, 4),
        "peak_memory_mb": result.peak_memory_mb and round(result.peak_memory_mb, 1),
    }  # fmt: skip


def random_examples(number: int, *, lengths: tuple[int, int] = SHORT_ROWS) -> list[TrainingExample]:
    """Examples of random ids of `lengths` tokens, of which 40 are the prompt."""
    rng = random.Random(0)
    return [
        TrainingExample(
            id=str(index),
            prompt_ids=tuple(rng.randrange(5, 40_000) for _ in range(40)),
            completion_ids=tuple(
                rng.randrange(5, 40_000) for _ in range(rng.randint(lengths[0], lengths[1]) - 40)
            ),
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
            synchronise()
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


if __name__ == "__main__":
    main(run, __doc__)
