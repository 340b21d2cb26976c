"""The decoder layers of a model: what is sharded, and compiled, one by one."""

from __future__ import annotations

from typing import Any

from slowthink.stages.train.attention import leave_uncompiled


def decoder_layers(model: Any) -> list[Any]:
    """The layers, by the class that transformers does not split over devices."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(base._no_split_modules or ())
    return [module for module in base.modules() if type(module).__name__ in names]


def compile_layers(model: Any) -> None:
    """Compile each layer in place; layers of a kind share their code."""
    leave_uncompiled()
    for layer in decoder_layers(model):
        layer.compile(dynamic=True)
