"""vLLM in this process, and the classes that vLLM itself loads by name.

    vllm serve MODEL --logits-processors slowthink.engines.vllm:Forcing
        --worker-extension-cls slowthink.engines.vllm.Reading

Both are imported on first use, so importing this package needs no torch.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Forcing", "Reading"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from slowthink.engines.vllm import processor

    return getattr(processor, name)
