"""`slowthink train --processes 2`: started, killed, resumed, as by a user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from slowthink.data.tables import read_records, write_records
from slowthink.errors import ConfigError, EngineError
from slowthink.records import Grade, Trace, Verdict
from slowthink.stage_rows import TrainingStep
from slowthink.stages.train.launch import _rank_error
from tests.needs import needs

SETTINGS = {
    "name": "two",
    "train": {"epochs": 6, "batch_size": 2, "save_every_steps": 1, "learning_rate": 0.01},
    "report": None,
}


def failure(exitcode, timestamp=1, **data):
    return SimpleNamespace(exitcode=exitcode, timestamp=timestamp, error_file_data=data)


def test_the_error_of_the_process_that_failed_first_is_reported(tmp_path):
    (tmp_path / "checkpoint-12").mkdir()
    context = SimpleNamespace(work_folder=tmp_path)
    lost = failure(1, kind=None, message="Traceback\nRuntimeError: Connection closed by peer")
    killed = _rank_error({0: lost, 1: failure(-9)}, 2, context)
    assert isinstance(killed, EngineError)
    assert "process 1 of 2 was killed by signal 9" in str(killed)
    assert "goes on after step 12" in str(killed)
    own = failure(1, kind="ConfigError", message="no such model")
    reported = _rank_error({0: lost, 1: own}, 2, context)
    assert isinstance(reported, ConfigError) and str(reported) == "no such model"


def test_what_fails_later_hides_no_error(tmp_path, capsys):
    context = SimpleNamespace(work_folder=tmp_path)
    own = failure(1, kind="EngineError", message="the loss is no number")
    error = _rank_error({0: failure(-6, timestamp=9), 1: own}, 2, context)
    assert str(error) == "the loss is no number"
    odd = failure(1, kind=None, message="ValueError: odd")
    lost = failure(1, timestamp=9, kind=None, message="RuntimeError: Connection closed by peer")
    assert "process 1 of 2 failed: ValueError: odd" in str(
        _rank_error({0: lost, 1: odd}, 2, context)
    )
    killed = failure(-9, timestamp=2)  # seen by the agent once the other had lost it
    assert "process 1 of 2 was killed by signal 9" in str(
        _rank_error({0: failure(1, kind=None, message="lost"), 1: killed}, 2, context)
    )


def test_an_unknown_error_keeps_its_last_line(tmp_path, capsys):
    lost = failure(1, kind=None, message="Traceback …\nRuntimeError: odd")
    error = _rank_error({1: lost}, 2, SimpleNamespace(work_folder=tmp_path))
    assert "process 1 of 2 failed: RuntimeError: odd" in str(error)
    assert "at its start" in str(error)
    assert "Traceback" in capsys.readouterr().err


def ranks_of(parent: int) -> dict[int, int]:
    """Rank → process id of the training processes below this process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text()
            variables = (folder / "environ").read_text().split("\0")
        except OSError:
            continue
        if "slowthink.stages.train.rank" in command and f"OF={parent}" in variables:
            rank = next(v for v in variables if v.startswith("RANK="))
            found[int(rank[5:])] = int(folder.name)
    return found


def slowthink(*arguments, **more):
    command = [sys.executable, "-m", "slowthink.cli.app", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


def wait_until(reached, process):
    deadline = time.monotonic() + 300
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture
def recipe(tmp_path, tiny_model, make_problem):
    traces = [
        Trace(
            problem=make_problem(f"What is {n} + 1?", str(n + 1)), thinking=f"{n} and one.",
            response=f"It is {n + 1}.", teacher="made", grade=Grade(verdict=Verdict.CORRECT),
            num_thinking_tokens=4, num_response_tokens=4, tokenizer="t",
        )
        for n in range(6)
    ]  # fmt: skip
    write_records(tmp_path / "traces.parquet", traces, Trace)
    settings = SETTINGS | {"model": str(tiny_model)}
    settings["train"] = settings["train"] | {"input": str(tmp_path / "traces.parquet")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
@needs("trl")
def test_a_killed_process_ends_the_others_and_nothing_is_lost(recipe, tmp_path):
    root, tag = tmp_path / "run", str(os.getpid())
    arguments = ("train", recipe, "--out", root, "--processes", 2)
    environment = os.environ | {"OF": tag}
    first = slowthink(*arguments, env=environment)
    wait_until(lambda: any((root / "work" / "train").glob("checkpoint-*")), first)
    ranks = ranks_of(int(tag))
    assert sorted(ranks) == [0, 1]
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "process 1 of 2 was killed by signal 9" in errors
    assert "Traceback" not in errors
    assert not ranks_of(int(tag))
    alone = slowthink(*arguments[:-2], "--set", "processes=1")
    _, errors = alone.communicate(timeout=300)
    assert "was written by 2 process(es)" in errors
    again = slowthink(*arguments, env=environment)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "resuming after step" in errors
    manifest = json.loads((root / "train" / "manifest.json").read_text())
    assert manifest["facts"]["num_processes"] == 2
    rows = read_records(root / "train", TrainingStep)
    assert [row.step for row in rows] == list(range(1, 19))
    costs = [
        json.loads(line) for line in (root / "train" / "step_costs.jsonl").read_text().splitlines()
    ]
    assert all(cost["tokens_per_second"] > 0 and cost["memory_mb"] > 0 for cost in costs)
    assert (root / "train" / "model" / "model.safetensors").exists()


@pytest.mark.slow
@needs("trl")
def test_a_killed_command_leaves_no_process(recipe, tmp_path):
    root, tag = tmp_path / "run", f"{os.getpid()}0"
    command = slowthink(
        "train", recipe, "--out", root, "--processes", 2, env=os.environ | {"OF": tag}
    )
    wait_until(lambda: any((root / "work" / "train").glob("checkpoint-*")), command)
    assert len(ranks_of(int(tag))) == 2
    command.kill()
    command.communicate()
    deadline = time.monotonic() + 60
    while ranks_of(int(tag)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not ranks_of(int(tag))
