"""Does training on chains help a real model on real problems, at every thinking budget?

    python -m benchmarks.gpu --parts real_problems --data DIR --seconds 600

The base model and two trained ones: on GSM8K's worked solutions (short chains), and on long chains
of R1-Distill-Qwen-32B on LIMO's questions; at most 150 problems each of MATH-500 and GSM8K, at caps
up to 2,048, in paired differences with 95 % intervals. DIR has pool/gsm8k_train.jsonl,
traces/limo_r1_distill_qwen32b.jsonl, eval/math500.jsonl and eval/gsm8k_test.jsonl. One training by
arm: an interval over problems says nothing about other trainings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu.common import model_name
from benchmarks.gpu.part import NotComparable, PartReport

CAPS = [64, 256, 512, 1024, 2048]
MODEL = "Qwen/Qwen2.5-Coder-0.5B"
_TRAIN = {
    "epochs": 3, "learning_rate": 1e-5, "batch_size": 16, "micro_batch_size": "16384 tokens",
    "max_length": 8192, "too_long": "drop", "gradient_checkpointing": True,
}  # fmt: skip


def measure(report: PartReport) -> None:
    """Train both, evaluate all three, and compare each with the base model."""
    if report.data is None and not report.short:
        raise NotComparable("real_problems: expected --data DIR with real problems and chains")
    from slowthink.data.tables import read_records
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.pipeline.run import run_recipe
    from slowthink.recipe.loading import parse_recipe
    from slowthink.stage_rows import EvaluationRow

    with tempfile.TemporaryDirectory(prefix="real-problems-") as folder:
        settings = short_settings(report) if report.short else real_settings(report)
        base: list[Any] = []
        for arm, recipe in settings.items():
            root = Path(folder) / arm
            run_recipe(parse_recipe(recipe), root, reporter=ProgressReporter(quiet=True))
            rows = read_records(root / "evaluate", EvaluationRow)
            base = base or [row for row in rows if row.arm == "base"]
            add_differences(report, arm, base, [row for row in rows if row.arm == arm])


def real_settings(report: PartReport) -> dict[str, dict[str, Any]]:
    """The recipe of each arm; that of the first also evaluates the base model."""
    data = report.data
    assert data is not None
    benchmarks = [
        {"name": "math500", "path": str(data / "eval/math500.jsonl"), "max_problems": 150},
        {"name": "gsm8k", "path": str(data / "eval/gsm8k_test.jsonl"), "max_problems": 150},
    ]
    common = {"model": report.model or MODEL, "engine": {"kind": "auto"}, "train": _TRAIN}
    limits = {"caps": CAPS, "forcing": {"answer_tokens": 64}}
    gsm8k = {"kind": "file", "path": str(data / "pool/gsm8k_train.jsonl"), "max_problems": 1000}
    chains = {"kind": "file", "path": str(data / "traces/limo_r1_distill_qwen32b.jsonl")}
    contamination = {"preset": "strict", "benchmarks": benchmarks}
    return {
        "solutions": _recipe("solutions", common, benchmarks, limits, {
            "pool": {"sources": [gsm8k]}, "filter": {"contamination": contamination},
            "trace": {"sources": [{"kind": "solution"}]},
        }),
        "chains": _recipe("chains", common, benchmarks, limits, {
            "trace": {"sources": [chains], "contamination": contamination},
        }),
    }  # fmt: skip


def short_settings(report: PartReport) -> dict[str, dict[str, Any]]:
    """The same of made problems, for a model of two layers."""
    sandbox = {"kind": "sandbox", "num_problems": 12, "num_heldout": 4}
    common = {"model": model_name(report), "train": {"max_steps": 1, "batch_size": 4}}
    limits = {"caps": [2, 4], "forcing": {"answer_tokens": 2}}
    stages = {"pool": {"sources": [sandbox]}, "trace": {}}
    arms = ("solutions", "chains")
    return {arm: _recipe(arm, common, [], limits, stages) for arm in arms}


def _recipe(
    arm: str, common: Any, benchmarks: Any, limits: Any, stages: dict[str, Any]
) -> dict[str, Any]:
    arms = [{"name": arm, "model": "tuned", **limits}]
    if arm == "solutions":
        arms.insert(0, {"name": "base", "model": "base", "chat": {"format": "plain"}, **limits})
    select = {"method": "full", "num_problems": None}
    return {
        "name": arm, **common, **stages, "select": select, "report": None,
        "evaluate": {"benchmarks": benchmarks, "arms": arms},
    }  # fmt: skip


def add_differences(report: PartReport, arm: str, base: list[Any], tuned: list[Any]) -> None:
    """A row of the table for each set and cap: accuracy, and the difference with its interval."""
    from slowthink.analysis.pairing import compare_rows
    from slowthink.records import Verdict

    def key(row: Any) -> tuple[str, int]:
        return row.benchmark, row.max_thinking_tokens

    for place in sorted({key(row) for row in tuned}):
        rows = [[row for row in side if key(row) == place] for side in (base, tuned)]
        figures = compare_rows(rows[0], rows[1], seed=0)
        right = sum(row.verdict is Verdict.CORRECT for row in rows[1])
        low, high = figures["ci95"]
        report.headline(
            f"{arm} on {place[0]}, cap {place[1]}",
            f"{right} of {len(rows[1])}, {figures['difference']:+.3f} ({low:+.3f} to {high:+.3f})",
        )
        report.figures(f"{arm}, {place[0]}, {place[1]}", figures)
