"""Time and outcome of the trace stage on real chains: imported, graded, scored and gated.

{"num_traces": 2500, "seconds": {"median": 41.2, …}, "fates": {"o1journey…": {"kept": 670, …}}, …}

Every score that uses no model is computed. AIME 2024 is a test set, if it is there.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.command import main, spread
from slowthink.curation.scores import SCORES
from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import Recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.recipe.models import MODEL_SCORES
from slowthink.stages import trace
from slowthink.stages.trace.chains_table import FILE

MADE_CHAINS = 300


def run(*, num_rounds: int = 5, path: Path | None = None) -> dict[str, Any]:
    """The stage on all of `path`/traces/*.jsonl; without it, on made chains."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = _write_made_chains(root) if path is None else path
        recipe = traces_recipe(source)
        seconds, cpu_seconds = [], []
        for number in range(num_rounds):
            start, start_cpu = time.perf_counter(), _cpu_seconds()
            result = run_stage(recipe, root / str(number))
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(_cpu_seconds() - start_cpu)
        return {
            "data": "made" if path is None else str(path),
            "num_rounds": num_rounds,
            "num_traces": result.steps[0].num_in,
            "seconds": spread(seconds),
            "cpu_seconds": spread(cpu_seconds),
            "scores": [config.kind for config in recipe.trace.scores] if recipe.trace else [],
            "funnel": {step.name: dict(step.reasons) for step in result.steps},
            "verdicts": _count(read_chains(root / "0"), "verdict"),
            "fates": _count(read_chains(root / "0"), "reason"),
        }


def traces_recipe(data: Path, **settings: Any) -> Recipe:
    """A recipe that keeps all chains of the files that pass the gate, whatever their grades."""
    test_set = data / "eval" / "aime24.jsonl"
    benchmarks = [{"name": "aime24", "path": str(test_set)}] if test_set.exists() else []
    paths = sorted((data / "traces").glob("*.jsonl"))
    section = {
        "sources": [{"kind": "file", "path": str(path), "teacher": path.stem} for path in paths],
        "contamination": {"benchmarks": benchmarks} if benchmarks else None,
        "scores": [{"kind": kind} for kind in SCORES if kind not in MODEL_SCORES],
        "keep": "all",
        "ungraded": "keep",
    }
    return parse_recipe({"name": "traces", "trace": section | settings})


def run_stage(recipe: Recipe, root: Path) -> StageResult:
    """What the stage returns; its files are in `root/trace.part`."""
    context = make_context(recipe, root, "trace", notify=lambda text: None)
    context.folder.mkdir(parents=True, exist_ok=True)
    return trace.run(context)


def read_chains(root: Path) -> list[dict[str, Any]]:
    """The rows of `chains.parquet`."""
    import pyarrow.parquet as pq

    (path,) = root.rglob(FILE)
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _count(rows: list[dict[str, Any]], column: str) -> dict[str, dict[str, int]]:
    """How often each value occurs, by teacher."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["teacher"], Counter())[row[column] or "none"] += 1
    return {teacher: dict(counts[teacher].most_common()) for teacher in sorted(counts)}


def _cpu_seconds() -> float:
    """Processor time of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _write_made_chains(folder: Path) -> Path:
    """Chains of sums, one in ten wrong and one in ten a loop."""
    rows = []
    for number in range(MADE_CHAINS):
        line = f"I add {number} and 17, which makes {number + 17}. "
        check = f"Let me check by subtracting: {number + 17} - 17 = {number}, as it should be."
        rows.append(
            {
                "question": f"What is {number} + 17?",
                "thinking": (line * 8 if number % 10 == 3 else line) + check,
                "response": rf"The sum is \boxed{{{number + (18 if number % 10 == 7 else 17)}}}.",
                "answer": str(number + 17),
            }
        )
    (folder / "traces").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "traces" / "made.jsonl").write_text(text, encoding="utf-8")
    return folder


if __name__ == "__main__":
    main(run, __doc__)
