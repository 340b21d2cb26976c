"""Wall time of `slowthink run quickstart`, and of its stages; shortened without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.common import model_name
from benchmarks.gpu.part import PartReport

SHORT = (
    "pool.sources.0.num_problems=24", "pool.sources.0.num_heldout=4", "filter.difficulty=null",
    "select.num_problems=16", "train.max_steps=2",
    'evaluate.arms=[{name: tuned, model: tuned, caps: [0, 8]}]',
)  # fmt: skip
_COMMAND = """
try:
    from slowthink.cli.app import main
except ImportError:
    from slowthink.cli import main
main()
"""
_RESERVE_SECONDS = 4.0


def measure(report: PartReport) -> None:
    """Run the recipe; if the time is up, the stages that are finished count."""
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        root = Path(folder) / "run"
        settings = (*SHORT, f"model={model_name(report)}") if report.short else ()
        command = [
            sys.executable,
            "-c",
            _COMMAND,
            "run",
            "quickstart",
            "--out",
            str(root),
            "--quiet",
        ]
        command += [word for setting in settings for word in ("--set", setting)]
        started = time.monotonic()
        try:
            subprocess.run(command, check=True, timeout=report.seconds_left - _RESERVE_SECONDS)
            report.headline("finished", "yes")
        except subprocess.TimeoutExpired:
            report.headline("finished", "no: the time was up")
        report.headline("seconds", time.monotonic() - started)
        for stage, seconds in _stage_seconds(root).items():
            report.headline(f"seconds, {stage}", seconds)
        report.figures("settings", settings)


def _stage_seconds(root: Path) -> dict[str, Any]:
    path = root / "run.json"
    seconds: dict[str, Any] = json.loads(path.read_text())["seconds"] if path.exists() else {}
    return seconds
