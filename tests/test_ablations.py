"""The ablations of what is kept: what differs between their recipes, and a rehearsal of them all."""

from __future__ import annotations

import json
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
    own = {name for name in names if name.split("-")[0] in ablations.COMPARISONS}
    assert own == {
        arm for pairs in ablations.COMPARISONS.values() for pair in pairs for arm in pair
    }


@pytest.mark.parametrize("pair", [p for pairs in ablations.COMPARISONS.values() for p in pairs])
def test_a_pair_differs_in_what_it_is_about(pair: tuple[str, str]) -> None:
    a, b = (load_recipe(f"ablations/{name}") for name in pair)
    about = {"keep": {"trace.keep", "select.chains_per_problem"}, "leve": {"select.levels"},
             "fit-": {"select.levels"}}  # fmt: skip
    assert differing(a, b) and differing(a, b) <= about[pair[0][:4]]
    assert a.select is not None and a.select.max_total_tokens == 6000
    assert differing(a, load_recipe("ablations/chains")) <= {
        "trace.keep", "trace.levels", "select.levels", "select.chains_per_problem",
    }  # fmt: skip


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
    """20 problems, two steps, a model of two layers; the chains are from a file. Levels are left
    out, for time: `fit` selects by level too."""
    chains = tmp_path / "chains.jsonl"
    overrides = [
        f"model={make_tiny_model(tmp_path / 'tiny', smollm_tokenizer)}",
        f"trace.sources=[{{kind: file, path: {chains}}}]",
        "pool.sources.0.num_problems=20", "pool.sources.0.num_heldout=10",
        "select.max_total_tokens=800", "train.max_steps=2",
        "evaluate.arms.0.caps=[8]", "evaluate.num_resamples=100", "report=null",
    ]  # fmt: skip
    problems: list[Problem] = []
    for seed in (0, 1):
        root = tmp_path / f"pool-{seed}"
        recipe = load_recipe("ablations/chains", overrides=[*overrides, f"seed={seed}"])
        run_recipe(recipe, root, stages=("pool",), reporter=ProgressReporter(quiet=True))
        problems += read_records(root / "pool", Problem)
    write_chains(chains, problems)
    out = tmp_path / "out"
    figures = ablations.run(seeds=[0, 1], only=["fit"], out=out, overrides=overrides)
    rest = ablations.run(seeds=[0], only=["keep"], out=out, overrides=overrides)
    arms, comparisons = figures["arms"] | rest["arms"], figures["comparisons"] + rest["comparisons"]
    assert [comparison["together"]["n"] for comparison in comparisons] == [20, 10, 10]
    for comparison in comparisons:
        assert comparison["low"] <= comparison["together"]["difference"] <= comparison["high"]
    for arm, by_seed in arms.items():
        for seed_figures in by_seed:
            assert 0.8 * 800 <= seed_figures["num_training_tokens"] <= 800, arm
    sets = {arm: read_records(out / "seed-0" / arm / "select", Trace) for arm in arms}
    assert arms["keep-right"][0]["right_share"] == 1 > arms["keep-all"][0]["right_share"]
    verdicts = {arm: {t.grade.verdict.value for t in traces} for arm, traces in sets.items()}
    assert verdicts["keep-right"] == {"correct"} and verdicts["keep-all"] == {"wrong"}
    assert len({t.problem.id for t in sets["keep-several"]}) < len(sets["keep-several"])
    assert [{t.level for t in sets[arm]} for arm in ("fit-worst", "fit-best")] == [{1}, {5}]
