"""The ablations of chains (levels, what is kept, fit to the student) for as many seeds as there is
time for: `benchmarks.ablations` on this card. The teacher is the quickstart's model, trained first.

    python -m benchmarks.gpu --parts chain_ablations --seconds 900
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.common import model_name
from benchmarks.gpu.part import NotComparable, PartReport

GROUPS = ("level", "keep", "fit")
MAX_SEEDS = 4


def measure(report: PartReport) -> None:
    """Paired differences of each comparison, over all seeds so far."""
    try:
        from benchmarks import ablations
    except ImportError as error:
        raise NotComparable(
            f"chain_ablations: the checkout has another pipeline: {error}"
        ) from None
    with tempfile.TemporaryDirectory(prefix="chains-") as folder:
        root = Path(folder)
        overrides = short_settings(report, root) if report.short else teacher_settings(root)
        groups = GROUPS[-1:] if report.short else GROUPS
        for seed in range(1 if report.short else MAX_SEEDS):
            started = time.monotonic()
            figures = ablations.run(
                seeds=range(seed + 1), only=groups, out=root / "out", overrides=overrides
            )
            report.figures(f"seeds 0 to {seed}", figures)
            for pair in figures["comparisons"]:
                report.headline(f"{pair['a']} → {pair['b']}", _describe(pair, seed + 1))
            if report.seconds_left < 1.2 * (time.monotonic() - started):
                report.note(f"{seed + 1} seeds; the time was up")
                return


def teacher_settings(root: Path) -> list[str]:
    """Train the quickstart's model, as the teacher."""
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.pipeline.run import run_recipe
    from slowthink.recipe.loading import load_recipe

    stages = ("pool", "filter", "trace", "select", "train")
    recipe = load_recipe("quickstart", overrides=["train.max_steps=null"])
    run_recipe(recipe, root / "quickstart", stages=stages, reporter=ProgressReporter(quiet=True))
    return [f"trace.sources.0.model={root / 'quickstart/train/model'}"]


def short_settings(report: PartReport, root: Path) -> list[str]:
    """A model of two layers, and chains from a file, since it writes no right ones."""
    from slowthink.data.tables import read_records
    from slowthink.pipeline.progress import ProgressReporter
    from slowthink.pipeline.run import run_recipe
    from slowthink.recipe.loading import load_recipe
    from slowthink.records import Problem, Split

    chains = root / "chains.jsonl"
    settings = [
        f"model={model_name(report)}", f"trace.sources=[{{kind: file, path: {chains}}}]",
        "pool.sources.0.num_problems=12", "pool.sources.0.num_heldout=4", "report=null",
        "select.max_total_tokens=400", "train.max_steps=1", "evaluate.arms.0.caps=[4]",
    ]  # fmt: skip
    recipe = load_recipe("ablations/chains", overrides=settings)
    run_recipe(recipe, root / "pool", stages=("pool",), reporter=ProgressReporter(quiet=True))
    problems = read_records(root / "pool" / "pool", Problem)
    rows = [
        {"question": p.question, "answer": p.answer, "response": f"Final Answer: {p.answer}",
         "thinking": f"{p.solution}{' Let me check that again.' * number}"}
        for p in problems if p.split is Split.TRAIN for number in range(5)
    ]  # fmt: skip
    chains.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return settings


def _describe(pair: dict[str, Any], num_seeds: int) -> str:
    together = pair["together"]
    low, high = together["ci95"]
    of_seeds = f"{pair['low']:+.3f} to {pair['high']:+.3f} by seed" if num_seeds > 1 else "one seed"
    return f"{together['difference']:+.3f} ({low:+.3f} to {high:+.3f}), {of_seeds}"
