"""train: fine-tune the base model on the chosen chains, loss on the completions only.

Killed at any moment and started again, it goes on from its last whole checkpoint and ends with the
same weights, bit for bit, on the same machine.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slowthink.data.rows import estimate_rows
from slowthink.engines.models import fingerprint, load_tokenizer, resolve_model
from slowthink.errors import missing_extra
from slowthink.pipeline.contract import StageContext, StageResult, Step, quantiles
from slowthink.pipeline.plan import planned_traces
from slowthink.pipeline.run_folder import peak_rss_mb
from slowthink.recipe import Recipe, TrainConfig
from slowthink.records import Trace, TrainingStep, item_seed
from slowthink.stages.train.examples import TrainingExample, fit, make_examples
from slowthink.stages.train.schedule import PlannedStep, num_steps

STAGE_VERSION = 1
PLANNED_EXAMPLE_TOKENS = 110
"""Length of an example that is not yet there, for the dry run."""


def run(context: StageContext) -> StageResult:
    """The fine-tuned model in `model/`, and a row per optimiser step.

    Raises DataError before training where an example is too long and the recipe refuses.
    """
    _require_libraries()
    from slowthink.stages.train.model import context_length

    config: TrainConfig = context.config
    source = resolve_model(context.recipe.model, context.recipe.revision, notify=context.notify)
    tokenizer = load_tokenizer(context.recipe.model, context.recipe.revision)
    found = make_examples(context.load(Trace, "select"), tokenizer, context.recipe)
    examples, dropped = fit(found, config, max_context=context_length(source))
    context.notify(_announcement(examples, config, num_dropped=len(dropped)))
    trained = _train(context, source, tokenizer, examples)
    return StageResult(
        records=trained["steps"], record_type=TrainingStep, dropped=dropped,
        steps=[_length_step(len(found), len(dropped))],
        facts=_facts(context, examples, trained, num_dropped=len(dropped)),
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Optimiser steps, and about how many tokens; nothing is read but the size of an own input."""
    config = recipe.train
    if config is None:
        return {"num_examples": 0, "num_steps": 0, "estimated_tokens": 0}
    if config.input and recipe.select is None:
        number = estimate_rows(config.input, setting="train.input")
    else:
        asked = recipe.select.num_problems if recipe.select else None
        number = min((size for size in (asked, planned_traces(recipe)) if size), default=0)
    steps = num_steps(number, config)
    seen = min(steps * config.batch_size, number * config.epochs)
    tokens = seen * PLANNED_EXAMPLE_TOKENS
    return {"num_examples": number, "num_steps": steps, "estimated_tokens": tokens}


def _require_libraries() -> None:
    for package in ("torch", "transformers", "trl", "accelerate", "peft"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, extra="train")


def _announcement(
    examples: Sequence[TrainingExample], config: TrainConfig, *, num_dropped: int
) -> str:
    tokens = sum(example.num_tokens for example in examples)
    steps = num_steps(len(examples), config)
    left_out = f"; {num_dropped} too long, left out" if num_dropped else ""
    return f"train: {len(examples)} examples, {tokens} tokens an epoch, {steps} steps{left_out}"


def _train(
    context: StageContext, source: Path, tokenizer: Any, examples: list[TrainingExample]
) -> dict[str, Any]:
    """Train, from the last checkpoint if there is one, and save."""
    from slowthink.stages.train.loop import fine_tune
    from slowthink.stages.train.model import save_for_serving

    started = time.monotonic()
    tuned = fine_tune(
        source,
        tokenizer,
        examples,
        context.config,
        work=context.work,
        seed=item_seed(context.recipe.seed, "train"),
        notify=context.notify,
        progress=context.progress,
    )
    seconds = time.monotonic() - started
    save_for_serving(tuned.model, tokenizer, context.folder / "model", source=source)
    return {
        "steps": make_rows(tuned.log, tuned.schedule, examples),
        "seconds": seconds,
        "training_seconds": tuned.seconds,
        "resumed_at_step": tuned.resumed_at_step,
        "numerics": tuned.numerics,
    }


def make_rows(
    log: Sequence[dict[str, Any]],
    schedule: Sequence[PlannedStep],
    examples: Sequence[TrainingExample],
) -> list[TrainingStep]:
    """The trainer's log joined with what the schedule says of each step."""
    logged = {entry["step"]: entry for entry in log if "loss" in entry}
    per_epoch = sum(step.epoch == 0 for step in schedule)
    rows = []
    for number, step in enumerate(schedule, start=1):
        used = [examples[index] for part in step.parts for index in part]
        rows.append(
            TrainingStep(
                step=number, epoch=round(number / per_epoch, 4), loss=logged[number]["loss"],
                learning_rate=logged[number]["learning_rate"],
                grad_norm=logged[number]["grad_norm"],
                num_tokens=sum(example.num_tokens for example in used),
                num_loss_tokens=sum(len(example.completion_ids) for example in used),
            )
        )  # fmt: skip
    return rows


def _length_step(num_in: int, num_dropped: int) -> Step:
    reasons = {"too long": num_dropped} if num_dropped else {}
    return Step(name="length", num_in=num_in, num_out=num_in - num_dropped, reasons=reasons)


def _facts(
    context: StageContext,
    examples: Sequence[TrainingExample],
    trained: dict[str, Any],
    *,
    num_dropped: int,
) -> dict[str, Any]:
    steps: list[TrainingStep] = trained["steps"]
    tokens = sum(step.num_tokens for step in steps)
    here = sum(step.num_tokens for step in steps[trained["resumed_at_step"] :])
    return {
        "model_path": "model",
        "model_fingerprint": fingerprint(context.folder / "model"),
        "num_examples": len(examples),
        "num_too_long": num_dropped,
        "example_tokens": quantiles([example.num_tokens for example in examples]),
        "num_steps": len(steps),
        "num_tokens": tokens,
        "num_loss_tokens": sum(step.num_loss_tokens for step in steps),
        "final_loss": steps[-1].loss,
        "seconds": round(trained["seconds"], 1),
        "tokens_per_second": round(here / max(trained["training_seconds"], 1e-9), 1),
        "resumed_at_step": trained["resumed_at_step"],
        "numerics": trained["numerics"],
        "lora": context.config.lora is not None,
        "peak_rss_mb": peak_rss_mb(),
    }
