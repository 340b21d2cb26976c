"""ms-swift: rows of messages, and the command with the recipe's settings."""

from __future__ import annotations

import shlex
from typing import Any

from slowthink.export.folder import ROWS_FILE, TrainerFiles
from slowthink.export.rendering import rendering_notes
from slowthink.export.settings import common_settings
from slowthink.export.training import ExportSource, TrainingRow

TEMPLATE_NOTE = (
    "ms-swift finds its own template by the model's type; for a model that it does not know, name "
    "one: --model_type and --template. `--add_non_thinking_prefix false` keeps replies without "
    "think tags as they are."
)


def ms_swift_files(training: ExportSource) -> TrainerFiles:
    """Rows and `sft.sh`."""
    lines = [f"--{name} {_value(value)}" for name, value in _settings(training).items()]
    command = " \\\n    ".join(["swift sft", *lines])
    return TrainerFiles(
        row=message_row,
        texts={"sft.sh": f"#!/bin/sh\n# Run in this folder.\n{command}\n"},
        command="sh sft.sh",
        notes=(TEMPLATE_NOTE, *rendering_notes(training)),
    )


def message_row(row: TrainingRow) -> dict[str, Any]:
    """All messages, the system prompt among them."""
    return {"messages": [*row.prompt, row.reply], **row.columns}


def _settings(training: ExportSource) -> dict[str, Any]:
    config, lora = training.config, training.config.lora
    return {
        "model": training.model,
        **({"model_revision": training.recipe.revision} if training.recipe.revision else {}),
        "dataset": ROWS_FILE,
        "split_dataset_ratio": 0,
        "tuner_type": "lora" if lora else "full",
        **(
            {
                "lora_rank": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout,
                "target_modules": "all-linear",
            }
            if lora
            else {}
        ),
        "max_length": training.cutoff,
        "loss_scale": "default",
        "add_non_thinking_prefix": False,
        "torch_dtype": "bfloat16",
        **common_settings(training),
        "gradient_checkpointing": config.gradient_checkpointing,
        "output_dir": "model",
        "report_to": "none",
    }  # fmt: skip


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shlex.quote(str(value))
