"""The same selection, byte for byte, however the work was done: order, interruption, runner.

A pool of our own (worked sums, Chinese questions, planted copies, near copies, leaks and broken rows) goes
through every step of the filter, its difficulty by a replayed model, and through trace and select.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from slowthink.engines.replay import ReplaySession
from slowthink.pipeline import run as pipeline
from slowthink.pipeline.progress import ProgressReporter
from slowthink.recipe import SandboxSource
from slowthink.recipe.loading import parse_recipe
from slowthink.stages.pool.sandbox import sandbox_problems
from tests.tiny import tokenizer_once

DECIDED = (
    "*.parquet",
    "clusters.jsonl",
    "contamination.json",
    "difficulty.jsonl",
    "rationale.jsonl",
)
LEAK = "In how many ways can seven red balls and three blue balls be put in four labelled boxes?"
FARM = (
    "A farmer plants 12 rows of 9 apple trees each, and 5 of all the trees die in the first winter. "
    "How many apple trees are left alive in spring?"
)
NEAR = FARM.replace("How many apple trees are left", "How many apple trees are then left")
CHINESE = "某工厂计划用{}天生产零件900个，实际每天比原计划多生产15个，实际用了多少天？"


def stay_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "needs_model", lambda recipe, stage: False)
    monkeypatch.setattr("slowthink.engines.models.load_tokenizer", tokenizer_once)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch) -> None:
    stay_in_this_process(monkeypatch)


def rows() -> list[dict[str, Any]]:
    """Readable rows and broken ones."""
    source = SandboxSource(num_problems=120, num_heldout=0)
    made = [
        {"question": one.question, "answer": one.answer, "solution": one.solution}
        for one in sandbox_problems(source, seed=3)
    ]
    texts = [
        LEAK,
        FARM,
        FARM.replace("12", "$12$"),
        NEAR,
        *(CHINESE.format(days) for days in range(12, 20)),
    ]
    made += [{"question": one, "answer": "24", "solution": "It is 24."} for one in texts]
    made += [{**made[number], "question": made[number]["question"].upper()} for number in range(9)]
    made += [{"question": 3}, {"question": None, "answer": "1"}, {"answer": "no question"}]
    return [{"id": f"row {number}", **one} for number, one in enumerate(made)]


def write(path: Path, values: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in values))
    return str(path)


def recipe_of(folder: Path, pool: list[dict[str, Any]], **more: Any) -> Any:
    """All steps on; the files are in the folder, the exam beside it, since the certificate names its path."""
    folder.mkdir(parents=True, exist_ok=True)
    scripts = [
        {"question": one["question"], "thinking": [" hm"] * (n % 3 + 1),
         "answer": one["answer"] if n % 3 else "no"}
        for n, one in enumerate(rows()) if isinstance(one.get("question"), str)
    ]  # fmt: skip
    engine = {"kind": "replay", "replay": write(folder / "scripts.jsonl", scripts)}
    exam = write(folder.parent / "same_exam.jsonl", [{"question": LEAK, "answer": "1"}])
    difficulty = {
        "models": [{"engine": engine, "max_thinking_tokens": 12, "answer_tokens": 40}],
        "num_attempts": 3, "max_correct": 2, "stop": "exact", "max_problems": None,
    }  # fmt: skip
    return parse_recipe(
        {
            "name": "same", "seed": 5, "report": None,
            "pool": {"sources": [{"kind": "file", "path": write(folder / "pool.jsonl", pool)}]},
            "filter": {
                "quality": "strict", "duplicates": {}, "domains": {"overwrite": True},
                "contamination": {"benchmarks": [{"name": "exam", "path": exam}]},
                "difficulty": difficulty,
            },
            "trace": {"sources": [{"kind": "solution"}]},
            "select": {"method": "s1", "num_problems": 30},
        }
        | more
    )  # fmt: skip


def run(folder: Path, pool: list[dict[str, Any]], **more: Any) -> dict[str, str]:
    """Hashes of all decisions of filter, trace and select, by file."""
    pipeline.run_recipe(
        recipe_of(folder, pool, **more), folder / "run", reporter=ProgressReporter(quiet=True)
    )
    return digests(folder / "run")


def digests(root: Path) -> dict[str, str]:
    paths = (path for name in DECIDED for path in root.glob(f"[fts]*/{name}"))
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The plain run: its folder and hashes."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        stay_in_this_process(patch)
        return folder, run(folder, rows())


def test_every_step_decides_something(expected) -> None:
    folder, hashes = expected
    manifest = json.loads((folder / "run/filter/manifest.json").read_text())
    dropped = {step["name"]: step["num_in"] - step["num_out"] for step in manifest["steps"]}
    for name in ("duplicates: exact", "duplicates: near", "contamination: strict", "difficulty"):
        assert dropped[name] > 0, str(dropped)
    assert {"filter/contamination.json", "filter/clusters.jsonl", "select/data.parquet"} <= set(
        hashes
    )


def test_the_order_of_the_rows_changes_nothing(expected, tmp_path) -> None:
    shuffled = rows()
    random.Random(1).shuffle(shuffled)
    assert changed(run(tmp_path, shuffled), expected[1]) == set()


def test_a_run_that_was_interrupted_in_the_difficulty_step_ends_the_same(
    expected, tmp_path, monkeypatch
) -> None:
    calls = 0
    original = ReplaySession.completed

    def interrupted(self, timeout=None):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(self, timeout)

    monkeypatch.setattr(ReplaySession, "completed", interrupted)
    with pytest.raises(BaseException) as stopped:
        run(tmp_path, rows())
    assert calls == 3, stopped
    assert not (tmp_path / "run/filter").exists()
    assert changed(run(tmp_path, rows()), expected[1]) == set()


def test_the_same_ledger_gives_the_same_bytes_again(expected, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(expected[0] / "run/ledger.sqlite", tmp_path / "run/ledger.sqlite")
    assert changed(run(tmp_path, rows()), expected[1]) == set()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
@pytest.mark.filterwarnings("ignore")
def test_ray_on_two_workers_decides_the_same(expected, tmp_path, monkeypatch) -> None:
    import ray

    monkeypatch.setattr("slowthink.pipeline.runner.BATCH_ROWS", 16)
    try:
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        assert changed(run(tmp_path, rows(), runner="ray"), expected[1]) == set()
    finally:
        ray.shutdown()


def changed(hashes: dict[str, str], expected: dict[str, str]) -> set[str]:
    """Files whose bytes differ."""
    names = hashes.keys() | expected.keys()
    return {name for name in names if hashes.get(name) != expected.get(name)}
