"""A run folder and a ledger made before the package was laid out anew are read as before.

`fixtures/quickstart-c3a0f1e.tar.xz` is what `make quickstart` made at commit c3a0f1e (recipe
quickstart, seed 0), without the model's weights and tokenizer and without the page.
"""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from slowthink.data.tables import read_records
from slowthink.errors import ConfigError
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.stage_process import run_stage
from slowthink.recipe import STAGES
from slowthink.recipe.loading import load_recipe
from slowthink.records import Verdict
from slowthink.stage_rows import EvaluationRow

ARCHIVE = Path(__file__).parent / "fixtures" / "quickstart-c3a0f1e.tar.xz"


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "quickstart"


def tokens_spent(root: Path) -> tuple[int, ...]:
    """Tokens prefilled, decoded and forced in all, as the ledger counts them."""
    with sqlite3.connect(root / "ledger.sqlite") as ledger:
        row = ledger.execute("SELECT sum(prefilled), sum(decoded), sum(forced) FROM spent")
        return tuple(row.fetchone())


def test_all_seven_stages_are_skipped(run_folder: Path) -> None:
    recipe = load_recipe(str(run_folder / "recipe.yaml"))
    runs = run_recipe(recipe, run_folder, reporter=ProgressReporter(quiet=True))
    assert [run.stage for run in runs] == list(STAGES)
    assert all(run.skipped for run in runs)


def test_the_quickstart_of_today_is_refused_with_the_settings_that_differ(run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"pool: was made with other settings:\n  .*families"):
        run_recipe(load_recipe("quickstart"), run_folder, reporter=ProgressReporter(quiet=True))


@pytest.mark.slow
def test_difficulty_is_decided_again_from_its_ledger_alone(run_folder: Path, smollm: str) -> None:
    before = {path.name: path.read_bytes() for path in (run_folder / "filter").glob("*.parquet")}
    spent = tokens_spent(run_folder)
    shutil.rmtree(run_folder / "filter")
    recipe = load_recipe(str(run_folder / "recipe.yaml"))
    run_stage(recipe, run_folder, "filter", ProgressReporter(quiet=True))
    after = {path.name: path.read_bytes() for path in (run_folder / "filter").glob("*.parquet")}
    assert after.keys() - before.keys() == {"attempts.parquet"}, "a table that is younger"
    assert {name: after[name] for name in before} == before
    assert tokens_spent(run_folder) == spent, "tokens were generated; expected cached completions"


@pytest.mark.slow
def test_the_base_arm_is_evaluated_again_from_its_ledger_alone(run_folder, smollm: str) -> None:
    before = [r for r in read_records(run_folder / "evaluate", EvaluationRow) if r.arm == "base"]
    spent = tokens_spent(run_folder)
    own = load_recipe(str(run_folder / "recipe.yaml"))
    arms = own.evaluate.arms[:1]
    recipe = own.model_copy(
        update={"train": None, "evaluate": own.evaluate.model_copy(update={"arms": arms})}
    )
    run_stage(recipe, run_folder, "evaluate", ProgressReporter(quiet=True))
    after = read_records(run_folder / "evaluate", EvaluationRow)
    assert len(before) == 4 * 200
    assert [_without_reading(row) for row in after] == [_without_reading(row) for row in before]
    assert tokens_spent(run_folder) == spent, "tokens were generated; expected cached completions"


def _without_reading(row: EvaluationRow) -> tuple[EvaluationRow, bool]:
    """The row without what the grader read, which better rules change; and whether it is right."""
    read = replace(row, extracted=None, method="", verdict=Verdict.WRONG)
    return read, row.verdict is Verdict.CORRECT
