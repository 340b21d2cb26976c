"""Row-wise work gives the same results wherever it runs."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

import pytest

from slowthink.errors import ConfigError, EngineError
from slowthink.pipeline import contract, run as pipeline
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.runner import map_rows
from slowthink.recipe.loading import parse_recipe

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed"
)


def times(factor: int, rows):
    return [factor * row for row in rows]


def one_short(rows):
    return list(rows)[1:]


def fails(rows):
    raise ValueError("row 3 is broken")


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_one_result_per_row_in_order(batch_rows) -> None:
    results = map_rows(functools.partial(times, 3), range(10), batch_rows=batch_rows)
    assert results == [3 * i for i in range(10)]


def test_no_rows_give_no_results() -> None:
    assert map_rows(one_short, []) == []


def test_another_number_of_results_is_an_error() -> None:
    with pytest.raises(EngineError, match="2 results for a batch of 3 rows"):
        map_rows(one_short, [1, 2, 3])


def test_a_missing_ray_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"slowthink\[ray\]"):
        map_rows(one_short, [1], runner="ray")


def recipe_of(runner: str):
    sandbox = {"kind": "sandbox", "num_problems": 80, "num_heldout": 10}
    return parse_recipe(
        {
            "name": "rows", "runner": runner, "pool": {"sources": [sandbox]}, "filter": {},
            "trace": {}, "select": {"num_problems": 30}, "report": None,
        }
    )  # fmt: skip


def digests(root) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.glob("*/*.parquet"))
    }


@pytest.mark.slow
@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_bytes_and_reports_errors(tmp_path, monkeypatch, smollm) -> None:
    import ray

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the workers import this file
    monkeypatch.setattr("slowthink.pipeline.runner.BATCH_ROWS", 16)
    monkeypatch.setattr(pipeline, "needs_model", lambda recipe, stage: False)
    try:
        for runner in ("local", "ray"):
            run_recipe(recipe_of(runner), tmp_path / runner, reporter=ProgressReporter(quiet=True))
        assert digests(tmp_path / "local") == digests(tmp_path / "ray")
        again = run_recipe(
            recipe_of("local"), tmp_path / "ray", reporter=ProgressReporter(quiet=True)
        )
        assert all(stage_run.skipped for stage_run in again)  # the runner changes no result
        assert contract.read_manifest(tmp_path / "ray" / "trace")["num_records"] == 80
        results = map_rows(functools.partial(times, 2), range(50), runner="ray", batch_rows=7)
        assert results == [2 * i for i in range(50)]
        with pytest.raises(EngineError, match="ValueError: row 3 is broken"):
            map_rows(fails, [1, 2, 3], runner="ray")
    finally:
        ray.shutdown()
