"""What makes a training better: recipes that differ in one thing, trained, compared in pairs.

| --only | recipes in `ablations/` |
| --- | --- |
| select, select-tokens | s1: `select-random`, `-diverse`, `-longest`, `-s1`; each also `-tokens` |
| recipe | `recipe-small` against s1's training at s1's rate and at `small`'s |
| repeat | `repeat-1`, `repeat-4`, `repeat-16`: repetition against fresh data, at equal updates |
| examples | `examples-16`, `examples-64`, `examples-256`: s1's figure 2 |
| difficulty | LIMO's RQ2: `difficulty-easy`, `-hard`, and the controls `-any`, `-hard-tokens` |
| base | LIMO's RQ3: `base-random`, `base-smollm2`, `base-qwen` |
| keep | `keep-all` (s1), `keep-right` (LIMO), `keep-several` (OpenThoughts3) |
| level | LIMO's RQ1: `level-1`, `-3`, `-5`; controls `keep-right` (any), `level-length` |
| fit | `fit-worst`, `fit-best`, by student-fit |

    slowthink run quickstart --out runs/quickstart          # the teacher of keep, level and fit
    python -m benchmarks.ablations --json --seeds 0,1 --only select

Of keep, level and fit the chains of a seed are sampled once, by `ablations/chains`; each training
begins with a copy of its ledger. A run that was stopped goes on. `difference` is the second
recipe's accuracy minus the first's on the same held-out problems, with a 95 % interval: for each
seed, which has problems of its own, and for all seeds together. An interval over problems says
nothing about other trainings; `low` and `high` are the seeds' own differences.

    {"comparisons": [{"a": "keep-all", "b": "keep-right", "seeds": {"0": {"n": 200, …}, …},
      "together": {"n": 400, "difference": 0.02, "ci95": [-0.03, 0.07]}, "low": 0.0, …}], …}
"""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.command import show
from slowthink.analysis.pairing import compare_rows
from slowthink.analysis.scores import by_point, largest_budget
from slowthink.data.manifests import read_manifest
from slowthink.data.tables import read_records
from slowthink.environment import commit
from slowthink.pipeline.run import run_recipe
from slowthink.recipe.loading import load_recipe
from slowthink.records import Trace, Verdict
from slowthink.stage_rows import EvaluationRow

_SELECTIONS = ("random", "diverse", "longest")
COMPARISONS = {
    "select": tuple((f"select-{name}", "select-s1") for name in _SELECTIONS),
    "select-tokens": tuple((f"select-{n}-tokens", "select-s1-tokens") for n in _SELECTIONS),
    "recipe": (("recipe-s1", "recipe-small"), ("recipe-s1-rate", "recipe-small")),
    "repeat": (("repeat-1", "repeat-4"), ("repeat-1", "repeat-16")),
    "examples": (("examples-16", "examples-64"), ("examples-64", "examples-256")),
    "difficulty": (
        ("difficulty-easy", "difficulty-hard"), ("difficulty-any", "difficulty-hard"),
        ("difficulty-easy", "difficulty-hard-tokens"),
    ),
    "base": (("base-random", "base-smollm2"), ("base-smollm2", "base-qwen")),
    "keep": (("keep-all", "keep-right"), ("keep-right", "keep-several")),
    "level": (
        ("level-1", "level-3"), ("level-3", "level-5"), ("level-1", "level-5"),
        ("keep-right", "level-5"), ("level-length", "level-5"),
    ),
    "fit": (("fit-worst", "fit-best"),),
}  # fmt: skip
"""Pairs of recipes, in the order of their worth."""
CHAINS = "chains"
OF_CHAINS = frozenset({"keep", "level", "fit"})
"""Comparisons whose recipes share the chains of a teacher."""
RANDOM_MODEL = Path("runs/random-smollm2")


