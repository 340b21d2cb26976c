"""The ablations of what is kept: what differs between their recipes, and a rehearsal of them all."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ablations
from slowthink.data.tables import read_records
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe, recipe_names
from slowthink.records import Problem, Split, Trace
from tests.tiny import make_tiny_model


def differing(a: Recipe, b: Recipe) -> set[str]:
    left, right = a.model_dump(mode="json"), b.model_dump(mode="json")
    return {
        f"{section}.{key}" for section in left if isinstance(left[section], dict)
        for key in left[section] if left[section][key] != right[section][key]
    }  # fmt: skip


def test_every_ablation_is_compared() -> None:
    names = {n.removeprefix("ablations/") for n in recipe_names() if n.startswith("ablations/")}
    groups = ablations.COMPARISONS
    own = {name for name in names if name.split("-")[0] in groups and name not in groups}
    assert own == {arm for pairs in groups.values() for pair in pairs for arm in pair}


ABOUT = {
    "select-": {"select.method", "select.quotas", "filter.difficulty"},
    "recipe-": {
        "trace.scores",
        "trace.levels",
        "select.prefer",
        "select.min_level",
        "train.epochs",
        "train.stop",
        "train.checkpoint",
        "train.dev",
        "train.batch_size",
        "train.learning_rate",
        "train.warmup_ratio",
        "train.weight_decay",
        "train.betas",
    },
    "repeat-": {"select.num_problems", "train.epochs"},
    "examples-": {"select.num_problems"},
    "difficulty-": {"pool.sources", "select.num_problems", "select.max_total_tokens"},
    "base-": {"train.learning_rate"},
    "keep-": {"trace.keep", "select.chains_per_problem", "trace.levels", "select.levels"},
    "level-": {"trace.levels", "select.levels"},
    "fit-": {"select.levels"},
}
"""The settings in which recipes of a group may differ."""


@pytest.mark.parametrize("pair", [p for pairs in ablations.COMPARISONS.values() for p in pairs])
def test_a_pair_differs_in_what_it_is_about(pair: tuple[str, str]) -> None:
    a, b = (load_recipe(f"ablations/{name}") for name in pair)
    about = next(settings for name, settings in ABOUT.items() if pair[0].startswith(name))
    assert (a.model != b.model or differing(a, b)) and differing(a, b) <= about
    assert a.select is not None and b.select is not None
    if pair[0].startswith(("keep-", "level-", "fit-")):
        assert a.select.max_total_tokens == 6000
        assert differing(a, load_recipe("ablations/chains")) <= {
            "trace.keep", "trace.levels", "select.levels", "select.chains_per_problem",
        }  # fmt: skip


def test_pairs_train_on_equally_much() -> None:
    """Equal numbers of problems, of tokens, or of updates; but where the number is the question."""
    for name, pairs in ablations.COMPARISONS.items():
        for arm in {arm for pair in pairs for arm in pair}:
            recipe = load_recipe(f"ablations/{arm}")
            assert recipe.select is not None and recipe.train is not None
            num, epochs = recipe.select.num_problems, recipe.train.epochs
            sizes = {"select": (num == 100, epochs == 2), "recipe": (num == 100,),
                     "base": (num == 256, epochs == 2),
                     "select-tokens": (num is None, recipe.select.max_total_tokens == 6000),
                     "repeat": (num is not None and num * epochs == 256,)}  # fmt: skip
            assert all(sizes.get(name, ())), arm


def test_problems_of_every_difficulty_are_evaluated_on_by_all(tmp_path: Path) -> None:
    held_out = []
    for arm in ("difficulty-any", "difficulty-easy", "difficulty-hard", "difficulty-hard-tokens"):
        run_recipe(
            load_recipe(f"ablations/{arm}"), tmp_path / arm, stages=("pool",),
            reporter=ProgressReporter(quiet=True),
        )  # fmt: skip
        problems = read_records(tmp_path / arm / "pool", Problem)
        held_out.append({p.id for p in problems if p.split is Split.HELDOUT})
        assert len(held_out[-1]) == 200 and len(problems) > 400
    assert all(ids == held_out[0] for ids in held_out)


def test_a_ledger_is_copied_whole_and_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with sqlite3.connect(tmp_path / "a" / "ledger.sqlite") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES (7)")
        db.commit()
        ablations.copy_ledger(tmp_path / "a", tmp_path / "b")
    copied = tmp_path / "b" / "ledger.sqlite"
    assert sqlite3.connect(copied).execute("SELECT x FROM t").fetchall() == [(7,)]
    copied.write_bytes(b"")
    ablations.copy_ledger(tmp_path / "a", tmp_path / "b")
    assert copied.read_bytes() == b"", "a ledger that is there stays"


def write_chains(path: Path, problems: list[Problem]) -> None:
    """Six chains for each problem: five right ones, and one wrong one."""
    rows = [
        {"question": problem.question, "answer": problem.answer,
         "thinking": f"{problem.solution}" + " Let me check that again." * number,
         "response": f"Final Answer: {problem.answer if number else 'no idea'}"}
        for problem in problems if problem.split is Split.TRAIN for number in range(6)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_ablations_run_and_are_compared(tmp_path: Path, smollm_tokenizer: Any) -> None:
    """16 problems, two steps, a model of two layers; the chains are from a file. One comparison by
    one teacher's chains; the second seed is a copy of the first."""
    chains, out = tmp_path / "chains.jsonl", tmp_path / "out"
    overrides = [
        f"model={make_tiny_model(tmp_path / 'tiny', smollm_tokenizer)}",
        f"trace.sources=[{{kind: file, path: {chains}}}]",
        "pool.sources.0.num_problems=16", "pool.sources.0.num_heldout=6",
        "select.max_total_tokens=800", "train.max_steps=2", "engine.dtype=float32",
        "evaluate.arms.0.caps=[8]", "evaluate.num_resamples=100", "report=null",
    ]  # fmt: skip
    recipe = load_recipe("ablations/chains", overrides=overrides)
    run_recipe(recipe, tmp_path / "p", stages=("pool",), reporter=ProgressReporter(quiet=True))
    write_chains(chains, read_records(tmp_path / "p" / "pool", Problem))
    figures = ablations.run(seeds=[0], only=["fit"], out=out, overrides=overrides)
    (comparison,) = figures["comparisons"]
    assert comparison["together"]["n"] == 6
    assert comparison["low"] == comparison["together"]["difference"] == comparison["high"]
    sets = {arm: read_records(out / "seed-0" / arm / "select", Trace) for arm in figures["arms"]}
    for (arm, (of_seed,)), traces in zip(figures["arms"].items(), sets.values(), strict=True):
        assert 0.8 * 800 <= of_seed["num_training_tokens"] <= 800, arm
        assert of_seed["right_share"] == 1 and {t.grade.verdict.value for t in traces} == {
            "correct"
        }
    assert [{t.level for t in sets[arm]} for arm in ("fit-worst", "fit-best")] == [{1}, {5}]
    shutil.copytree(out / "seed-0", out / "seed-1")
    both = ablations.compare("fit-worst", "fit-best", [0, 1], out)
    assert both["together"]["n"] == 12 and list(both["seeds"]) == ["0", "1"]
