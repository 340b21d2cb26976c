"""Run folders: stages are skipped, refused, rerun, and resumed after a kill. On the replay engine."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from slowthink.cli.run import open_recipe
from slowthink.data import tables
from slowthink.errors import ConfigError, DataError, EngineError
from slowthink.pipeline import contract, run, run_folder
from slowthink.pipeline.plan import check_inputs
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.pipeline.run_plan import plan_run
from slowthink.recipe import Recipe
from slowthink.recipe.loading import load_recipe
from slowthink.records import Dropped
from slowthink.stage_rows import EvaluationRow

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def write_inputs(folder, *, num: int = 12) -> dict:
    """A recipe on generated files: problems, scripted completions, and their evaluation."""
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(num)]
    scripts = [
        {
            "question": row["question"],
            "thinking": [f"{i} + {i} is", " so"],
            "answer": str(2 * i + i % 3),
        }
        for i, row in enumerate(rows)
    ]
    for name, content in (("problems", rows), ("scripts", scripts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return {
        "name": "made",
        "engine": {"kind": "replay", "replay": str(folder / "scripts.jsonl")},
        "pool": {
            "sources": [{"kind": "file", "path": str(folder / "problems.jsonl"), "num_heldout": 6}]
        },
        "filter": {"difficulty": {"num_attempts": 1, "max_problems": None, "temperature": 0.5}},
        "evaluate": {
            "arms": [
                {"name": "one", "model": "base", "caps": [0, 4, 16], "waits": [1], "free": True},
                {"name": "two", "model": "base", "caps": [8], "chat": {"format": "plain"}},
            ]
        },
    }


@pytest.fixture
def recipe_file(tmp_path):
    data = write_inputs(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def digests(root) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.glob("*/*.parquet"))
        if "superseded" not in p.parts
    }


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """Run stages in this process, except in tests of the processes."""
    if "process" not in request.keywords:
        monkeypatch.setattr(run, "needs_model", lambda recipe, stage: False)


def run_into(path, root, *overrides: str, **options):
    recipe = load_recipe(str(path), overrides=overrides)
    return run_recipe(recipe, root, reporter=ProgressReporter(quiet=True), **options)


def test_a_run_writes_complete_stages_and_the_same_command_skips_all(recipe_file, tmp_path) -> None:
    root = tmp_path / "run"
    runs = run_into(recipe_file, root)
    assert [stage_run.stage for stage_run in runs] == ["pool", "filter", "evaluate", "report"]
    before = digests(root)
    assert all(stage_run.skipped for stage_run in run_into(recipe_file, root))
    assert digests(root) == before
    assert not list(root.glob("*.partial"))


def test_scripted_completions_are_measured_correctly(recipe_file, tmp_path) -> None:
    """Answers are correct where i % 3 == 0, computed here from the files alone."""
    root = tmp_path / "run"
    run_into(recipe_file, root)
    rows = [
        row
        for row in tables.read_records(root / "evaluate", EvaluationRow)
        if row.arm == "one" and row.max_thinking_tokens == 16 and row.forced
    ]
    for row in rows:
        number = int(row.question.split()[2])
        assert (row.verdict.value == "correct") is (number % 3 == 0), row
    summary = contract.read_manifest(root / "evaluate")["facts"]["summary"]
    assert summary["budget_violations"] == 0
    assert [p["max_thinking_tokens"] for p in summary["sets"][0]["arms"][0]["points"]][:3] == [
        0,
        4,
        16,
    ]


def test_missing_files_are_named_with_their_setting(recipe_file, tmp_path) -> None:
    with pytest.raises(
        ConfigError, match=r"none\.jsonl: no such file; .*--set engine\.replay=PATH"
    ):
        run_into(recipe_file, tmp_path / "run", "engine.replay=none.jsonl")
    with pytest.raises(ConfigError, match=r"engine\.replay: null; .*--set engine\.replay=PATH"):
        run_into(recipe_file, tmp_path / "run", "engine.replay=null", update=True)
    recipe = load_recipe(str(recipe_file), overrides=["evaluate.input=none.jsonl"])
    with pytest.raises(DataError, match=r"no such file \(evaluate\.input\): --set evaluate\.inp"):
        check_inputs(recipe, ["evaluate"])


def test_the_diagram_of_a_run_folder_has_each_entry_on_a_line_of_its_own(
    recipe_file, tmp_path
) -> None:
    root = tmp_path / "run"
    run_into(recipe_file, root)
    run_into(recipe_file, root, "evaluate.max_problems=3", update=True)
    run_folder.make_context(load_recipe(str(recipe_file)), root, "pool")
    lines = run_folder.__doc__.split("runs/NAME/\n")[1].split("\n\n")[0].splitlines()
    entries: list[str] = []
    for line in lines:
        indent, name, text = re.fullmatch(r"( {6}| {8})(\S+) {2,}(\S.*)", line).groups()
        assert not re.search(r"\w\.(parquet|json|yaml|sqlite)|/ ", text), line
        entries.append(name if len(indent) == 6 else f"STAGE/{name}")
    paths = [root / entry.replace("STAGE", "pool") for entry in entries]
    assert [path for path in paths if not path.exists()] == []
    stages = r"\b(pool|filter|evaluate|report)\b"
    present = {re.sub(stages, "STAGE", path.name) for path in root.iterdir()}
    assert present - {"ledger.sqlite.lock"} == {entry.split("/")[0] for entry in entries}


def test_two_runs_give_the_same_bytes(recipe_file, tmp_path) -> None:
    run_into(recipe_file, tmp_path / "a")
    run_into(recipe_file, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_changed_recipe_is_refused_with_the_settings_that_differ(recipe_file, tmp_path) -> None:
    root = tmp_path / "run"
    run_into(recipe_file, root)
    before = digests(root)
    with pytest.raises(ConfigError, match=r"evaluate\.max_problems: None -> 3(.|\n)*--update"):
        run_into(recipe_file, root, "evaluate.max_problems=3")
    assert digests(root) == before


def test_update_reruns_from_the_first_changed_stage_and_deletes_nothing(
    recipe_file, tmp_path
) -> None:
    root = tmp_path / "run"
    run_into(recipe_file, root)
    old = digests(root)
    runs = run_into(recipe_file, root, "evaluate.arms.0.caps=[0,4,16,20]", update=True)
    assert [stage_run.skipped for stage_run in runs] == [True, True, False, False]
    kept = [
        hashlib.sha256(p.read_bytes()).hexdigest() for p in root.glob("superseded/*/data.parquet")
    ]
    assert old["evaluate/data.parquet"] in kept
    # completions of the old points are cached in the ledger
    tokens = contract.read_manifest(root / "evaluate")["facts"]["arms"]["two"]["tokens"]
    assert (
        tokens["decoded"]
        == contract.read_manifest(next(root.glob("superseded/evaluate-*")))["facts"]["arms"]["two"][
            "tokens"
        ]["decoded"]
    )


def test_a_changed_input_file_is_noticed(recipe_file, tmp_path) -> None:
    root = tmp_path / "run"
    run_into(recipe_file, root)
    with (tmp_path / "problems.jsonl").open("a") as file:
        file.write(json.dumps({"question": "What is 50 + 50?", "answer": "100"}) + "\n")
    with pytest.raises(ConfigError, match=r"inputs\..*problems\.jsonl"):
        run_into(recipe_file, root)


def test_a_report_written_too_early_is_rewritten_without_update(recipe_file, tmp_path) -> None:
    root = tmp_path / "run"
    run_into(recipe_file, root, stages=("pool", "filter", "report"))
    runs = run_into(recipe_file, root)
    assert {stage_run.stage: stage_run.skipped for stage_run in runs} == {
        "pool": True, "filter": True, "evaluate": False, "report": False,
    }  # fmt: skip


KILL = """
import os, signal, sys
from pathlib import Path
from slowthink.pipeline import run, run_folder
from slowthink.pipeline.progress import ProgressReporter
from slowthink.recipe.loading import load_recipe
stage, root, path = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
write_records = run_folder.write_records
def write_and_die(target, records, cls):
    write_records(target, records, cls)
    if target.parent.name == stage + ".partial":
        os.kill(os.getpid(), signal.SIGKILL)
