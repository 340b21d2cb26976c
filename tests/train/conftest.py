"""A model small enough to train in a test, with the embedded model's tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from slowthink.stages.train.examples import TrainingExample


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, smollm_tokenizer) -> Path:
    """Two Llama layers of random bf16 weights, saved as transformers saves a model."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=len(smollm_tokenizer), hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(settings).to(torch.bfloat16).save_pretrained(folder)
    smollm_tokenizer.save_pretrained(folder)
    return folder


def make_examples() -> list[TrainingExample]:
    """Thirteen examples of different lengths, each ending in EOS."""
    return [
        TrainingExample(
            id=f"p-{number:02}",
            prompt_ids=tuple(range(100, 105 + number)),
            completion_ids=(*range(200 + number, 210 + 2 * number), 2),
        )
        for number in range(13)
    ]


@pytest.fixture(scope="session")
def examples() -> list[TrainingExample]:
    """The examples that the tests train on."""
    return make_examples()
