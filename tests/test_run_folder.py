"""Nothing that slowthink did not write is overwritten or deleted; what it wrote is complete."""

from __future__ import annotations

import json
import os
import resource
import secrets
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.user_files import write_rows
from slowthink.errors import ConfigError, DataError, EngineError
from slowthink.pipeline import run_folder
from slowthink.pipeline.contract import StageResult
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem
from slowthink.serialise import move_folder, write_atomic
from slowthink.stages.report.data import open_run

SANDBOX = {"kind": "sandbox", "num_problems": 6, "num_heldout": 2}
SETTINGS: dict[str, Any] = {
    "name": "mine", "pool": {"sources": [SANDBOX]}, "filter": {}, "report": None,
}  # fmt: skip


def run(root: Path, **more: Any) -> list[str]:
    """Run pool and filter there; names of the stages that were not skipped."""
    options = {"update": more.pop("update", False), "reporter": ProgressReporter(quiet=True)}
    runs = run_recipe(parse_recipe(SETTINGS | more), root, **options)
    return [stage_run.stage for stage_run in runs if not stage_run.skipped]


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- folders of others ----------------------------------------------------------------------------

FOREIGN: dict[str, dict[str, str]] = {
    "a commented recipe": {"recipe.yaml": "# mine\nname: mine\n"},
    "a checkout": {".git/HEAD": "ref", "README.md": "# hi"},
    "work and partial": {"work/pool/notes.txt": "x", "pool.partial/a": "x", "x.partial": "x"},
    "one file": {"notes.txt": "x"},
    "a run.json of something else": {"run.json": '{"id": 7}'},
    "a run.json that is no JSON": {"run.json": "{"},
    "folders of other stages": {"pool/data.csv": "x", "train/model.bin": "x"},
    "runs inside": {"runs/one/recipe.yaml": "name: one", "runs/one/run.json": "{}"},
    "hidden files": {".env": "KEY=1"},
    "a manifest of another program": {"manifest.json": "{}", "pool/manifest.json": "{}"},
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("update", [False, True])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    name: str, update: bool, tmp_path: Path
) -> None:
    for path, text in FOREIGN[name].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = files_in(tmp_path)
    with pytest.raises(ConfigError, match=r"no run of slowthink wrote.*--out"):
        run(tmp_path, update=update)
    assert files_in(tmp_path) == before


