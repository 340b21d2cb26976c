"""Input that should hang, crash or write on the terminal is a message: YAML, options, keys, pipes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slowthink.api.model import Thought
from slowthink.cli.app import main
from slowthink.cli.chat import turn_text
from slowthink.errors import ConfigError
from slowthink.pipeline.progress import ProgressReporter
from slowthink.recipe.loading import load_recipe, parse_recipe
from slowthink.records import AnswerEnd, Completion, Cost, ThinkingEnd
from slowthink.serialise import printable

# --- YAML -----------------------------------------------------------------------------------------

LAUGHS = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"k{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)
YAMLS = {
    "deep lists": "name: " + "[" * 5000 + "]" * 5000,
    "deep maps": "name: " + "{a: " * 5000 + "}" * 5000,
    "deep blocks": "".join(f"{' ' * n}a:\n" for n in range(5000)),
    "deep lists of dashes": "- " * 5000 + "x",
    "not so deep": "name: " + "[" * 70 + "]" * 70,
    "an alias bomb": LAUGHS,
    "an alias bomb of maps": LAUGHS.replace("[", "{q: [").replace("]", "]}"),
    "an alias bomb by merging": "a: &a {x: 1}\n" + "".join(
        f"b{n}: &b{n} {{l: *{'a' if not n else f'b{n - 1}'}, r: *{'a' if not n else f'b{n - 1}'}}}\n"
        for n in range(40)
    ),
    "an alias in itself": "name: &a [*a]",
    "an alias in itself, deeper": "name: &a {x: [{y: *a}]}",
    "an unknown alias": "name: *nothing",
    "a date that is none": "seed: 2020-13-45",
    "a number of 5,000 digits": "seed: " + "9" * 5000,
    "a boolean that is none": "seed: !!bool perhaps",
    "a timestamp that is none": "seed: !!timestamp soon",
    "an integer that is none": "seed: !!int ''",
    "code": "seed: !!python/object/apply:os.system [id]",
    "a key that is a list": "? [a]\n: 1",
    "a NUL": "name: a\0b",
    "an escaped NUL": 'name: mine\nmodel: "a\\0b"',
    "an escaped NUL in a key": 'name: mine\n"a\\0b": 1',
    "an escaped NUL, deep": 'name: mine\npool: {sources: [{kind: file, path: "a\\0"}]}',
    "keys that are numbers": "1: 2",
    "keys that are null": "~: 2",
    "two documents": "name: a\n---\nname: b",
    "a list": "- name",
    "nothing": "",
    "a scalar": "name",
    "another version": "%YAML 9.9\n---\nname: x",
    "tabs": "name:\n\t- x",
    "infinite": "name: x\nseed: .inf",
    "other types": "name: 3\npool: [1]\nfilter: 7\nevaluate: text",
    "a list where a map is": "name: x\npool: {sources: {a: {b: c}}}",
}  # fmt: skip


@pytest.mark.parametrize("name", YAMLS)
def test_a_recipe_that_is_none_is_a_clear_error_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(YAMLS[name])
    started = time.process_time()
    with pytest.raises(ConfigError) as error:
        load_recipe(str(path))
    assert time.process_time() - started < 1
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"\x80", b"name: \xed\xa0\x80", bytes(2_000_001)]
)
def test_a_recipe_that_is_no_text_is_a_clear_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        load_recipe(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    "value",
    [
        "seed=[1", "seed={a", "seed='", 'seed="', "seed=*x", "seed=&a [*a]", "seed=!!bool x", "seed=2020-99-99",
        "seed=" + "[" * 5000, "seed=" + "9" * 5000, "name=../x", "name=\udcff", "pool.sources.99=1",
        "pool.sources.-1.kind=x", "pool.sources.0.kind.x=1", "seed", "=1", "a..b=1", ".=1", "seed.x=1",
        "pool.sources.²=1", "pool.sources." + "9" * 5000 + "=1", 'model="a\\0b"', "pool=[[1]]", "pool.sources=x", "name.x.y=1", "engine.x.y.z=1",
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_a_clear_error(value: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("quickstart", overrides=[value])
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    "source", ["x" * 300, "a/" * 3000, "/dev/null", "/dev/zero", "/", "..", "a\0b"]
)
def test_a_recipes_name_that_is_none_is_a_clear_error(source: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe(source)
    assert len(str(error.value)) < 2000


# --- the terminal ---------------------------------------------------------------------------------

ESCAPES = (
    "\x1b[31m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\r",
    "\b\b",
    "\u202e",
    "\x00",
    "\u2028",
    "\x7f",
)


@pytest.mark.parametrize("escape", ESCAPES)
def test_control_characters_are_shown_and_not_obeyed(escape: str, capsys, tmp_path) -> None:
    recipe = tmp_path / "r.yaml"
    settings = {"name": "x", f"key{escape}": 1, "engine": {"kind": escape}, "model": escape}
    recipe.write_text(json.dumps(settings))
    with pytest.raises(SystemExit):
        main(["run", str(recipe), "--set", f"a{escape}b=1", "--dry-run"])
    with pytest.raises(SystemExit):
        main(["run", f"no{escape}"])
    with pytest.raises(SystemExit):
        main([f"no{escape}command"])
    ProgressReporter().notify(f"message{escape}")
    printed = capsys.readouterr()
    assert escape not in printed.err + printed.out
    assert "message\\u" in printed.err


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_models_text_does_not_write_on_the_terminal(escape: str) -> None:
    completion = Completion(
        key="", chain_key="", num_prompt_tokens=1, thinking_ids=(1, 2, 3), answer_ids=(4,),
        closing_ids=(), thinking=f"a{escape}", answer=f"b{escape}", events=(),
        thinking_end=ThinkingEnd.CAP, answer_end=AnswerEnd.STOP,
    )  # fmt: skip
    turn = Thought(question="q", completion=completion, cost=Cost())
    assert escape not in turn_text(turn, dim=False)
    assert turn_text(turn, dim=True).count("\x1b") == 2


def test_text_with_other_signs_is_printed_as_it_is() -> None:
    text = "x = \\frac{1}{2}\n\t答案：é 🙂 \u200d"
    assert printable(text) == text


def test_printed_json_stays_json() -> None:
    value = "".join(ESCAPES) + "\ud800\n"
    assert json.loads(printable(json.dumps([value], ensure_ascii=False))) == [value]


# --- standard output ------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_a_clear_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slowthink.cli.app", "--help"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: standard output or a file: No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_standard_output_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "graded.csv"
    path.write_text("gold,pred\n4,4\n")
    done = subprocess.run(
        ["sh", "-c", '"$0" -m slowthink.cli.app grade "$1" >&- <&-', sys.executable, str(path)],
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_pipe_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "slowthink.cli.app", "--help"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """`slowthink … >&-`: what a library prints then would be written into a file of the run."""
    code = (
        "import os, sys\nfrom slowthink.cli import app\n"
        "def command(**_):\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        file.write('mine')\n"
        "        os.write(1, b'noise'), os.write(2, b'noise')\n"
        "app.click_command = lambda: command\napp.main()\n"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, code, str(tmp_path / "file")],
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "option", [["bad \udcff"], ["q", "--wait-string", "\udcff"], ["q", "--model", "\udcff"]]
)
def test_arguments_that_are_not_utf8_are_a_clear_error(option, tmp_path: Path, capsys) -> None:
    script = tmp_path / "s.jsonl"
    script.write_text('{"question": "q", "thinking": ["a"], "answer": "b"}')
    with pytest.raises(SystemExit) as ended:
        main(
            ["generate", *option, "--set", "engine.kind=replay", "--set", f"engine.replay={script}"]
        )
    assert ended.value.code == 2
    assert "not UTF-8; expected text" in capsys.readouterr().err


class FullStream(io.StringIO):
    """A stream whose disk is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_run_goes_on_without_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", FullStream())
    reporter = ProgressReporter()
    reporter.notify("a message")
    reporter.progress(1, 2)
    reporter.progress(2, 2)


