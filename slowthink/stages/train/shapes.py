"""A model's shape: its config, and the numbers of weights that follow from it. Loads no torch.

model = find_config("Qwen/Qwen2.5-7B-Instruct")   # known, though not on this machine
num_weights(model)                                # 7_615_283_200
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slowthink.engines.models import EMBEDDED, resolve_model
from slowthink.errors import EngineError

Shape = Mapping[str, Any]
"""A model's `config.json`."""

_VARIANT = re.compile(r"-(?:Instruct|Math|Coder)(?=-|$)")
"""Parts of a name that do not change the shape."""


def find_config(name: str, revision: str | None = None, *, fetch: bool = False) -> Shape | None:
    """The model's config: of a folder, the Hub's cache or, with `fetch`, the Hub (that file alone);
    else of the known models. None if there is none, or of an unknown kind."""
    return _read_config(lambda: _config_path(name, revision, fetch=fetch)) or known_config(name)


def read_config(path: Path) -> dict[str, Any]:
    """A model's `config.json`, with its text part in it if it has several."""
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    config |= config.get("text_config", {})
    return config


def known_config(name: str) -> Shape | None:
    """The shape of a well-known model of the Hub, by its name."""
    return _known_models().get(_VARIANT.sub("", name))


def num_weights(model: Shape) -> int:
    """Approximate number of weights, without norms and biases."""
    return embedding_weights(model) + layer_weights(model) * int(model["num_hidden_layers"])


def layer_weights(model: Shape) -> int:
    """Weights of one layer."""
    hidden, queries, keys = model["hidden_size"], *attention_widths(model)
    experts = model.get("num_experts") or model.get("num_local_experts") or 1
    return int(2 * hidden * (queries + keys) + 3 * hidden * _mlp_width(model) * experts)


def embedding_weights(model: Shape) -> int:
    """Weights of the embeddings and of an output layer of its own."""
    return int(model["vocab_size"] * model["hidden_size"] * (1 if is_tied(model) else 2))


def adapter_weights(model: Shape, rank: int) -> int:
    """Weights of a LoRA on all linear layers: rank × (inputs + outputs) of each."""
    hidden, queries, keys = model["hidden_size"], *attention_widths(model)
    outputs = 2 * (queries + hidden) + 2 * (keys + hidden)
    experts = model.get("num_experts") or model.get("num_local_experts") or 1
    outputs += 3 * (hidden + _mlp_width(model)) * experts
    return int(rank * outputs * model["num_hidden_layers"])


def flops_weights(model: Shape) -> int:
    """Weights by which a token is multiplied: those of its experts and the output layer."""
    hidden, queries, keys = model["hidden_size"], *attention_widths(model)
    layer = 2 * hidden * (queries + keys) + 3 * active_width(model) * hidden
    return int(model["num_hidden_layers"] * layer + model["vocab_size"] * hidden)


def active_width(model: Shape) -> int:
    """Width of the feed-forward layer, of all experts that a token passes."""
    return int(_mlp_width(model) * (model.get("num_experts_per_tok") or 1))


def attention_widths(model: Shape) -> tuple[int, int]:
    """Widths of all query heads and of all key heads."""
    heads = model["num_attention_heads"]
    size = model.get("head_dim") or model["hidden_size"] // heads
    return heads * size, (model.get("num_key_value_heads") or heads) * size


def is_tied(model: Shape) -> bool:
    """Whether the output layer has the weights of the embeddings."""
    return bool(model.get("tie_word_embeddings"))


def _mlp_width(model: Shape) -> int:
    return int(model.get("moe_intermediate_size") or model["intermediate_size"])


def _config_path(name: str, revision: str | None, *, fetch: bool) -> Path:
    if (Path(name) / "config.json").is_file():
        return Path(name) / "config.json"
    if fetch and (name == EMBEDDED or Path(name).is_dir()):
        return resolve_model(name) / "config.json"
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if fetch:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(cached if isinstance(cached, str) else "")


def _read_config(find: Callable[[], Path]) -> dict[str, Any] | None:
    try:
        config = read_config(find())
        num_weights(config)
    except (OSError, ValueError, KeyError, ImportError, EngineError):
        return None
    return config


@cache
def _known_models() -> dict[str, Shape]:
    text = (Path(__file__).parent / "known_models.yaml").read_text("utf-8")
    models: dict[str, Shape] = yaml.safe_load(text)
    return models
