"""What several parts need: a model, vLLM's arguments, rounds for as long as there is time."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.gpu.part import NotComparable, PartReport
from benchmarks.plain_vllm import device_arguments, override_engine_arguments

MODEL = "smollm2-135m"
MAX_ROUNDS = 3
_RESERVE_SECONDS = 6.0
"""Left unused at the end of a part."""


def model_name(report: PartReport) -> str:
    """The embedded model; in a shortened run one of two layers with random weights."""
    return str(make_random_model(Path(mkdtemp(prefix="random-")))) if report.short else MODEL


def make_random_model(folder: Path) -> Path:
    """Save a model of 2 layers and 64 dimensions with random weights and SmolLM2's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from slowthink.engines.models import load_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=True, initializer_range=0.6,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    load_tokenizer(MODEL).save_pretrained(folder)
    return folder


def use_vllm(report: PartReport) -> dict[str, Any]:
    """Set the arguments of this process's vLLM engines, so that two fit on the card; returns them.

    Raises NotComparable if vLLM is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise NotComparable("vLLM is not installed: pip install 'slowthink[vllm]'")
    arguments = device_arguments() | report.vllm
    override_engine_arguments(arguments)
    report.figures("vllm_arguments", arguments)
    return arguments


def rounds(report: PartReport, tasks: Mapping[str, Callable[[int], None]]) -> Iterator[str]:
    """Run each task in turns, at most `MAX_ROUNDS` times, for as long as one more run of it fits in
    the time left; yields a task's name after it has run. A task takes the number of the round."""
    seconds: dict[str, float] = {}
    num_rounds = 1 if report.short else MAX_ROUNDS
    for index in range(num_rounds):
        for name, task in tasks.items():
            if report.seconds_left < 1.2 * seconds.get(name, 0.0) + _RESERVE_SECONDS:
                if index == 0:
                    report.note(f"{name}: skipped, {report.seconds_left:.0f} s were left")
                continue
            started = time.monotonic()
            task(index)
            seconds[name] = time.monotonic() - started
            yield name
