"""train: fine-tune the base model on the selected traces, with the loss on completions only.

A killed run resumes from its last complete checkpoint. On the same CPU it ends with the same
weights, bit for bit; on a GPU FlashAttention's backward pass adds in no fixed order.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slowthink.engines.models import fingerprint
from slowthink.errors import missing_extra
from slowthink.pipeline.contract import StageContext, StageResult, funnel_step, quantiles
from slowthink.pipeline.plan import file_rows, planned_training_set
from slowthink.recipe import Recipe, TrainConfig
from slowthink.serialise import write_atomic
from slowthink.stage_rows import COST_FILE, TrainingStep
from slowthink.stages.train import preflight
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.forecast import setup_here
from slowthink.stages.train.memory import choose_micro_batch_size as choose_micro_batch_size
from slowthink.stages.train.packages import require_packages
from slowthink.stages.train.schedule import PlannedStep, make_schedule, num_steps, step_sizes
from slowthink.stages.train.speed import EXAMPLE_TOKENS, choose_max_steps as choose_max_steps
from slowthink.stages.train.training_set import TrainingSet, read_training_set
from slowthink.stages.train.unfinished import set_aside_other_checkpoints

if TYPE_CHECKING:
    from slowthink.stages.train.loop import FineTuned

STAGE_VERSION = 1
CUT_FILE = "cut.jsonl"
"""{"id": "p-0c1e…", "num_tokens": 2040, "num_before": 9121}: examples whose thinking was cut."""


def run(context: StageContext) -> StageResult:
    """Write the fine-tuned model to `model/`; return a row per optimiser step.

    Raises DataError before training if an example is too long and `too_long` is `refuse`, and for
    what `preflight` refuses.
    """
    require_libraries(context.recipe)
    data = read_training_set(context)
    set_aside_other_checkpoints(context)  # first, as they are no room for this run's
    warnings = _check(context, data)
    examples = data.examples
    context.notify(_start_message(data, context.config))
    if data.cut:
        write_atomic(
            context.folder / CUT_FILE, "".join(f"{json.dumps(vars(cut))}\n" for cut in data.cut)
        )
    tuned = _fine_tune(context, data)
    write_atomic(context.folder / COST_FILE, _cost_lines(tuned.log))
    dev = _choose_model(context, data, tuned) if data.dev else None
    rows = make_step_rows(tuned.log, tuned.schedule, examples)
    return StageResult(
        records=rows, record_type=TrainingStep, dropped=data.dropped,
        steps=[funnel_step("length", data.num_read, data.dropped)],
        facts=_facts(context, data, rows, tuned)
        | {"warnings": warnings, **({"dev": dev} if dev else {})},
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
    config = recipe.train
    if config and config.input and recipe.select is None:
        number = file_rows(config.input, setting="train.input")
    else:
        number = planned_training_set(recipe)[1]
    withheld = config.dev.num_problems if config and config.checkpoint == "dev" else 0
    return max(0, number - withheld)


def require_libraries(recipe: Recipe) -> None:
    """Raise ConfigError for a package that training, or one of its settings, needs and lacks."""
    assert recipe.train is not None
    for package in ("torch", "transformers", "trl", "accelerate", "peft"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, extra="train")
    require_packages(setup_here(recipe, recipe.train))


def _check(context: StageContext, data: TrainingSet) -> list[str]:
    """Warnings about the training set, which are also shown. Raises DataError if training it would
    be an error."""
    findings = preflight.inspect(data, context.recipe, context.root)
    preflight.refuse(findings)
    for finding in findings:
        context.notify(finding.text)
    return [finding.text for finding in findings if finding.level == "warn"]


def _start_message(data: TrainingSet, config: TrainConfig) -> str:
    tokens = sum(example.num_tokens for example in data.examples)
    steps = num_steps(len(data.examples), config)
    too_long = f"; {len(data.dropped)} too long and dropped" if data.dropped else ""
    too_long += f"; the thinking of {len(data.cut)} is cut" if data.cut else ""
    examples = f"train: {len(data.examples)} examples, {tokens} tokens per epoch"
    return f"{examples}, {steps} steps{too_long}"


def _fine_tune(context: StageContext, data: TrainingSet) -> FineTuned:
    """Train in this process, or in as many as the recipe says, and save the model."""
    from slowthink.stages.train.processes import world_size
    from slowthink.stages.train.rank import train_here

    number = context.recipe.processes
    if number == 1 or world_size() > 1:
        return train_here(context, data)
    from slowthink.stages.train.launch import launch
    from slowthink.stages.train.loop import FineTuned

    lengths = [example.num_tokens for example in data.examples]
    schedule = make_schedule(lengths, context.config, seed=data.seed)
    result = launch(context, number)
    return FineTuned(model=None, schedule=schedule[: _logged_steps(result["log"])], **result)


def _logged_steps(log: Sequence[dict[str, Any]]) -> int:
    """Number of steps in a trainer's log."""
    return sum("loss" in entry for entry in log)


def _choose_model(context: StageContext, data: TrainingSet, tuned: FineTuned) -> dict[str, Any]:
    from slowthink.stages.train.dev import choose_model

    return choose_model(context, data.dev, tuned.schedule)


def _cost_lines(log: Sequence[dict[str, Any]]) -> str:
    names = ("step", "tokens_per_second", "memory_mb")
    entries = [{name: entry.get(name) for name in names} for entry in log if "loss" in entry]
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def make_step_rows(
    log: Sequence[dict[str, Any]],
    schedule: Sequence[PlannedStep],
    examples: Sequence[TrainingExample],
) -> list[TrainingStep]:
    """One row per step, from the trainer's log and the schedule."""
    logged = {entry["step"]: entry for entry in log if "loss" in entry}
    steps_per_epoch = sum(step.epoch == 0 for step in schedule)
    return [
        TrainingStep(
            step=number, epoch=round(number / steps_per_epoch, 4), loss=logged[number]["loss"],
            learning_rate=logged[number]["learning_rate"], grad_norm=logged[number]["grad_norm"],
            num_tokens=size.num_tokens, num_loss_tokens=size.num_loss_tokens,
            token_accuracy=logged[number].get("token_accuracy"),
        )
        for number, size in enumerate(step_sizes(schedule, examples), start=1)
    ]  # fmt: skip


def _facts(
    context: StageContext, data: TrainingSet, rows: Sequence[TrainingStep], tuned: FineTuned
) -> dict[str, Any]:
    examples = data.examples
    num_new_tokens = sum(row.num_tokens for row in rows[tuned.resumed_at_step :])
    return {
        "model_path": "model",
        "model_fingerprint": fingerprint(context.folder / "model"),
        "num_examples": len(examples),
        "num_problems": len({example.problem_id for example in examples}),
        "num_too_long": len(data.dropped),
        "num_cut": len(data.cut),
        "example_tokens": quantiles([example.num_tokens for example in examples]),
        "num_steps": len(rows),
        "num_tokens": sum(row.num_tokens for row in rows),
        "num_loss_tokens": sum(row.num_loss_tokens for row in rows),
        "final_loss": rows[-1].loss,
        "final_token_accuracy": rows[-1].token_accuracy,
        "seconds": round(tuned.seconds, 1),
        "tokens_per_second": round(num_new_tokens / max(tuned.training_seconds, 1e-9), 1),
        "resumed_at_step": tuned.resumed_at_step,
        "numerics": tuned.numerics,
        "lora": context.config.lora is not None,
        "num_processes": tuned.num_processes,
        "peak_rss_mb": tuned.peak_rss_mb,
    }