def test_an_error_of_a_file_is_a_message(monkeypatch, capsys) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/data/x\x1b")

    monkeypatch.setattr("slowthink.cli.app.click_command", fail)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: /data/x\\u001b: Permission denied; expected")


def test_texts_of_settings_may_have_anything_but_a_nul() -> None:
    recipe = parse_recipe({"name": "x", "model": "a\tb\u202e"})
    assert recipe.model == "a\tb\u202e"


# --- files named on the command line --------------------------------------------------------------

FILES = {
    "binary": b"\xff\xfe\x00\x80" * 50, "deep": b"[" * 20_000, "empty": b"", "other rows": b"[1]\n3\nnull\n",
    "a deep value": b'{"question": ' + b"[" * 20_000 + b"}",
    "a number of 5,000 digits": b'{"question": ' + b"9" * 5000 + b"}",
    "broken text": b'{"question": "\\ud800", "answer": "1"}',
    "a NUL": b'{"question": "a\\u0000b", "answer": "\\u0000"}',
}  # fmt: skip
COMMANDS = (
    ["grade", "FILE"], ["generate", "--file", "FILE", "--set", "engine.kind=replay", "--set", "engine.replay=no"],
    ["generate", "q", "--set", "engine.kind=replay", "--set", "engine.replay=FILE"],
    ["export", "FILE", "--out", "out"], ["compare", "FILE", "FILE"], ["report", "FILE"], ["run", "FILE"],
    ["check", "FILE"],
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", [*FILES, "a folder", "a device", "a long name"])
def test_a_file_of_any_kind_ends_without_a_traceback(
    command, name, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(
        "/dev/null" if name == "a device" else "x" * 300 if name == "a long name" else "f.jsonl"
    )
    if name == "a folder":
        path.mkdir()
    elif name in FILES:
        path.write_bytes(FILES[name])
    with pytest.raises(SystemExit) as ended:
        main([part.replace("FILE", str(path)) for part in command])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if not line.startswith("auto: ")]
    assert ended.value.code == 0 or lines[0].startswith("error: ")
    assert "Traceback" not in printed.err
    assert len(printed.err) < 3000
