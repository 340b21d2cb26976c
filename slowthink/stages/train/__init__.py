"""train: fine-tune the base model on the selected traces, with the loss on completions only.

A killed run resumes from its last complete checkpoint. On the same CPU it ends with the same
weights, bit for bit; on a GPU FlashAttention's backward pass adds in no fixed order.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.engines.models import (
    context_length,
    fingerprint,
    load_tokenizer,
    resolve_model,
)
from slowthink.errors import missing_extra
from slowthink.pipeline.contract import StageContext, StageResult, funnel_step, quantiles
from slowthink.pipeline.plan import file_rows, planned_training_set
from slowthink.pipeline.run_folder import peak_rss_mb
from slowthink.recipe import Recipe, TrainConfig
from slowthink.records import Trace, TrainingStep, item_seed
from slowthink.stages.train.examples import TrainingExample, drop_too_long, tokenize_traces
from slowthink.stages.train.memory import choose_micro_batch_size as choose_micro_batch_size
from slowthink.stages.train.schedule import PlannedStep, num_steps
from slowthink.stages.train.speed import EXAMPLE_TOKENS, choose_max_steps as choose_max_steps

if TYPE_CHECKING:
    from slowthink.stages.train.loop import FineTuned

STAGE_VERSION = 1


def run(context: StageContext) -> StageResult:
    """Write the fine-tuned model to `model/`; return a row per optimiser step.

    Raises DataError before training if an example is too long and `too_long` is `refuse`.
    """
    _require_libraries()
    config: TrainConfig = context.config
    recipe = context.recipe
    source = resolve_model(recipe.model, recipe.revision, notify=context.notify)
    tokenizer = load_tokenizer(
        recipe.model, recipe.revision, trust_remote_code=recipe.engine.trust_remote_code
    )
    all_examples = tokenize_traces(context.load(Trace, "select"), tokenizer, recipe)
    examples, dropped = drop_too_long(all_examples, config, max_context=context_length(source))
    context.notify(_start_message(examples, config, num_dropped=len(dropped)))
    tuned = _fine_tune(context, source, tokenizer, examples)
    rows = make_step_rows(tuned.log, tuned.schedule, examples)
    return StageResult(
        records=rows, record_type=TrainingStep, dropped=dropped,
        steps=[funnel_step("length", len(all_examples), dropped)],
        facts=_facts(context, examples, rows, tuned, num_dropped=len(dropped)),
    )  # fmt: skip


def plan(recipe: Recipe) -> dict[str, object]:
    """Number of optimiser steps and an estimate of tokens. Reads only the size of `train.input`."""
    config = recipe.train
    if config is None:
        return {"num_examples": 0, "num_steps": 0, "estimated_tokens": 0}
    num_examples = planned_examples(recipe)
    steps = num_steps(num_examples, config)
    num_trained = min(steps * config.batch_size, num_examples * config.epochs)
    tokens = num_trained * EXAMPLE_TOKENS
    return {"num_examples": num_examples, "num_steps": steps, "estimated_tokens": tokens}


def planned_examples(recipe: Recipe) -> int:
    """Expected size of the training set; 0 if unknown."""
    if recipe.train and recipe.train.input and recipe.select is None:
        return file_rows(recipe.train.input, setting="train.input")
    return planned_training_set(recipe)[1]


def _require_libraries() -> None:
    for package in ("torch", "transformers", "trl", "accelerate", "peft"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, extra="train")


def _start_message(
    examples: Sequence[TrainingExample], config: TrainConfig, *, num_dropped: int
) -> str:
    tokens = sum(example.num_tokens for example in examples)
    steps = num_steps(len(examples), config)
    too_long = f"; {num_dropped} too long and dropped" if num_dropped else ""
    return f"train: {len(examples)} examples, {tokens} tokens per epoch, {steps} steps{too_long}"


def _fine_tune(
    context: StageContext, source: Path, tokenizer: Any, examples: list[TrainingExample]
) -> FineTuned:
    """Train, from the last checkpoint if there is one, and save the model."""
    from slowthink.stages.train.loop import fine_tune
    from slowthink.stages.train.model import save_for_serving

    tuned = fine_tune(
        source, tokenizer, examples, context.config,
        work=context.work_folder, seed=item_seed(context.recipe.seed, "train"),
        notify=context.notify, progress=context.progress,
        trust_remote_code=context.recipe.engine.trust_remote_code,
    )  # fmt: skip
    save_for_serving(tuned.model, tokenizer, context.folder / "model", source=source)
    return tuned


def make_step_rows(
    log: Sequence[dict[str, Any]],
    schedule: Sequence[PlannedStep],
    examples: Sequence[TrainingExample],
) -> list[TrainingStep]:
    """One row per step, from the trainer's log and the schedule."""
    logged = {entry["step"]: entry for entry in log if "loss" in entry}
    steps_per_epoch = sum(step.epoch == 0 for step in schedule)
    rows = []
    for number, step in enumerate(schedule, start=1):
        batch = [examples[index] for micro_batch in step.micro_batches for index in micro_batch]
        rows.append(
            TrainingStep(
                step=number, epoch=round(number / steps_per_epoch, 4), loss=logged[number]["loss"],
                learning_rate=logged[number]["learning_rate"],
                grad_norm=logged[number]["grad_norm"],
                num_tokens=sum(example.num_tokens for example in batch),
                num_loss_tokens=sum(len(example.completion_ids) for example in batch),
            )
        )  # fmt: skip
    return rows


def _facts(
    context: StageContext,
    examples: Sequence[TrainingExample],
    rows: Sequence[TrainingStep],
    tuned: FineTuned,
    *,
    num_dropped: int,
) -> dict[str, Any]:
    num_new_tokens = sum(row.num_tokens for row in rows[tuned.resumed_at_step :])
    return {
        "model_path": "model",
        "model_fingerprint": fingerprint(context.folder / "model"),
        "num_examples": len(examples),
        "num_problems": len({example.problem_id for example in examples}),
        "num_too_long": num_dropped,
        "example_tokens": quantiles([example.num_tokens for example in examples]),
        "num_steps": len(rows),
        "num_tokens": sum(row.num_tokens for row in rows),
        "num_loss_tokens": sum(row.num_loss_tokens for row in rows),
        "final_loss": rows[-1].loss,
        "seconds": round(tuned.seconds, 1),
        "tokens_per_second": round(num_new_tokens / max(tuned.training_seconds, 1e-9), 1),
        "resumed_at_step": tuned.resumed_at_step,
        "numerics": tuned.numerics,
        "lora": context.config.lora is not None,
        "peak_rss_mb": peak_rss_mb(),
    }
