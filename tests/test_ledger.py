"""The ledger: nothing is lost, each result is stored once, one process writes."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.killing import SCRIPTED, killed_run
from slowthink.errors import EngineError
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe import Recipe
from slowthink.records import (
    Answer,
    AnswerEnd,
    Chain,
    ChainState,
    Cost,
    Event,
    EventKind,
    Reported,
)
from slowthink.sampling.ledger import Ledger


def make_chain(key: str = "c", length: int = 3) -> Chain:
    event = Event(position=1, kind=EventKind.WAIT, drawn=(9,), forced=2)
    return Chain(key=key, ids=tuple(range(length)), events=(event,), state=ChainState.ENDED)


def make_answer(key: str = "a") -> Answer:
    return Answer(
        key=key, chain_key="c", num_thinking_tokens=2, closing=(7,), ids=(1, 70_000),
        end_reason=AnswerEnd.STOP,
    )  # fmt: skip


def test_stored_results_are_read_back_unchanged(tmp_path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record([make_chain()], [make_answer()], tag="t", cost=Cost(decoded=5), seconds=1.5)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.chains(["c", "missing"]) == {"c": make_chain()}
        assert ledger.answers(["c"]) == {"a": make_answer()}
        assert ledger.spent("t") == (Cost(decoded=5), 1.5)


def test_a_longer_chain_replaces_a_shorter_and_an_answer_stays(tmp_path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for length in (3, 6):
            ledger.record(
                [make_chain(length=length)], [make_answer()], tag="t", cost=Cost(), seconds=0
            )
        assert len(ledger.chains(["c"])["c"].ids) == 6
        assert len(ledger.answers(["c"])) == 1


@pytest.mark.parametrize(
    "reported", [Reported(), Reported(num_thinking_tokens=7, hidden="counted only")]
)
def test_what_an_api_reported_is_stored_with_its_chain(reported, tmp_path) -> None:
    chain = replace(make_chain(), reported=reported)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record([chain], [], tag="t", cost=Cost(), seconds=0)
        assert ledger.chains(["c"]) == {"c": chain}


def test_a_chain_has_the_time_at_which_it_was_completed(tmp_path, monkeypatch) -> None:
    def record(seconds: int, chain: Chain) -> dict[str, str]:
        monkeypatch.setattr("time.gmtime", lambda: gmtime(seconds))
        with Ledger(tmp_path / "l.sqlite") as ledger:
            ledger.record([chain], [make_answer()], tag="t", cost=Cost(), seconds=0)
            return ledger.dates(["c", "missing"])

    gmtime = time.gmtime
    assert record(0, make_chain()) == {"c": "1970-01-01T00:00:00Z"}
    assert record(60, make_chain()) == {"c": "1970-01-01T00:00:00Z"}, "with a further answer"
    assert record(120, make_chain(length=9)) == {"c": "1970-01-01T00:02:00Z"}, "extended"


def test_values_are_stored_once_by_key_and_replaced(tmp_path) -> None:
    values = {"a": 0.1 + 0.2, "b": {"rank": [1, None], "说": "等等"}, "c": float("nan")}
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record_values(values)
        ledger.record_values({"b": "new"})
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.values(["a", "b", "missing"]) == {"a": 0.1 + 0.2, "b": "new"}
        assert math.isnan(ledger.values(["c"])["c"])


def test_more_keys_than_one_statement_takes(tmp_path) -> None:
    chains = [make_chain(f"c{i}") for i in range(1203)]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record(chains, [], tag="t", cost=Cost(), seconds=0)
        assert len(ledger.chains([chain.key for chain in chains])) == 1203


def test_a_second_writer_is_refused_with_the_pid_of_the_first(tmp_path) -> None:
    with (
        Ledger(tmp_path / "l.sqlite"),
        pytest.raises(EngineError, match=rf"pid {os.getpid()}.*ledger=PATH"),
    ):
        Ledger(tmp_path / "l.sqlite")


def test_a_file_that_is_not_a_ledger_is_an_error(tmp_path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_text("this is not a database, but it is long enough to look like a file" * 20)
    with pytest.raises(EngineError, match="not a database"):
        Ledger(path)


def test_a_failed_write_loses_nothing_recorded_before(tmp_path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record([make_chain()], [], tag="t", cost=Cost(), seconds=0)
        ledger._db.execute("PRAGMA max_page_count = 8")  # a disk that is full
        many = [make_chain(f"big{i}", length=5000) for i in range(20)]
        with pytest.raises(EngineError, match="full.*Everything recorded before is safe"):
            ledger.record(many, [], tag="t", cost=Cost(), seconds=0)
        assert list(ledger.chains(["c", "big0"])) == ["c"]


WRITER = """
import sys
from pathlib import Path
from slowthink.sampling.ledger import Ledger
from slowthink.records import Chain, Cost
with Ledger(Path(sys.argv[1])) as ledger:
    for batch in range(100000):
        chains = [Chain(key=f"{batch}-{i}", ids=(batch,) * 50) for i in range(20)]
        ledger.record(chains, [], tag="t", cost=Cost(decoded=20), seconds=0)
        print(batch, flush=True)
