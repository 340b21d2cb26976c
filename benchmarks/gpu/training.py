"""Our trainer, a plain loop, TRL's defaults and its best settings on the same rows, short and long:
tokens per second, peak memory, loss. The measurement is that of `benchmarks.train`."""

from __future__ import annotations

from benchmarks.gpu.part import NotComparable, PartReport


def measure(report: PartReport) -> None:
    """Not written yet."""
    raise NotComparable("training: see benchmarks.train")