def test_the_command_refuses_the_working_folder(tmp_path, monkeypatch, capsys) -> None:
    from slowthink.cli.app import main

    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(
        "# my comments\nname: mine\npool:\n  sources: [{kind: sandbox}]\n"
    )
    before = files_in(tmp_path)
    for arguments in (
        ["recipe.yaml", "--out", "."],
        ["."],
        ["recipe.yaml", "--out", ".", "--dry-run"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["run", *arguments])
        assert ended.value.code == 2
        assert "no run of slowthink wrote (`recipe.yaml`)" in capsys.readouterr().err
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("kind", ["absent", "empty", "with a lock", "with a ledger", "a link"])
def test_a_new_folder_is_used(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "run"
    if kind != "absent":
        root.mkdir(parents=True)
    if kind == "with a lock":
        (root / "run.lock").touch()
    if kind == "with a ledger":
        (root / "ledger.sqlite").touch()
    if kind == "a link":
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    assert run(root) == ["pool", "filter"]
    assert run(root) == []


def test_a_run_that_was_stopped_at_once_can_go_on(tmp_path: Path) -> None:
    with run_folder.locked(tmp_path / "run"):
        pass
    assert run(tmp_path / "run") == ["pool", "filter"]


def test_an_update_that_fails_leaves_the_old_results_usable(tmp_path: Path) -> None:
    root, bad = tmp_path / "run", tmp_path / "bad.jsonl"
    bad.write_text('{"question": ""}\n')
    run(root)
    before = [files_in(root / stage) for stage in ("pool", "filter")]
    where = rf"Undo the change \({root}/pool/manifest\.json has the old settings\)"
    with pytest.raises(ConfigError, match=where):
        run(root, seed=1)
    assert run(root, **json.loads((root / "pool/manifest.json").read_text())["settings"]) == []
    with pytest.raises(DataError, match="no column `answer`"):
        run(root, update=True, pool={"sources": [{"kind": "file", "path": str(bad)}]})
    assert [files_in(root / stage) for stage in ("pool", "filter")] == before
    assert not (root / "superseded").exists()
    assert open_run(root).settings["pool"]["sources"][0]["kind"] == "sandbox", "what made the rows"
    assert run(root) == [], "with the old settings all is done"
    more = {"sources": [SANDBOX | {"num_problems": 7}]}
    assert run(root, update=True, pool=more) == ["pool", "filter"]
    superseded = {path.name.split("-")[0]: path for path in (root / "superseded").iterdir()}
    assert [files_in(superseded[stage]) for stage in ("pool", "filter")] == before


def test_an_update_checks_first_what_later_stages_need(tmp_path: Path) -> None:
    root, questions = tmp_path / "run", tmp_path / "exam.jsonl"
    questions.write_text('{"question": "What is 2 + 2?", "answer": "4"}\n')
    test_set = {"name": "exam", "path": str(questions)}
    filter = {"contamination": {"preset": "strict", "benchmarks": [test_set]}}
    run(root, filter=filter)
    before = files_in(root / "pool")
    questions.unlink()
    with pytest.raises(DataError, match=r"exam\.jsonl"):
        run(root, update=True, filter=filter, pool={"sources": [SANDBOX | {"num_problems": 7}]})
    assert files_in(root / "pool") == before, (
        "the pool was made again before the filter was refused"
    )


def test_an_update_of_one_stage_moves_what_was_made_from_its_older_output(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(root)
    recipe = parse_recipe(SETTINGS | {"pool": {"sources": [SANDBOX | {"num_problems": 7}]}})
    reporter = ProgressReporter(quiet=True)
    run_recipe(recipe, root, stages=["pool"], update=True, reporter=reporter)
    assert not (root / "filter").exists() and (root / "pool").is_dir()
    (root / "pool/data.parquet").write_bytes(b"damaged")
    with pytest.raises(DataError):
        run_recipe(recipe, root, reporter=reporter)
    runs = run_recipe(recipe, root, update=True, reporter=reporter)
    assert [each.stage for each in runs if not each.skipped] == ["pool", "filter"]


@pytest.mark.parametrize("lost", ["run.json", "recipe.yaml"])
def test_a_run_is_known_by_its_log_or_by_its_manifests(lost: str, tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / lost).unlink()
    assert run(tmp_path / "run") == []


# --- files of others in a run's folder ------------------------------------------------------------


def test_files_of_others_in_a_run_are_not_deleted(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(root)
    mine = {
        "notes.txt": "1", "work/notes.txt": "2", "work/filter/notes.txt": "3",
        "filter.partial/notes.txt": "4", "filter/notes.txt": "5", "run.json.tmp": "6",
        "recipe.yaml.tmp": "7", "mine.partial/a": "8",
    }  # fmt: skip
    for name, text in mine.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    run(root, filter={"duplicates": None}, update=True)
    kept = sorted(
        text for text in files_in(root).values() if text in {b"%d" % n for n in range(1, 9)}
    )
    assert kept == [b"%d" % number for number in range(1, 9)]


def test_a_link_in_place_of_unfinished_work_is_not_followed(tmp_path: Path) -> None:
    mine, root = tmp_path / "mine", tmp_path / "run"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with run_folder.locked(root):
        pass
    (root / "pool.partial").symlink_to(mine)
    (root / "work").mkdir()
    (root / "work" / "filter").symlink_to(mine)
    run(root)
    assert files_in(mine) == {"thesis.txt": b"mine"}


def test_unfinished_work_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with run_folder.locked(root):
        context = run_folder.make_context(parse_recipe(SETTINGS), root, "pool")
        (context.folder / "half.parquet").write_text("x")
        (context.work_folder / "checkpoint-1").mkdir()
    run(root)
    assert (
        sorted(path.name for path in root.rglob("*") if path.name.startswith((".", "half"))) == []
    )
    assert not list((root / "work").iterdir())
    assert not (root / "superseded").exists()


def test_an_edited_recipe_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(root)
    own = (root / "recipe.yaml").read_text()
    edited = "# why these numbers: see my notes\n" + own
    (root / "recipe.yaml").write_text(edited)
    run(root)
    assert (root / "recipe.yaml").read_text() == own
    assert [path.read_text() for path in root.glob("superseded/recipe.yaml-*")] == [edited]
    run(root, seed=1, update=True)  # our own text is replaced without a copy
    assert len(list(root.glob("superseded/recipe.yaml-*"))) == 1


@pytest.mark.parametrize(
    "name",
    ["/abs/x", "../../x", "a/b", "..", ".", "", " ", "a\\b", "x" * 201, "字" * 67, "a\x00", "a\nb", "a\x1b[31m"],
)  # fmt: skip
def test_a_name_that_is_no_folder_of_runs_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        parse_recipe({"name": name})


@pytest.mark.parametrize("name", ["s1.1", "我的 run", "a-b_c", "x" * 200])
def test_other_names_are_taken(name: str) -> None:
    assert parse_recipe({"name": name}).name == name


def test_a_comparison_replaces_no_other_file(tmp_path: Path) -> None:
    from slowthink.stages.report.compare_page import _check_replaceable

    page = tmp_path / "recipe.yaml"
    page.write_text("name: mine")
    with pytest.raises(DataError, match="no comparison that slowthink wrote"):
        _check_replaceable(page)
    page.write_text("<title>a against b · slowthink comparison</title>")
    _check_replaceable(page)
    _check_replaceable(tmp_path / "new.html")


# --- what is written ------------------------------------------------------------------------------


def test_files_obey_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        run(tmp_path / "run")
        write_atomic(tmp_path / "run" / "text", "x")
    finally:
        os.umask(old)
    modes = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.rglob("*")
    }
    assert {name for name, mode in modes.items() if mode not in (0o640, 0o750)} == set()


def test_files_of_libraries_obey_the_umask(tmp_path: Path) -> None:
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "a" / "model" / "weights").touch(mode=0o600)
    old = os.umask(0o022)
    try:
        move_folder(tmp_path / "a", tmp_path / "b")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "b" / "model" / "weights").stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomic(path, "new")
    assert files_in(tmp_path) == {"f": b"old"}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".txt"])
