"""TRL: rows of a prompt and a completion, and a script with the recipe's settings.

{"prompt": [{"role": "user", "content": "What is 17 + 25?"}],
 "completion": [{"role": "assistant", "content": "<think>\n17 + 25 = 42.\n</think>\n\n42"}], …}

If the model's chat template makes another text of them, the rows hold token ids instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slowthink.export.folder import TrainerFiles
from slowthink.export.rendering import compare_rendering, ids_note, rendering_notes
from slowthink.export.settings import common_settings, yaml_text
from slowthink.export.training import ExportSource, TrainingRow

SCRIPT = Path(__file__).with_name("sft_script.py")


def trl_files(training: ExportSource) -> TrainerFiles:
    """Rows, `sft.py` and its settings `sft.yaml`."""
    rendering = compare_rendering(training)
    if rendering.is_same:
        row, notes = (lambda row: _row(training, row)), rendering_notes(training, rendering)
    else:
        row, notes = _id_row, (ids_note(training, rendering),)
    return TrainerFiles(
        row=row,
        texts={"sft.py": SCRIPT.read_text("utf-8"), "sft.yaml": yaml_text(_settings(training))},
        command="python sft.py",
        notes=("The settings are those of TRL 1.16 with transformers 5.", *notes),
    )


def _row(training: ExportSource, row: TrainingRow) -> dict[str, Any]:
    variables = training.recipe.chat.template_variables
    extra = {"chat_template_kwargs": variables} if variables else {}
    return {"prompt": row.prompt, "completion": [row.reply], **extra, **row.columns}


def _id_row(row: TrainingRow) -> dict[str, Any]:
    example = row.ids
    num_prompt, num_completion = len(example.prompt_ids), len(example.completion_ids)
    return {
        "input_ids": [*example.prompt_ids, *example.completion_ids],
        "completion_mask": [0] * num_prompt + [1] * num_completion,
        **row.columns,
    }


def _settings(training: ExportSource) -> dict[str, Any]:
    """Model, LoRA and `SFTConfig` arguments."""
    lora = training.config.lora
    return {
        "model": training.model,
        "source": {
            "revision": training.recipe.revision,
            "trust_remote_code": training.recipe.engine.trust_remote_code,
        },
        "lora": lora and {
            "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout,
            "target_modules": "all-linear", "task_type": "CAUSAL_LM",
        },
        "arguments": {
            **common_settings(training),
            "max_length": None,  # nothing is cut; with the tokenizer, too long rows are out
            "completion_only_loss": True,
            "packing": False,
            "gradient_checkpointing": training.config.gradient_checkpointing,
            "report_to": "none",
        },
    }  # fmt: skip
