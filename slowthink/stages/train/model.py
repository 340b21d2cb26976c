"""Load a model for training, optionally with a LoRA, and save it for every engine.

train/model/      safetensors, tokenizer, chat template, generation config; a LoRA is merged into it
train/adapter/    the LoRA alone
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from slowthink.engines.models import from_folder
from slowthink.recipe import LoraConfig, TrainConfig
from slowthink.stages.train.attention import attention_name
from slowthink.stages.train.precision import Precision, choose_precision


def load_for_training(
    folder: Path,
    config: TrainConfig,
    *,
    seed: int,
    precision: Precision | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Load the model with attention for packed rows. `precision` defaults to `choose_precision`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    model_config = from_folder(AutoConfig, folder, trust_remote_code=trust_remote_code)
    model = from_folder(
        AutoModelForCausalLM,
        folder,
        trust_remote_code=trust_remote_code,
        dtype=(precision or choose_precision(config)).weights,
        attn_implementation=attention_name(model_config.get_text_config(), device_type),
    )
    if config.lora is not None:
        torch.manual_seed(seed % 2**63)
        model = _add_adapters(model, config.lora)
    return model


def save_for_serving(model: Any, tokenizer: Any, folder: Path, *, source: Path) -> None:
    """Save model and tokenizer to `folder`, in the dtype of the base model in `source`.

    `model` is in fp32. A LoRA is merged in fp32, and also saved alone in `adapter/`.
    """
    dtype = _stored_dtype(source)
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(folder.with_name("adapter"))
        model = model.float().merge_and_unload()
    model = model.to(dtype)
    model.config.dtype = dtype
    model.config.use_cache = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _stored_dtype(source: Path) -> torch.dtype:
    """Dtype of the model's files; bf16 if its config has none."""
    config = json.loads((source / "config.json").read_text("utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    dtype = getattr(torch, name)
    return dtype if isinstance(dtype, torch.dtype) else torch.bfloat16


def _add_adapters(model: Any, config: LoraConfig) -> Any:
    from peft import LoraConfig as PeftLora, get_peft_model

    peft_config = PeftLora(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, peft_config)