"""


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.4])
def test_a_killed_ledger_contains_whole_batches_and_all_reported_ones(tmp_path, delay) -> None:
    path = tmp_path / "l.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    reported = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    with Ledger(path) as ledger:
        keys = [f"{batch}-{i}" for batch in range(max(reported) + 3) for i in range(20)]
        chains = ledger.chains(keys)
        cost, _ = ledger.spent("t")
    assert len(chains) % 20 == 0
    assert len(chains) >= 20 * (max(reported) + 1)
    assert cost.decoded == len(chains)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.slow
def test_a_run_killed_again_and_again_samples_each_token_once(tmp_path) -> None:
    figures = killed_run(
        tmp_path, model=SCRIPTED, num_problems=30, num_kills=6, most_records=50, seed=3
    )
    assert figures["kills"] >= 4
    assert figures["same_completions"] and figures["same_chains"] and figures["same_answers"]
    assert figures["tokens_counted"] == figures["tokens_durable"]
    assert figures["tokens_counted"] == figures["tokens_without_kills"]


# --- disks and files that fail --------------------------------------------------------------------


@pytest.fixture
def small_disk():
    """A file system of 400 kB."""
    folder = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("not allowed to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def test_a_full_disk_is_a_clear_error_and_loses_nothing_recorded(small_disk, tmp_path) -> None:
    path = small_disk / "l.sqlite"
    chains = [make_chain(f"c{i}", length=2000) for i in range(200)]
    num_stored = 0
    with Ledger(path) as ledger, pytest.raises(EngineError) as error:
        for chain in chains:
            ledger.record([chain], [], tag="t", cost=Cost(decoded=1), seconds=0)
            num_stored += 1
    assert "full" in str(error.value) and "Everything recorded before is safe" in str(error.value)
    assert 5 < num_stored < 200
    subprocess.run(["cp", "-r", f"{small_disk}/.", str(tmp_path)], check=True)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert list(ledger.chains([chain.key for chain in chains])) == sorted(
            chain.key for chain in chains[:num_stored]
        )
        assert ledger.spent("t")[0].decoded == num_stored
        for chain in chains[num_stored:]:  # with free space it continues
            ledger.record([chain], [], tag="t", cost=Cost(decoded=1), seconds=0)
        assert ledger.spent("t")[0].decoded == 200


def test_a_disk_that_is_full_from_the_start_is_a_clear_error(small_disk) -> None:
    (small_disk / "big").write_bytes(b"0" * 380_000)
    expected = pytest.raises(EngineError, match=r"l\.sqlite: .*expected a writable ledger")
    with expected, Ledger(small_disk / "l.sqlite") as ledger:
        ledger.record([make_chain(length=9000)], [], tag="t", cost=Cost(), seconds=0)


WRITE_AS_NOBODY = """
import os, sys
from pathlib import Path
path = Path(sys.argv[1])
from slowthink.errors import EngineError
from slowthink.sampling.ledger import Ledger
from slowthink.records import Chain, Cost
if os.geteuid() == 0:
    os.setuid(65534)
try:
    with Ledger(path) as ledger:
        ledger.record([Chain(key="c")], [], tag="t", cost=Cost(), seconds=0)
except EngineError as error:
    print(error)
"""


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_ledger_is_a_clear_error(read_only) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "l.sqlite"
        if read_only == "file":
            with Ledger(path):
                pass
            (folder / "l.sqlite.lock").chmod(0o666)
            folder.chmod(0o777)
            path.chmod(0o444)
        else:
            folder.chmod(0o555)
        child = subprocess.run(
            [sys.executable, "-c", WRITE_AS_NOBODY, str(path)], capture_output=True, text=True
        )
        folder.chmod(0o700)
    assert "Everything recorded before is safe; expected a writable ledger" in child.stdout, child


def test_a_ledger_that_another_program_has_locked_is_a_clear_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("slowthink.sampling.ledger._LOCK_TIMEOUT_SECONDS", 0.05)
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.record([make_chain()], [], tag="t", cost=Cost(), seconds=0)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(EngineError, match="locked.*not locked by another program"):
            ledger.record([make_chain("d")], [], tag="t", cost=Cost(decoded=1), seconds=0)
        other.execute("ROLLBACK")
        other.close()
        ledger.record([make_chain("d")], [], tag="t", cost=Cost(decoded=1), seconds=0)
        assert set(ledger.chains(["c", "d"])) == {"c", "d"}
        assert ledger.spent("t")[0].decoded == 1


@pytest.mark.parametrize(("full", "number"), [(False, 1), (True, 2)])
def test_full_sync_is_a_setting(tmp_path, full, number) -> None:
    """PRAGMA synchronous: 1 is NORMAL, 2 is FULL."""
    with Ledger(tmp_path / "l.sqlite", full_sync=full) as ledger:
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (number,)


def test_the_recipes_setting_reaches_the_ledger(tmp_path) -> None:
    recipe = Recipe(name="r", ledger_sync="full")
    context = make_context(recipe, tmp_path, "evaluate")
    with context.open_ledger() as ledger:
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_folder_is_no_ledger_and_nothing_is_left_beside_it(tmp_path) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(EngineError, match=r"cache: is a folder; name a file\. "):
        Ledger(tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
