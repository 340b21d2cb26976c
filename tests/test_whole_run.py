"""All stages on a tiny model; killed in the middle of each long stage, and resumed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowthink.data import tables
from slowthink.pipeline import contract
from slowthink.records import Trace
from slowthink.stage_rows import EvaluationRow
from slowthink.stages.report.data import headline
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow

TINY = {
    "pool.sources.0.num_problems": 30,
    "pool.sources.0.num_heldout": 6,
    "filter.difficulty.max_problems": 12,
    "filter.difficulty.max_thinking_tokens": 16,
    "filter.difficulty.answer_tokens": 4,
    "select.num_problems": 16,
    "train.max_steps": 4,
    "train.save_every_steps": 1,
    "engine.batch_size": 4,
    "engine.dtype": "float32",  # a resumed chain is fed as one block: bfloat16 may differ at near ties
    "evaluate.arms.0.caps": [0, 8],
    "evaluate.arms.1.caps": [0, 8, 24],
    "evaluate.arms.1.waits": [1],
    "evaluate.num_resamples": 200,
}
STAGES = ("pool", "filter", "trace", "select", "train", "evaluate", "report")


def command(out: Path, model: Path, *more: str) -> list[str]:
    settings = {"model": str(model), **TINY}
    changes = [
        part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]
    base = [sys.executable, "-m", "slowthink.cli.app", "run", "quickstart", "--out", str(out)]
    return [*base, *changes, *more]


def run(out: Path, model: Path) -> str:
    done = subprocess.run(command(out, model), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def digests(root: Path, stages: tuple[str, ...] = STAGES) -> dict[str, str]:
    files = [root / s / f"{n}.parquet" for s in stages for n in ("data", "dropped")]
    return {
        f.relative_to(root).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files
    }


@pytest.fixture(scope="module")
def tiny(smollm_tokenizer, tmp_path_factory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), smollm_tokenizer)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "run"
    run(root, tiny)
    return root


def test_all_seven_stages_wrote_their_output(whole) -> None:
    rows = tables.read_records(whole / "evaluate", EvaluationRow)
    assert len(rows) == 6 * (3 + 4)
    assert len(tables.read_records(whole / "select", Trace)) == 16
    assert all(row.num_thinking_tokens <= row.max_thinking_tokens for row in rows)
    assert all(not row.violations for row in rows)
    assert (whole / "train" / "model" / "model.safetensors").exists()
    assert (whole / "report" / "report.html").stat().st_size > 10_000


def test_headline_has_all_documented_figures(whole) -> None:
    data = headline(whole)
    documented = {
        "wall_seconds", "peak_rss_mb", "base_accuracy", "tuned_accuracy", "difference",
        "difference_ci95", "curve", "waits", "budget_violations", "thinking_natural_rate",
        "answer_eos_rate", "funnel", "tokens",
    }  # fmt: skip
    assert documented <= set(data)
    assert set(data["curve"][0]) >= {
        "max_thinking_tokens", "mean_thinking_tokens", "accuracy", "ci95",
    }  # fmt: skip
    assert {"prefilled", "decoded", "forced"} <= set(data["tokens"])
    assert data["budget_violations"] == 0


def test_the_same_command_skips_everything_and_changes_nothing(whole, tiny) -> None:
    before = digests(whole)
    started = time.monotonic()
    assert run(whole, tiny).count("(skipped)") == 7
    assert time.monotonic() - started < 30
    assert digests(whole) == before


def test_tables_load_as_a_data_set(whole) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(whole / "select" / "data.parquet")
    assert {"problem", "thinking", "response", "teacher", "grade"} <= set(table.column_names)


def num_chains(root: Path) -> int:
    path = root / "ledger.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return database.execute("SELECT COUNT(*) FROM chains").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()


def kill_when(root: Path, model: Path, reached) -> None:
    """Start the run in a group of its own; SIGKILL all of it once `reached` is true."""
    child = subprocess.Popen(
        command(root, model, "--quiet"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 400
    while not reached() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    with (root / "run.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # free once the last killed process has ended


def test_killed_in_filter_train_and_evaluate_it_ends_with_the_same_bytes(
    whole, tiny, tmp_path
) -> None:
    root = tmp_path / "killed"
    kill_when(root, tiny, lambda: num_chains(root) >= 4)  # the first batch of the filter's attempts
    num_recorded = num_chains(root)
    assert not (root / "filter").exists()
    kill_when(root, tiny, lambda: any((root / "work" / "train").glob("*")))  # the first checkpoint
    assert not (root / "train").exists()
    attempts = num_chains(root)
    kill_when(root, tiny, lambda: num_chains(root) > attempts)  # the first batch of evaluate
    assert not (root / "evaluate").exists()
    run(root, tiny)
    assert num_recorded > 0
    assert digests(root) == digests(whole)
    for stage in ("filter", "evaluate"):  # cached completions are reused
        counts = [
            generated(contract.read_manifest(r / stage)["facts"]["tokens"]) for r in (root, whole)
        ]
        assert counts[0] == counts[1]


def generated(tokens: dict[str, int]) -> tuple[int, int]:
    """Tokens sampled and forced, without the prefill of resumed chains and their prompts."""
    return tokens["decoded"], tokens["forced"]
