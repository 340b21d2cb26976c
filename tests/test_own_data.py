"""The shipped recipes for one's own data, on real problems and real chains, which a tiny model with
the embedded model's tokenizer learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from slowthink.data.tables import read_records
from slowthink.pipeline import contract
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.recipe.loading import load_recipe
from slowthink.records import Dropped
from tests.tiny import make_tiny_model

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not beside the project"),
]
TEST = SHARED / "eval" / "gsm8k_test.jsonl"


@pytest.fixture(scope="module")
def tiny(smollm_tokenizer, tmp_path_factory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), smollm_tokenizer, context=8192)


def go(name: str, root, model: Path, *overrides: str):
    recipe = load_recipe(name, overrides=[f"model={model}", *overrides])
    return run_recipe(recipe, root, reporter=ProgressReporter(quiet=True))


def test_gsm8k_with_its_solutions_as_chains(tiny, tmp_path) -> None:
    go(
        "own-data", tmp_path / "run", tiny,
        f"pool.sources.0.path={SHARED / 'pool' / 'gsm8k_train.jsonl'}",
        f"pool.sources.1.path={TEST}",
        "pool.sources.0.max_problems=60", "pool.sources.1.max_problems=4",
        "select.num_problems=16", "train.max_steps=2", "evaluate.arms.0.caps=[0,16]",
        "evaluate.arms.1.caps=[0,16]",
    )  # fmt: skip
    select = contract.read_manifest(tmp_path / "run" / "select")
    assert select["num_records"] == 16
    summary = contract.read_manifest(tmp_path / "run" / "evaluate")["facts"]["summary"]
    assert summary["budget_violations"] == 0
    assert {arm["num_problems"] for arm in summary["sets"][0]["arms"]} == {4}


def test_limo_chains_are_graded_measured_and_the_too_long_dropped(tiny, tmp_path) -> None:
    go(
        "own-chains", tmp_path / "run", tiny,
        f"trace.sources.0.path={SHARED / 'traces' / 'limo_r1_distill_qwen32b.jsonl'}",
        f"pool.sources.0.path={TEST}",
        "pool.sources.0.max_problems=2", "select.num_problems=12", "train.max_steps=1",
        "train.max_length=3000", "train.batch_size=1", "evaluate.arms.0.caps=[0,8]",
        "evaluate.arms.1.caps=[0,8]",
    )  # fmt: skip
    trace = contract.read_manifest(tmp_path / "run" / "trace")
    dropped = read_records(tmp_path / "run/trace/dropped.parquet", Dropped)
    assert {record.step for record in dropped} == {"gate"}
    assert trace["num_records"] == 291 - len(dropped) == 287
    train = contract.read_manifest(tmp_path / "run" / "train")
    assert train["facts"]["num_examples"] + train["facts"]["num_too_long"] == 12
    assert train["facts"]["num_too_long"] > 0
    assert train["facts"]["example_tokens"]["max"] <= 3000


def test_a_too_long_chain_is_refused_before_training(tiny, tmp_path) -> None:
    from slowthink.errors import DataError

    with pytest.raises(DataError, match=r"train.*longest"):
        go(
            "own-chains", tmp_path / "run", tiny,
            f"trace.sources.0.path={SHARED / 'traces' / 'limo_r1_distill_qwen32b.jsonl'}",
            f"pool.sources.0.path={TEST}", "pool.sources.0.max_problems=2",
            "select.num_problems=12", "train.too_long=refuse", "evaluate=null", "report=null",
        )  # fmt: skip
