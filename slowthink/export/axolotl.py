"""axolotl: rows for its `chat_template` strategy with the model's own template, and a YAML.

If that template makes another text of the messages, the rows hold token ids and labels instead.
"""

from __future__ import annotations

from typing import Any

from slowthink.export.folder import ROWS_FILE, TrainerFiles
from slowthink.export.ms_swift import message_row
from slowthink.export.rendering import compare_rendering, ids_note, rendering_notes
from slowthink.export.settings import OPTIMIZERS, warmup_steps, yaml_text
from slowthink.export.training import ExportSource, TrainingRow

IGNORED = -100
"""Label of a token without loss."""


def axolotl_files(training: ExportSource) -> TrainerFiles:
    """Rows and `sft.yaml`."""
    rendering = compare_rendering(training)
    dataset: dict[str, Any] = {
        "path": ROWS_FILE, "ds_type": "json", "type": "chat_template",
        "chat_template": "tokenizer_default", "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "roles_to_train": ["assistant"], "train_on_eos": "turn",
    }  # fmt: skip
    if rendering.is_same:
        notes = (
            "axolotl computes the loss on the reply and its end token.",
            *rendering_notes(training, rendering),
        )
        row = message_row
    else:
        dataset = {"path": ROWS_FILE, "ds_type": "json", "type": None}
        notes, row = (ids_note(training, rendering),), _id_row
    return TrainerFiles(
        row=row,
        texts={"sft.yaml": yaml_text(_settings(training, dataset))},
        command="axolotl train sft.yaml",
        notes=notes,
    )


def _id_row(row: TrainingRow) -> dict[str, Any]:
    example = row.ids
    ids = [*example.prompt_ids, *example.completion_ids]
    labels = [IGNORED] * len(example.prompt_ids) + list(example.completion_ids)
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": labels,
        **row.columns,
    }


def _settings(training: ExportSource, dataset: dict[str, Any]) -> dict[str, Any]:
    config, lora = training.config, training.config.lora
    return {
        "base_model": training.model,
        **({"revision_of_model": training.recipe.revision} if training.recipe.revision else {}),
        "trust_remote_code": training.recipe.engine.trust_remote_code,
        **(
            {
                "adapter": "lora", "lora_r": lora.rank, "lora_alpha": lora.alpha,
                "lora_dropout": lora.dropout, "lora_target_linear": True,
            }
            if lora
            else {}
        ),
        "datasets": [dataset],
        "dataset_prepared_path": "prepared",
        "val_set_size": 0.0,
        "sequence_len": training.cutoff,
        "excess_length_strategy": "raise",
        "sample_packing": False,
        "train_on_inputs": False,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": config.batch_size,
        "num_epochs": config.epochs,
        **({"max_steps": config.step_limit} if config.step_limit else {}),
        "optimizer": OPTIMIZERS[config.optimizer],
        "adam_beta1": config.betas[0],
        "adam_beta2": config.betas[1],
        "learning_rate": config.learning_rate,
        "lr_scheduler": "cosine",
        "warmup_steps": warmup_steps(training),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": "auto",
        "gradient_checkpointing": config.gradient_checkpointing,
        **({"save_steps": config.save_every_steps} if config.save_every_steps else {}),
        "seed": training.recipe.seed % 2**31,
        "output_dir": "model",
    }  # fmt: skip
