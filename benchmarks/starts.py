"""Time that the quickstart's stages with a model take to import what they use.

`fresh`: an interpreter for each stage. `forked`: one process imports what they share, and a process
forked from it the rest (`slowthink.pipeline.stage_process`). Seconds of CPU and of wall time
for all four together; rounds alternate between both ways. Imports are all that is timed: model
files, CUDA and work are the same for both.

    {"fresh_cpu_seconds": {"median": 20.1, …}, "forked_cpu_seconds": {"median": 8.2, …}, …}
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.command import main, spread
from slowthink.pipeline.stage_process import shared_imports
from slowthink.recipe.loading import load_recipe

_DECODING = (
    "slowthink.engines.transformers.decoding", "transformers.models.llama.modeling_llama",
    "transformers.models.auto.tokenization_auto", "transformers.models.auto.modeling_auto",
)  # fmt: skip
IMPORTS = {
    "filter": ("slowthink.stages.filter", *_DECODING),
    "trace": ("slowthink.stages.trace", "transformers.models.auto.tokenization_auto"),
    "train": ("slowthink.stages.train.loop", "transformers.models.llama.modeling_llama"),
    "evaluate": ("slowthink.stages.evaluate", *_DECODING),
}
"""What each stage imports until it loads a Llama."""
_FORK = """
import importlib, json, os, sys
shared, stages = json.loads(sys.argv[1])
for name in shared:
    importlib.import_module(name)
for names in stages:
    if (pid := os.fork()) == 0:
        for name in names:
            importlib.import_module(name)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(num_rounds: int = 5) -> dict[str, Any]:
    """Seconds of both ways, and their ratio."""
    ways: dict[str, Callable[[], None]] = {"fresh": start_fresh, "forked": start_forked}
    seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(num_rounds):
        for way, start in ways.items():
            seconds[way].append(measure(start))
    figures: dict[str, Any] = {}
    for way, rounds in seconds.items():
        for name, values in zip(("cpu", "wall"), zip(*rounds, strict=True), strict=True):
            figures[f"{way}_{name}_seconds"] = spread(values)
    pairs = zip(seconds["fresh"], seconds["forked"], strict=True)
    ratios = [fresh[0] / forked[0] for fresh, forked in pairs]
    return figures | {"fresh_over_forked_cpu": round(statistics.median(ratios), 2)}


def measure(start: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds of the processes that `start` waits for."""
    before, started = os.times(), time.perf_counter()
    start()
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return cpu, time.perf_counter() - started


def start_fresh() -> None:
    for names in IMPORTS.values():
        code = "".join(f"import {name}\n" for name in names)
        subprocess.run([sys.executable, "-c", code], check=True)


def start_forked() -> None:
    recipe = load_recipe("quickstart", overrides=["engine.kind=transformers"])
    arguments = json.dumps([shared_imports(recipe, tuple(IMPORTS)), list(IMPORTS.values())])
    subprocess.run([sys.executable, "-c", _FORK, arguments], check=True)


if __name__ == "__main__":
    main(run, __doc__)
