"""One part in its own process: `python -m benchmarks.gpu.part NAME --out FILE --seconds 110`.

A part is a function of a `PartReport`, which writes the figures after each step.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PARTS = (
    "conformance", "forcing", "training", "adapters", "decoding", "quickstart", "real_problems",
    "chain_ablations",
)  # fmt: skip
"""Modules of this package with a function `measure(report)`."""
DEFAULT_PARTS = PARTS[:-2]
"""Those that two minutes are enough for; the others need data, or a quarter of an hour."""


class NotComparable(Exception):
    """The checkout lacks what this part measures."""


class PartReport:
    """Figures of a part, written to its file as they come.

    {"headline": {"in flight over plain, 64 greedy": 0.97}, "figures": {…}, "machine": {…}}
    """

    def __init__(
        self,
        path: Path,
        *,
        seconds: float,
        short: bool,
        vllm: dict[str, Any] | None = None,
        model: str | None = None,
        data: Path | None = None,
    ) -> None:
        self.short, self.vllm = short, vllm or {}
        """Whether to shorten everything; more arguments of each vLLM engine."""
        self.model, self.data = None if short else model, data
        """The model to train, unless shortened; folder of real problems and chains."""
        self._path = path
        self._end = time.monotonic() + seconds
        self._data: dict[str, Any] = {"headline": {}, "figures": {}, "notes": []}

    @property
    def seconds_left(self) -> float:
        """Seconds until the part's process is ended."""
        return self._end - time.monotonic()

    def headline(self, name: str, value: float | int | str | None) -> None:
        """Set a figure of the table; rounded to four digits."""
        rounded = float(f"{value:.4g}") if isinstance(value, float) else value
        self._data["headline"][name] = rounded
        self._save()

    def figures(self, name: str, value: Any) -> None:
        """Set figures that only the JSON has."""
        self._data["figures"][name] = value
        self._save()

    def note(self, text: str) -> None:
        """Add a remark: what was skipped, or is not comparable, and why."""
        self._data["notes"].append(text)
        self._save()

    def set(self, **facts: Any) -> None:
        """Set facts beside the figures."""
        self._data |= facts
        self._save()

    def _save(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._data, indent=1, default=str))
        os.replace(temporary, self._path)


def main() -> None:
    """Run the part; exit status 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--vllm", type=json.loads, default={})
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    options = vars(parser.parse_args())
    run(options.pop("part"), options.pop("out"), options.pop("seconds"), **options)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # engines take seconds to shut down, and may wait for each other


def run(part: str, path: Path, seconds: float, *, short: bool, **settings: Any) -> None:
    """Write a part's report to this path. `settings` are those of `PartReport`. The imports, which
    take up to ten seconds, count: the process is ended after `seconds`."""
    started = time.monotonic()
    import torch

    from benchmarks.gpu.machine import machine_facts

    short = short or not torch.cuda.is_available()
    left = seconds - (time.monotonic() - started)
    report = PartReport(path, seconds=left, short=short, **settings)
    report.set(machine=machine_facts(), short=short)
    try:
        importlib.import_module(f"benchmarks.gpu.{part}").measure(report)
    except NotComparable as error:
        report.note(str(error))
        report.set(comparable=False)


if __name__ == "__main__":
    main()