def test_a_disk_that_is_full_is_named_by_the_file_and_loses_no_other(suffix, tmp_path) -> None:
    """Not `standard output`; also a file that has the name which a temporary file once had."""
    path = tmp_path / f"out{suffix}"
    mine = tmp_path / f".{path.name}.partial"
    path.write_text("old")
    mine.write_text("mine")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    rows = [{"a": secrets.token_hex(500)} for _ in range(9)]
    try:
        with pytest.raises(OSError) as error:
            write_atomic(path, "x" * 9000) if suffix == ".txt" else write_rows(path, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name, mine.name}
    assert (path.read_text(), mine.read_text()) == ("old", "mine")


def test_a_stage_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    """In order: each file, its folder, the rename, the folder that has the new name."""
    calls: list[str] = []
    sync, rename = os.fsync, os.rename

    def logged_sync(descriptor: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def logged_rename(source: Path, target: Path) -> None:
        calls.append(f"rename {source}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", logged_sync)
    monkeypatch.setattr(os, "rename", logged_rename)
    root = tmp_path / "run"
    run(root)
    partial = root / "pool.partial"
    renamed = calls.index(f"rename {partial}")
    written = {str(partial / path.name) for path in (root / "pool").iterdir()}
    assert written | {str(partial)} <= set(calls[:renamed])
    assert calls[renamed + 1] == str(root)


@pytest.mark.parametrize("path", ["/proc/x", "/sys/x", "/dev/null", "/dev/null/x", "x" * 300])
def test_a_folder_that_cannot_be_made_is_a_clear_error(path: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, EngineError), match=r"expected a folder.*--out"):
        run(Path(path))


@pytest.mark.skipif(sys.platform != "linux", reason="uses a user without rights")
def test_a_read_only_folder_is_a_clear_error(tmp_path: Path, monkeypatch) -> None:
    def denied(self, *arguments, **more):
        raise PermissionError(13, "Permission denied", str(self))

    run(tmp_path / "run")
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(
        EngineError, match=r"Permission denied; expected a folder that can be written"
    ):
        run(tmp_path / "run")


def test_a_folder_that_becomes_read_only_in_a_stage_is_a_clear_error(tmp_path: Path) -> None:
    recipe = parse_recipe(SETTINGS)
    context = run_folder.make_context(recipe, tmp_path, "pool")

    def lose_folder(context: Any) -> StageResult:
        shutil.rmtree(context.folder)
        return StageResult(records=[], record_type=Problem)

    with pytest.raises(EngineError, match="expected a folder that can be written"):
        run_folder.execute(context, lose_folder, version=1)


def test_old_runs_with_a_damaged_log_are_known(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run(root)
    (root / "run.json").write_text("{" * 5000)
    with pytest.raises(DataError, match=r"run\.json: is damaged; expected JSON.*move it away"):
        run(root)
    (root / "run.json").write_text(json.dumps({"wall_seconds": "much", "seconds": {}}))
    with pytest.raises(DataError, match=r"run\.json: is damaged"):
        run(root)


# --- figures of a stage ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="getrusage of other systems begins anew")
def test_the_peak_memory_of_a_process_is_not_that_of_its_parent() -> None:
    large = bytearray(b"x") * (400 * 2**20)
    assert run_folder.peak_rss_mb() > 400
    code = "from slowthink.pipeline.run_folder import peak_rss_mb; print(peak_rss_mb())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(large) == 400 * 2**20
    assert int(child.stdout) < 400