def run(
    *, seeds: Sequence[int], only: Sequence[str], out: Path, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Run all recipes of these ablations for each seed, and compare them."""
    pairs = [pair for name in only for pair in COMPARISONS[name]]
    arms = list(dict.fromkeys(arm for pair in pairs for arm in pair))
    if "base-random" in arms:
        make_random_model(RANDOM_MODEL)
    shared = {arm for name in OF_CHAINS for pair in COMPARISONS[name] for arm in pair}
    for seed in seeds:
        root, settings = out / f"seed-{seed}", [*overrides, f"seed={seed}"]
        run_seed([arm for arm in arms if arm in shared], root, settings)
        for arm in arms:
            if arm not in shared:
                run_recipe(load_recipe(f"ablations/{arm}", overrides=settings), root / arm)
    return {
        "commit": commit(),
        "seeds": list(seeds),
        "overrides": list(overrides),
        "arms": {arm: [arm_figures(out / f"seed-{s}" / arm) for s in seeds] for arm in arms},
        "comparisons": [compare(a, b, seeds, out) for a, b in pairs],
    }


def run_seed(arms: Sequence[str], root: Path, overrides: Sequence[str]) -> None:
    """Sample the chains, then run each of these arms with a copy of their ledger."""
    if not arms:
        return
    chains = load_recipe(f"ablations/{CHAINS}", overrides=overrides)
    run_recipe(chains, root / CHAINS, stages=("pool", "filter", "trace"))
    for arm in arms:
        copy_ledger(root / CHAINS, root / arm)
        run_recipe(load_recipe(f"ablations/{arm}", overrides=overrides), root / arm)


def make_random_model(folder: Path, source: str = "smollm2-135m") -> Path:
    """Save a model of the source's shape with random weights, unless it is there."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from slowthink.engines.models import load_tokenizer, resolve_model

    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(resolve_model(source))
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        load_tokenizer(source).save_pretrained(folder)
    return folder


def copy_ledger(source: Path, target: Path) -> None:
    """Copy a run's ledger into the folder of a run that has none."""
    ledger, copied = source / "ledger.sqlite", target / "ledger.sqlite"
    if copied.exists() or not ledger.exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part.sqlite")  # beside the folder, where an interruption harms none
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(ledger)) as read, closing(sqlite3.connect(part)) as write:
        read.backup(write)
    part.rename(copied)


def arm_figures(root: Path) -> dict[str, Any]:
    """Size of the training set, the share of its chains that are right, and the accuracy."""
    selected = read_manifest(root / "select")["facts"]
    trained = read_manifest(root / "train")["facts"]
    rows, traces = evaluation_rows(root), read_records(root / "select", Trace)
    num_right = sum(trace.grade.verdict is Verdict.CORRECT for trace in traces)
    return {
        "num_problems": selected["num_problems"],
        "num_chains": selected["num_chains"],
        "right_share": num_right / len(traces),
        "num_training_tokens": selected["num_thinking_tokens"] + selected["num_response_tokens"],
        "num_steps": trained["num_steps"],
        "accuracy": sum(row.verdict is Verdict.CORRECT for row in rows) / len(rows),
        "mean_thinking_tokens": sum(row.num_thinking_tokens for row in rows) / len(rows),
    }


def evaluation_rows(root: Path) -> list[EvaluationRow]:
    """The rows of the largest budget."""
    points = by_point(read_records(root / "evaluate", EvaluationRow))
    return points[largest_budget(points)]


def compare(a: str, b: str, seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """Paired figures of two arms, for each seed and for all together."""
    sides: tuple[list[EvaluationRow], list[EvaluationRow]] = ([], [])
    by_seed = {}
    for seed in seeds:
        rows = [evaluation_rows(out / f"seed-{seed}" / arm) for arm in (a, b)]
        by_seed[str(seed)] = _figures(*rows, seed=seed)
        for side, of_arm in zip(sides, rows, strict=True):
            side += [replace(row, problem_id=f"{seed}/{row.problem_id}") for row in of_arm]
    differences = [figures["difference"] for figures in by_seed.values()]
    return {
        "a": a, "b": b, "seeds": by_seed, "together": _figures(*sides, seed=0),
        "low": min(differences), "high": max(differences),
    }  # fmt: skip


def _figures(
    a: Sequence[EvaluationRow], b: Sequence[EvaluationRow], *, seed: int
) -> dict[str, Any]:
    figures = compare_rows(a, b, seed=seed)
    keys = ("n", "difference", "ci95", "p_exact", "minimal_detectable_difference")
    return {key: figures[key] for key in keys}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="Print the figures as JSON.")
    parser.add_argument("--seeds", type=_integers, default=[0, 1], help="Default: 0,1.")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS))
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="A setting of all recipes.",
    )  # fmt: skip
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    show(run(**options), json=as_json)


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
