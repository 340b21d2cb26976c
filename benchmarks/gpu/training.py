"""Our trainer, a plain loop, TRL's defaults and its best settings on the same rows, short and long:
tokens per second, peak memory, loss. The measurement is that of `benchmarks.train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.gpu.common import model_name
from benchmarks.gpu.part import NotComparable, PartReport

_RESERVE_SECONDS = 12.0


def measure(report: PartReport) -> None:
    """Figures of each way to train, by the rows' lengths."""
    try:
        from benchmarks.train import ARMS, LONG_ROWS, SHORT_ROWS, measure as measure_training
        from slowthink.engines.models import resolve_model
    except ImportError as error:
        raise NotComparable(f"training: the checkout has another trainer: {error}") from None
    source = Path(resolve_model(model_name(report)))
    settings: dict[str, Any] = {"source": source, "num_blocks": 3}
    rows = {"short rows": SHORT_ROWS, "long rows": LONG_ROWS}
    arms = sorted(ARMS, key=lambda arm: arm != "ours")
    if report.short:
        arms = ["ours", "plain", "trl_best"]
        settings |= {"num_blocks": 1, "batch_size": 2}
        rows = {"short rows": (60, 80)}
    for name, lengths in rows.items():
        ours: float | None = None
        for arm in arms:
            if report.seconds_left < _RESERVE_SECONDS:
                report.note(f"{arm}, {name}: skipped, the time was up")
                continue
            figures = measure_training(lengths=lengths, arms=(arm,), **settings)[arm]
            report.figures(f"{arm}, {name}", figures)
            ours = _add(report, arm, name, figures, ours)


def _add(
    report: PartReport, arm: str, rows: str, figures: dict[str, Any], ours: float | None
) -> float | None:
    """Add an arm's row of the table; returns the speed of ours, the first arm."""
    if "error" in figures:
        report.headline(f"tokens/s {arm}, {rows}", figures["error"][:120])
        return ours
    speed = figures["tokens_per_second"]["median"]
    report.headline(f"tokens/s {arm}, {rows}", round(speed))
    report.headline(f"peak MB {arm}, {rows}", figures["peak_memory_mb"])
    report.headline(f"loss {arm}, {rows}", figures["loss"])
    if ours is not None and arm != "ours":
        report.headline(f"ours over {arm}, {rows}", ours / speed)
    return speed if arm == "ours" else ours
