"""The command line: help, options and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from slowthink.cli.app import app, main
from slowthink.cli.generate import _read_questions
from slowthink.errors import DataError
from slowthink.recipe import STAGES

COMMANDS = (
    "run", *STAGES, "review", "compare", "generate", "chat", "serve", "grade", "passk", "decontaminate", "dedup",
    "export", "publish", "scorer", "check", "init", "recipes", "doctor",
)  # fmt: skip
ROOT = Path(__file__).parents[1]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code or 0


def test_generate_reads_questions_by_their_usual_names_and_in_any_kind_of_file(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exam.csv").write_text("problem,options,id\n3 加 4 等于多少?,,a\n1 + 1?,,b\n")
    first, second = _read_questions(Path("exam.csv"))
    assert (first.question, first.language, second.language) == ("3 加 4 等于多少?", "zh", "en")
    assert "question is read from column `problem`" in capsys.readouterr().err
    Path("two.jsonl").write_text(
        '{"q": "1 + 1?", "choices": ["1", "2"], "language": "fr"}\n{"q": ""}\n'
    )
    with pytest.raises(DataError, match=r"no column for the question; the columns are q, choices"):
        _read_questions(Path("two.jsonl"))
    with pytest.raises(DataError, match=r"two.jsonl:2: `q` is missing or empty .* Fix the row"):
        _read_questions(Path("two.jsonl"), "q")
    Path("two.jsonl").write_text('{"q": "1 + 1?", "choices": ["1", "2"], "language": "fr"}\n')
    (problem,) = _read_questions(Path("two.jsonl"), "q")
    assert (problem.choices, problem.language) == (("1", "2"), "fr")


def test_help_lists_commands_in_the_order_of_the_pipeline() -> None:
    group = typer.main.get_command(app)
    assert tuple(group.commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example_and_a_place_in_the_readme(command, capsys) -> None:
    assert call(command, "--help") == 0
    assert f"Example: slowthink {command}" in " ".join(capsys.readouterr().out.split())
    assert f"`slowthink {command}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", ["run", *STAGES])
def test_run_and_stages_have_the_same_options(command) -> None:
    parameters = typer.main.get_command(app).commands[command].params
    options = sorted(o for p in parameters for o in p.opts if o.startswith("--"))
    common = {
        "--dry-run",
        "--json",
        "--out",
        "--quiet",
        "--runner",
        "--set",
        "--settings",
        "--update",
    }
    own = {
        "evaluate": {"--regrade"}, "trace": {"--preview"}, "run": {"--processes"},
        "train": {"--processes"},
    }  # fmt: skip
    assert set(options) == common | own.get(command, set())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "no-such"], 2, "no shipped recipe of that name"),
        (["run", "quickstart", "--set", "sed=1"], 2, "did you mean `seed`"),
        (["fly"], 2, "No such command"),
        (["scorer", "no-such", "--out", "x"], 2, "no-such: no recipe.yaml; expected the folder"),
        (["init", "own-data"], 2, "slowthink init own-data --data FILE"),
        (["publish", "x", "--what", "dat", "--repo", "a/b"], 2, "'--what': 'dat' is not one of"),
        (["generate"], 2, "give either one PROMPT or --file"),
        (["generate", "q", "--cap", "-1"], 2, "Invalid value for '--cap'"),
        (["generate", "q", "--set", "engin.kind=vllm"], 2, "did you mean `engine`?"),
        (["generate", "q", "--set", "engine.kind=openai"], 2, "engine.endpoints: missing"),
        (["generate", "--file", "no-such.jsonl"], 1, "no such file"),
        (["grade", "no-such.jsonl"], 1, "no-such.jsonl"),
        (
            ["grade", "x.jsonl", "--compare", "--judge", "m"],
            2,
            "leave --mode, --judge and --out out",
        ),
    ],
)
def test_bad_input_is_explained_with_the_right_exit_code(arguments, code, message, capsys) -> None:
    assert call(*arguments) == code
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Traceback" not in stderr


def test_dry_run_prints_data_on_stdout(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)  # a checkout may hold a finished runs/quickstart
    assert call("run", "quickstart", "--dry-run", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["plan"]["train"]["num_steps"] > 0
    assert data["estimated_minutes"] is None, "no speed was measured"


def test_a_stage_that_the_recipe_lacks_is_named(capsys) -> None:
    assert call("train", "quickstart", "--set", "train=null") == 2
    assert "no such section" in capsys.readouterr().err


def test_a_missing_pool_file_is_explained(tmp_path, capsys) -> None:
    out = str(tmp_path / "run")
    assert call("pool", "own-data", "--out", out, "--quiet") == 1
    assert "train.jsonl" in capsys.readouterr().err


def test_module_runs_as_a_script() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "slowthink.cli.app", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "slow-thinking" in " ".join(out.stdout.split())
