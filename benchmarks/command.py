"""The command line that the benchmarks share, and the form of their figures.

spread([1.0, 2.0, 4.0]) == {"median": 2.0, "low": 1.0, "high": 4.0}
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def main(run: Callable[..., dict[str, Any]], doc: str | None) -> None:
    """Call `run` with the options that it takes, and print its figures.

    Options by parameter: `num_rounds` (--rounds), `path` (--data), `against`
    (--against), `scale` (--scale).
    """
    takes = inspect.signature(run).parameters
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="Print the figures as JSON.")
    if "num_rounds" in takes:
        parser.add_argument("--rounds", dest="num_rounds", type=int, default=5, help="Default: 5.")
    if "path" in takes:
        parser.add_argument("--data", dest="path", type=Path, help="Real data. Default: made rows.")
    if "against" in takes:
        parser.add_argument("--against", type=Path, help="Measure this checkout's package too.")
    if "scale" in takes:
        parser.add_argument("--scale", action="store_true", help="Up to a million made rows.")
    options = vars(parser.parse_args())
    show(run(**{name: value for name, value in options.items() if name in takes}), **options)


def show(figures: dict[str, Any], *, json: bool, **_: Any) -> None:
    """Print figures as JSON, or a line each."""
    print(_json(figures, indent=1) if json else "\n".join(_lines(figures)))


def _lines(figures: dict[str, Any]) -> list[str]:
    return [f"{name:32} {_json(value)}" for name, value in figures.items()]


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False)


def synchronise() -> None:
    """Wait until the GPU has done all work that was launched; does nothing without one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name() -> str:
    """cuda or cpu: where this process measures."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of the rounds."""
    named = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, 3) for name, value in named.items()}
