"""LLaMA-Factory: rows of messages with a system column, the entry of dataset_info.json, a YAML.

{"messages": [{"role": "user", "content": "What is 17 + 25?"}, {"role": "assistant", …}],
 "system": "", …}
"""

from __future__ import annotations

import json
from typing import Any

from slowthink.export.folder import ROWS_FILE, TrainerFiles
from slowthink.export.rendering import rendering_notes
from slowthink.export.settings import common_settings, yaml_text
from slowthink.export.training import ExportSource, TrainingRow

DATASET = "slowthink"
TEMPLATE_NOTE = (
    "`template` is left out, so LLaMA-Factory takes the prompt's form from the model's own chat "
    "template; name one of its templates to override it. A reply stays as it is, but a template "
    "with think tags gets an empty think block in front of a reply without them."
)
EMPTY_SYSTEM_NOTE = (
    "The recipe's system prompt is empty, which LLaMA-Factory takes as none: its prompts have no "
    "system message, where `slowthink train` has an empty one."
)


def llama_factory_files(training: ExportSource) -> TrainerFiles:
    """Rows, `dataset_info.json` and `sft.yaml`."""
    info = {
        DATASET: {
            "file_name": ROWS_FILE,
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "system": "system"},
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user",
                "assistant_tag": "assistant", "system_tag": "system",
            },
        }
    }  # fmt: skip
    return TrainerFiles(
        row=_row,
        texts={
            "dataset_info.json": json.dumps(info, indent=2) + "\n",
            "sft.yaml": yaml_text(_settings(training)),
        },
        command="llamafactory-cli train sft.yaml",
        notes=(TEMPLATE_NOTE, *_system_note(training), *rendering_notes(training)),
    )


def _row(row: TrainingRow) -> dict[str, Any]:
    question = row.prompt[-1]
    return {"messages": [question, row.reply], "system": row.system or "", **row.columns}


def _has_empty_system(training: ExportSource) -> bool:
    return any(row.system == "" for row in training.rows)


def _system_note(training: ExportSource) -> tuple[str, ...]:
    return (EMPTY_SYSTEM_NOTE,) if _has_empty_system(training) else ()


def _settings(training: ExportSource) -> dict[str, Any]:
    config, lora = training.config, training.config.lora
    return {
        "model_name_or_path": training.model,
        **({"model_revision": training.recipe.revision} if training.recipe.revision else {}),
        "trust_remote_code": training.recipe.engine.trust_remote_code,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora" if lora else "full",
        **(
            {
                "lora_rank": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout,
                "lora_target": "all",
            }
            if lora
            else {}
        ),
        "dataset": DATASET,
        "dataset_dir": ".",
        **({"default_system": ""} if _has_empty_system(training) else {}),
        "cutoff_len": training.cutoff,
        "packing": False,
        "output_dir": "model",
        **common_settings(training),
        "bf16": True,
        "disable_gradient_checkpointing": not config.gradient_checkpointing,
        "report_to": "none",
    }  # fmt: skip
