"""Load a model for training, optionally with a LoRA, and save it for every engine.

train/model/      safetensors, tokenizer, chat template, generation config
train/adapter/    the LoRA alone, which `model/` contains; or, not to be merged, in `model/` alone
"""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from slowthink.engines.models import NF4_FILE, from_folder, merge_adapter, save_in_dtype_of
from slowthink.recipe import LoraConfig, TrainConfig
from slowthink.stages.train.attention import attention_name
from slowthink.stages.train.layers import compile_layers
from slowthink.stages.train.precision import Precision, choose_precision
from slowthink.stages.train.processes import is_sharded


def load_for_training(
    folder: Path,
    config: TrainConfig,
    *,
    seed: int,
    precision: Precision | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Load the model with attention for packed rows, or this process's share of it.

    `precision` defaults to `choose_precision`.
    """
    precision = precision or choose_precision(config)
    load = partial(
        _load, folder, config, precision, seed=seed, trust_remote_code=trust_remote_code
    )  # fmt: skip
    if is_sharded(config):
        from slowthink.stages.train.sharding import load_sharded

        model = load_sharded(load, partial(load, empty=True), precision, offload=config.offload)
    else:
        model = load()
    if config.compile:
        compile_layers(model)
    return model


def load_with_weights(
    folder: Path, config: TrainConfig, weights: Any, *, trust_remote_code: bool = False
) -> Any:
    """The model in this machine's memory in fp32, with these trained weights by name."""
    precision = Precision(weights=torch.float32)
    model = _load(folder, config, precision, seed=0, trust_remote_code=trust_remote_code)
    model.load_state_dict(weights)
    return model


def _load(
    folder: Path,
    config: TrainConfig,
    precision: Precision,
    *,
    seed: int,
    trust_remote_code: bool,
    empty: bool = False,
) -> Any:
    """The model with its adapters; its weights are not read if `empty`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    model_config = from_folder(AutoConfig, folder, trust_remote_code=trust_remote_code)
    settings: dict[str, Any] = {
        "trust_remote_code": trust_remote_code,
        "dtype": precision.weights,
        "attn_implementation": attention_name(model_config.get_text_config(), device_type),
    }
    if config.lora is not None and config.lora.quantize is not None:
        settings |= nf4_loading(precision.weights)
    if empty:
        model = AutoModelForCausalLM.from_config(model_config, **settings)
    else:
        model = from_folder(AutoModelForCausalLM, folder, **settings)
    if config.lora is not None:
        torch.manual_seed(seed % 2**63)
        model = _add_adapters(model, config.lora)
    return model


def nf4_loading(compute: torch.dtype) -> dict[str, Any]:
    """Arguments with which transformers loads a model in nf4, with quantised scales: QLoRA
    (Dettmers et al. 2023, arXiv:2305.14314). bitsandbytes does so on CUDA and on CPUs."""
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        ),
        "device_map": {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"},
    }  # fmt: skip


def save_for_serving(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    source: Path,
    lora: LoraConfig | None = None,
    base_name: tuple[str, str | None] | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Save model and tokenizer to `folder`, in the dtype of the base model in `source`.

    `model` is in fp32. A LoRA is merged in fp32, and also saved alone in `adapter/`; or saved alone
    in `folder`, if it is not to be merged. `base_name` is the base model's name and revision in its
    settings, by default the path of `source`.
    """
    if lora is None:
        save_in_dtype_of(source, model, folder)
        tokenizer.save_pretrained(folder)
        return
    adapter = folder.with_name("adapter") if lora.merge else folder
    settings = model.peft_config["default"]
    settings.base_model_name_or_path, settings.revision = base_name or (str(source), None)
    model.save_pretrained(adapter, save_embedding_layers=False)
    (adapter / "README.md").unlink(missing_ok=True)
    tokenizer.save_pretrained(adapter)
    if lora.quantize is not None:
        dtype = model.config.quantization_config.bnb_4bit_compute_dtype
        (adapter / NF4_FILE).write_text(json.dumps({"dtype": str(dtype).removeprefix("torch.")}))
    if lora.merge:
        merge_adapter(adapter, source, folder, trust_remote_code=trust_remote_code)


def _add_adapters(model: Any, config: LoraConfig) -> Any:
    from peft import LoraConfig as PeftLora, get_peft_model

    peft_config = PeftLora(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, peft_config)