run_folder.write_records = write_and_die
run.needs_model = lambda recipe, stage: False
run.run_recipe(load_recipe(path), root, reporter=ProgressReporter(quiet=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pool", "filter", "evaluate", "report"])
def test_a_run_killed_while_a_stage_writes_ends_with_the_same_bytes(
    recipe_file, tmp_path, stage
) -> None:
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    run_into(recipe_file, uninterrupted)
    child = subprocess.run([sys.executable, "-c", KILL, stage, str(killed), str(recipe_file)])
    assert child.returncode == -signal.SIGKILL
    assert not (killed / stage / "manifest.json").exists()
    run_into(recipe_file, killed)
    assert digests(killed) == digests(uninterrupted)


def test_a_full_disk_is_a_clear_error_and_loses_nothing(recipe_file, tmp_path, monkeypatch) -> None:
    root = tmp_path / "run"
    run_into(recipe_file, root, stages=("pool",))
    before = digests(root)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder, "write_records", full)
    with pytest.raises(
        EngineError, match="No space left on device; expected.*Nothing finished is lost"
    ):
        run_into(recipe_file, root)
    monkeypatch.undo()
    monkeypatch.setattr(run, "needs_model", lambda recipe, stage: False)
    finished = {path: file for path, file in digests(root).items() if ".partial/" not in path}
    assert finished == before
    assert all(not stage_run.skipped for stage_run in run_into(recipe_file, root)[1:])


HOLD = """
import sys, time
from pathlib import Path
from slowthink.pipeline.run_folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_two_processes_in_one_folder_are_refused(recipe_file, tmp_path) -> None:
    root = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(EngineError, match="another slowthink process is using this run folder"):
        run_into(recipe_file, root)
    child.kill()
    child.wait()
    child.stdout.close()
    run_into(recipe_file, root, stages=("pool",))


@pytest.mark.process
def test_a_childs_error_keeps_its_kind_and_message(recipe_file, tmp_path) -> None:
    (tmp_path / "scripts.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"scripts\.jsonl:1: not a script"):
        run_into(recipe_file, tmp_path / "run")


PARENT = """
import subprocess, sys
code = "from slowthink.pipeline.stage_process import die_with_parent as d; d(); print('up', flush=True); import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a Linux call")
def test_a_stages_process_dies_with_the_run_that_started_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.slow
def test_an_interrupted_run_can_be_resumed(recipe_file, tmp_path) -> None:
    root = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-m", "slowthink.cli.app", "run", str(recipe_file), "--out", str(root)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (root / "pool" / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    stderr = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "finished work in a run folder or a ledger is kept" in stderr
    assert run_into(recipe_file, root)[0].skipped


def test_dry_run_writes_nothing_and_counts(recipe_file, tmp_path) -> None:
    plan = plan_run(*open_recipe(str(recipe_file), out=tmp_path / "run"))["plan"]
    assert not (tmp_path / "run").exists()
    assert list(plan) == ["pool", "filter", "evaluate", "report"]


def test_a_missing_first_input_is_explained(tmp_path) -> None:
    recipe = Recipe.model_validate({"name": "x", "select": {}})
    with pytest.raises(ConfigError, match=r"no trace stage and no `select\.input`"):
        run_recipe(recipe, tmp_path / "run", reporter=ProgressReporter(quiet=True))


def test_rows_are_sorted_by_id_in_any_input_order(tmp_path) -> None:
    rows = [Dropped(id=i, step="s", reason="r") for i in "cab"]
    tables.write_records(tmp_path / "x.parquet", rows, Dropped)
    tables.write_records(tmp_path / "y.parquet", rows[::-1], Dropped)
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()
    assert [row.id for row in tables.read_records(tmp_path / "x.parquet", Dropped)] == [
        "a",
        "b",
        "c",
    ]
