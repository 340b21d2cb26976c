"""Full weights, LoRA and QLoRA: tokens per second, peak memory, and the share of the card's
arithmetic that they use (MFU: FLOPs by the model's config, times the measured rate)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.gpu.common import model_name
from benchmarks.gpu.part import NotComparable, PartReport

_RESERVE_SECONDS = 12.0


def measure(report: PartReport) -> None:
    """Figures of each way to train, by the rows' lengths."""
    try:
        from benchmarks.train import LONG_ROWS, SHORT_ROWS, random_examples, steps_of
        from benchmarks.train_arms import ours, run_arm
        from slowthink.engines.models import resolve_model
        from slowthink.recipe import LoraConfig, TrainConfig
        from slowthink.stages.train.forecast import peak_flops, token_flops
        from slowthink.stages.train.shapes import find_config
    except ImportError as error:
        raise NotComparable(f"adapters: the checkout has another trainer: {error}") from None
    ways = {"full": None, "lora": LoraConfig(), "qlora": LoraConfig(quantize="nf4")}
    source = Path(resolve_model(report.model or model_name(report)))
    shape = find_config(str(source))
    if shape is None:
        raise NotComparable(f"adapters: {source} has no config that the forecast reads")
    peak = peak_flops(_gpu_name())
    lengths = (
        {"short rows": (60, 80)}
        if report.short
        else {"short rows": SHORT_ROWS, "long rows": LONG_ROWS}
    )
    for rows, (low, high) in lengths.items():
        size = 2 if report.short else 8
        examples = random_examples(steps_of(1 if report.short else 3) * size, lengths=(low, high))
        batches = [examples[start : start + size] for start in range(0, len(examples), size)]
        for name, lora in ways.items():
            if report.seconds_left < _RESERVE_SECONDS:
                report.note(f"{name}, {rows}: skipped, the time was up")
                continue
            try:
                result = run_arm(partial(ours, lora=lora), source, batches)
            except Exception as error:
                report.headline(f"tokens/s {name}, {rows}", f"{type(error).__name__}: {error}"[:99])
                continue
            speed = sorted(result.rates)[len(result.rates) // 2]
            report.headline(f"tokens/s {name}, {rows}", round(speed))
            report.headline(f"peak MB {name}, {rows}", result.peak_memory_mb)
            config = TrainConfig(lora=lora)
            flops = speed * token_flops(shape, config, num_tokens=(low + high) // 2)
            report.headline(f"MFU {name}, {rows}", flops / peak if peak else None)


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""
