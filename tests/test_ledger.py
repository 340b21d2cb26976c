"""The ledger: durable, exactly once, one writer."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from slowthink.errors import EngineError
from slowthink.ledger import Ledger
from slowthink.records import Answer, AnswerEnd, Chain, ChainState, Cost, Event, EventKind


def make_chain(key: str = "c", length: int = 3) -> Chain:
    event = Event(position=1, kind=EventKind.WAIT, drawn=(9,), forced=2)
    return Chain(key=key, ids=tuple(range(length)), events=(event,), state=ChainState.ENDED)


def make_answer(key: str = "a") -> Answer:
    return Answer(key=key, chain_key="c", cut=2, closing=(7,), ids=(1, 70_000), end=AnswerEnd.STOP)


def test_what_is_recorded_comes_back_the_same(tmp_path) -> None:
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


def test_a_file_that_is_no_ledger_is_an_error(tmp_path) -> None:
    path = tmp_path / "l.sqlite"
    path.write_text("this is not a database, but it is long enough to look like a file" * 20)
    with pytest.raises(EngineError, match="not a database"):
        Ledger(path)


def test_a_failed_write_loses_nothing_recorded_before(tmp_path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.record([make_chain()], [], tag="t", cost=Cost(), seconds=0)
        ledger._db.execute("PRAGMA max_page_count = 8")  # a disk that is full
        many = [make_chain(f"big{i}", length=5000) for i in range(20)]
        with pytest.raises(EngineError, match="full.*What was recorded before is safe"):
            ledger.record(many, [], tag="t", cost=Cost(), seconds=0)
        assert list(ledger.chains(["c", "big0"])) == ["c"]


WRITER = """
import sys
from pathlib import Path
from slowthink.ledger import Ledger
from slowthink.records import Chain, Cost
with Ledger(Path(sys.argv[1])) as ledger:
    for batch in range(100000):
        chains = [Chain(key=f"{batch}-{i}", ids=(batch,) * 50) for i in range(20)]
        ledger.record(chains, [], tag="t", cost=Cost(decoded=20), seconds=0)
        print(batch, flush=True)
"""


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.4])
def test_killed_at_any_moment_it_holds_whole_batches_and_all_that_were_told(
    tmp_path, delay
) -> None:
    path = tmp_path / "l.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    told = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    with Ledger(path) as ledger:
        keys = [f"{batch}-{i}" for batch in range(max(told) + 3) for i in range(20)]
        found = ledger.chains(keys)
        cost, _ = ledger.spent("t")
    assert len(found) % 20 == 0
    assert len(found) >= 20 * (max(told) + 1)
    assert cost.decoded == len(found)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
