"""Damaged files are a clear error: flipped bits, missing tables, a ledger of something else."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.manifests import read_manifest
from slowthink.data.tables import read_records
from slowthink.errors import DataError, EngineError
from slowthink.pipeline.progress import ProgressReporter
from slowthink.pipeline.run import run_recipe
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Chain, Cost, Problem
from slowthink.sampling.ledger import Ledger
from slowthink.stages.report.data import open_run
from tests.test_ledger import make_answer, make_chain

# --- the ledger -----------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with a chain and an answer."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as opened:
        opened.record([make_chain()], [make_answer()], tag="t", cost=Cost(), seconds=0)
        opened.record_values({"s": 0.5})
    return path


def change(path: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement, values)
    database.close()


def read(path: Path) -> None:
    with Ledger(path) as opened:
        opened.chains(["c", "x"])
        opened.answers(["c", "x"])
        opened.values(["s"])


CHANGES = {
    "a bit of a chain's ids": ("UPDATE chains SET ids = ?", b"\1" + bytes(11)),
    "ids of another length": ("UPDATE chains SET ids = ?", b"\0\0\0\0\1\0\0\0"),
    "ids that are cut": ("UPDATE chains SET ids = ?", b"\0\0\0\0\1\0"),
    "ids of another type": ("UPDATE chains SET ids = ?", "text"),
    "a chain's events": ("UPDATE chains SET events = replace(events, '9', '8')",),
    "events that are no JSON": ("UPDATE chains SET events = '['",),
    "a chain's state": ("UPDATE chains SET state = 'loop'",),
    "a state that is none": ("UPDATE chains SET state = 'endee'",),
    "a digest": ("UPDATE chains SET digest = ?", bytes(8)),
    "a key": ("UPDATE chains SET key = 'x'",),
    "a bit of an answer's ids": ("UPDATE answers SET ids = ?", b"\2\0\0\0" + bytes(4)),
    "an answer's closing": ("UPDATE answers SET closing = ?", b"\6\0\0\0"),
    "where an answer begins": ("UPDATE answers SET cut = 3",),
    "how an answer ended": ("UPDATE answers SET end = 'length'",),
    "an answer's chain": ("UPDATE answers SET chain_key = 'x'",),
    "what an API reported": ("UPDATE chains SET reported = '{}'",),
    "a score": ("UPDATE scores SET value = '0.75'",),
    "a score that is no JSON": ("UPDATE scores SET value = '0.5x'",),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_has_changed_is_not_used(name: str, ledger: Path) -> None:
    read(ledger)
    change(ledger, *CHANGES[name])
    with pytest.raises(
        EngineError, match=r"1 damaged row\(s\) in `(chains|answers|scores)`.*backup.*DELETE"
    ):
        read(ledger)


def test_the_statement_of_the_message_repairs_the_ledger(ledger: Path) -> None:
    change(ledger, "UPDATE chains SET state = 'loop'")
    with pytest.raises(EngineError) as error:
        read(ledger)
    change(ledger, str(error.value).split('"')[1])
    with Ledger(ledger) as opened:
        assert opened.chains(["c"]) == {}


def test_rows_of_an_older_ledger_have_no_digest_and_are_read(tmp_path: Path, ledger: Path) -> None:
    """Nor a date."""
    old = tmp_path / "old.sqlite"
    with sqlite3.connect(old) as database:
        database.executescript(
            f"ATTACH '{ledger}' AS new;"
            "CREATE TABLE chains (key TEXT PRIMARY KEY, ids BLOB NOT NULL, events TEXT NOT NULL,"
            " state TEXT NOT NULL, versions TEXT NOT NULL, batch INTEGER NOT NULL) WITHOUT ROWID;"
            "INSERT INTO chains SELECT key, ids, events, state, versions, batch FROM new.chains;"
        )
    database.close()
    with Ledger(old) as opened:
        assert opened.chains(["c"]) == {"c": make_chain()}
        chains = [make_chain(), make_chain("d")]
        opened.record(chains, [make_answer()], tag="t", cost=Cost(), seconds=0)
        assert opened.chains(["d"]) == {"d": make_chain("d")}
        assert list(opened.dates(["c", "d"])) == ["d"]
    change(old, "UPDATE chains SET state = 'loop' WHERE key = 'd'")
    with pytest.raises(EngineError, match="'d'"), Ledger(old) as opened:
        opened.chains(["c", "d"])


@pytest.mark.parametrize("damage", ["zeros", "a page", "cut off", "text"])
def test_a_malformed_ledger_is_not_called_safe(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    chains = [Chain(key=f"c{number}", ids=tuple(range(200))) for number in range(400)]
    with Ledger(path) as opened:
        opened.record(chains, [], tag="t", cost=Cost(), seconds=0)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    if damage == "text":
        data[middle + 2000 : middle + 2100] = b"\xff" * 100
    elif damage == "cut off":
        del data[middle:]
    else:
        data[middle : middle + 4096] = bytes(4096) if damage == "zeros" else b"\x55" * 4096
    path.write_bytes(data)
    with pytest.raises(EngineError) as error, Ledger(path) as opened:
        opened.chains([chain.key for chain in chains])
    assert "safe" not in str(error.value)
    assert "Restore a backup" in str(error.value)


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    change(path, "CREATE TABLE photos (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(EngineError, match="tables photos; expected a ledger.*Nothing was changed"):
        Ledger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["[[package]]\nname = 'x'\n", "\xff\xfe"])
def test_a_lock_file_of_another_program_is_left_as_it_is(text: str, tmp_path: Path) -> None:
    (tmp_path / "poetry.lock").write_text(text)
    with pytest.raises(EngineError, match="is no lock of a ledger.*Nothing was changed"):
        Ledger(tmp_path / "poetry")
    assert [path.name for path in tmp_path.iterdir()] == ["poetry.lock"]
    assert (tmp_path / "poetry.lock").read_text() == text


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "/proc/ledger", "."])
def test_a_ledger_that_cannot_be_there_is_a_clear_error(path: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="expected a"):
        Ledger(Path(path))


# --- files of stages ------------------------------------------------------------------------------

SANDBOX = {"kind": "sandbox", "num_problems": 6, "num_heldout": 2}
SETTINGS: dict[str, Any] = {
    "name": "mine", "pool": {"sources": [SANDBOX]}, "filter": {"contamination": None}, "report": None,
}  # fmt: skip


def run(root: Path, *, update: bool = False, stages: tuple[str, ...] | None = None) -> list[str]:
    runs = run_recipe(
        parse_recipe(SETTINGS), root, update=update, stages=stages,
        reporter=ProgressReporter(quiet=True),
    )  # fmt: skip
    return [stage_run.stage for stage_run in runs if not stage_run.skipped]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    root: Path = tmp_path_factory.mktemp("finished") / "run"
    run(root)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def flip(path: Path, *, keep_times: bool = False) -> None:
    """Flip a bit in the middle."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    if keep_times:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip,
    "a flipped bit, the times kept": lambda path: flip(path, keep_times=True),
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "a folder": lambda path: (path.unlink(), path.mkdir()),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("file", ["data.parquet", "dropped.parquet"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stage_is_not_skipped(damage: str, file: str, root: Path) -> None:
    DAMAGES[damage](root / "pool" / file)
    with pytest.raises(DataError, match=rf"pool/{file}: .*expected the file as.*--update"):
        run(root)
    (root / "filter").rename(root / "old")
    with pytest.raises(DataError, match=rf"pool/{file}"):  # by a stage that reads it
        run(root, stages=("filter",))
    assert run(root, update=True) == ["pool", "filter"]
    assert run(root) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_not_read(damage: str, root: Path) -> None:
    DAMAGES[damage](root / "pool" / "data.parquet")
    with pytest.raises(DataError, match=r"pool(/data\.parquet)?"):
        read_records(root / "pool", Problem)


@pytest.mark.parametrize("damage", ["a flipped bit", "missing"])
def test_an_older_manifest_covers_the_rows(damage: str, root: Path) -> None:
    path = root / "pool" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]
    path.write_text(json.dumps(manifest))
    assert run(root) == []
    DAMAGES[damage](root / "pool" / "data.parquet")
    with pytest.raises(DataError, match=r"pool/data\.parquet"):
        run(root)


MANIFESTS = {
    "no JSON": "{", "a list": "[]", "empty": "", "deep": "[" * 20_000, "null": "null",
    "no settings": '{"stage_version": 2}', "binary": "\x00\x01", "a number": "7",
    "another type": '{"stage_version": "two", "settings": {}, "inputs": {}, "output_digest": ""}',
}  # fmt: skip
CHANGED_VALUES: dict[str, Any] = {
    "steps": ["a", [3], [{}], True, [{"name": "read", "num_in": 1, "num_out": 1, "reasons": 7}]],
    "versions": [[], {"pyarrow": []}, "x"], "facts": [None, []], "num_records": ["3", None],
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGED_VALUES)
def test_a_value_of_another_type_in_a_manifest_is_a_clear_error(key: str, root: Path) -> None:
    path = root / "pool" / "manifest.json"
    manifest = json.loads(path.read_text())
    for value in CHANGED_VALUES[key]:
        path.write_text(json.dumps(manifest | {key: value}))
        with pytest.raises(DataError, match=r"pool/manifest\.json: .*expected the manifest as"):
            open_run(root)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_a_clear_error(name: str, root: Path) -> None:
    (root / "pool" / "manifest.json").write_text(MANIFESTS[name])
    with pytest.raises(DataError, match=r"pool/manifest\.json: .*expected the manifest as"):
        run(root)
    assert run(root, update=True) == ["pool"], "filter was made from equal rows"
    assert run(root) == []


def test_a_manifest_that_is_not_utf8_is_a_clear_error(root: Path) -> None:
    (root / "pool" / "manifest.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="expected the manifest"):
        read_manifest(root / "pool")


@pytest.mark.parametrize("name", ["run.json", "pool/manifest.json"])
def test_a_pipe_in_place_of_a_file_does_not_hang(name: str, root: Path) -> None:
    (root / name).unlink()
    os.mkfifo(root / name)
    with pytest.raises(DataError, match="expected"):
        run(root)


TABLES = {
    "text": b"not parquet", "empty": b"", "magic alone": b"PAR1PAR1", "zeros": bytes(1000),
    "a footer that is too long": b"PAR1" + bytes(20) + b"\xff\xff\xff\x7fPAR1",
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_a_clear_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(TABLES[name])
    with pytest.raises(DataError, match=r"x\.parquet: .*expected a complete Parquet or JSONL"):
        read_records(path, Problem)


@pytest.mark.parametrize("text", ["{", "[1]\n", "7\n", '{"id": 1}\n', "\xff", "[" * 9999])
def test_damaged_lines_are_a_clear_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.jsonl: .*expected a complete Parquet or JSONL"):
        read_records(path, Problem)
