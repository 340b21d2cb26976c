"""Estimate of the tokens that a GPU holds in training, from the model's config. Loads no torch.

Bytes of a Llama-like model under the precision of one device (`precision`), FlashAttention and the
loss in tiles. H hidden size, I size of the feed-forward layer, Q and K widths of all query and all
key heads, L layers, V vocabulary:

    weights, optimiser:  16 each (2 weight, 2 gradient, 4 master, 8 AdamW), or 2 each under a LoRA
    token, per layer:    24 H (two norms in fp32), 4 Q + 4 K (attention), 8 I (gate, up, product)
    token, checkpointed: 2 H per layer, and one layer as above

The formula is an estimate, not measured: `_MARGIN` of the memory is left for all else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slowthink.engines.auto import Choice, Machine
from slowthink.engines.models import EMBEDDED, resolve_model
from slowthink.errors import EngineError
from slowthink.recipe import Recipe, TrainConfig

_MARGIN = 0.3
"""Share of the memory left for CUDA, fragments, and what the estimate omits."""
_TILE_BYTES = 1e9
"""Logits of a tile in bf16 and fp32, and the fp32 gradients of a group of weights."""
_STEP = 1024
"""Estimates are rounded down to a multiple of so many tokens."""


def choose_micro_batch_size(config: TrainConfig, recipe: Recipe, machine: Machine) -> Choice:
    """Tokens per forward pass that this machine's smallest GPU is estimated to hold."""
    if not machine.gpus:
        return Choice(None, "no NVIDIA GPU")
    model = _model_config(recipe)
    if model is None:
        return Choice(None, f"the config of {recipe.model} is unavailable")
    gpu = min(machine.gpus, key=lambda gpu: gpu.memory_gb)
    tokens = estimate_tokens(
        model, gpu.memory_gb * 1e9, lora=config.lora is not None,
        checkpointing=config.gradient_checkpointing,
    )  # fmt: skip
    return Choice(f"{tokens} tokens", f"estimated for {gpu.name} with {gpu.memory_gb:.0f} GB")


def estimate_tokens(
    model: Mapping[str, Any], memory_bytes: float, *, lora: bool, checkpointing: bool
) -> int:
    """Tokens of a micro-batch that fit; at least 1, which puts each example alone."""
    weights = num_weights(model) * (2 if lora else 16)
    free = memory_bytes * (1 - _MARGIN) - weights - _TILE_BYTES
    layers, hidden = model["num_hidden_layers"], model["hidden_size"]
    layer = _layer_bytes(model)
    per_token = layers * 2 * hidden + layer if checkpointing else layers * layer
    tokens = int(free / per_token)
    return max(tokens // _STEP * _STEP if tokens >= _STEP else tokens, 1)


def num_weights(model: Mapping[str, Any]) -> int:
    """Approximate number of weights, without norms and biases."""
    hidden, queries, keys = model["hidden_size"], *_attention_widths(model)
    experts = model.get("num_experts") or model.get("num_local_experts") or 1
    wide = model.get("moe_intermediate_size") or model["intermediate_size"]
    layer = 2 * hidden * (queries + keys) + 3 * hidden * wide * experts
    embeddings = model["vocab_size"] * hidden * (1 if model.get("tie_word_embeddings") else 2)
    return int(embeddings + model["num_hidden_layers"] * layer)


def _layer_bytes(model: Mapping[str, Any]) -> int:
    """Bytes that the backward pass needs of a layer, per token."""
    queries, keys = _attention_widths(model)
    wide = model.get("moe_intermediate_size") or model["intermediate_size"]
    active = model.get("num_experts_per_tok") or 1
    return int(24 * model["hidden_size"] + 4 * (queries + keys) + 8 * wide * active)


def _attention_widths(model: Mapping[str, Any]) -> tuple[int, int]:
    """Widths of all query heads and of all key heads."""
    heads = model["num_attention_heads"]
    size = model.get("head_dim") or model["hidden_size"] // heads
    return heads * size, (model.get("num_key_value_heads") or heads) * size


def local_config(name: str, revision: str | None = None) -> dict[str, Any] | None:
    """The model's `config.json`, of a folder or of the Hub's cache; None if it is not on this
    machine, or of an unknown kind."""

    def find() -> Path:
        if (Path(name) / "config.json").is_file():
            return Path(name) / "config.json"
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        return Path(cached if isinstance(cached, str) else "")

    return _read_config(find)


def _model_config(recipe: Recipe) -> dict[str, Any] | None:
    """The model's `config.json`; of a Hub model only this file is fetched. None if unavailable."""
    name = recipe.model

    def find() -> Path:
        if name == EMBEDDED or Path(name).is_dir():
            return resolve_model(name) / "config.json"
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(name, "config.json", revision=recipe.revision))

    return _read_config(find)


def _read_config(find: Callable[[], Path]) -> dict[str, Any] | None:
    try:
        config: dict[str, Any] = json.loads(find().read_text("utf-8"))
        config |= config.get("text_config", {})
        num_weights(config)
    except (OSError, ValueError, KeyError, ImportError, EngineError):
        return None
    return config
