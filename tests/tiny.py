"""A language model of two layers with made weights, and the embedded model's tokenizer.

It says nonsense, quickly, and the same each time; with an end rule by probability its thinking ends
every now and then, so that waits occur.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from slowthink.engines.models import load_tokenizer

END_PROBABILITY = 3e-5
"""About one draw in twenty ends at this."""

tokenizer_once = cache(load_tokenizer)
"""Loading a tokenizer takes longer than most tests."""


def make_tiny_model(folder: Path, tokenizer, *, context: int = 2048) -> Path:
    """Save the model there."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
        bos_token_id=1, eos_token_id=2, initializer_range=0.6,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
