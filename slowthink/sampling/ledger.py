"""The ledger: all chains and answers that models have generated, each stored once.

SQLite (WAL, one writer process, local disk). A chain's key excludes cap and number of waits, and an
answer's key includes the chain and the cut. So for a larger cap, more waits, problems or samples,
only what is new is generated. Results and their cost are stored in one transaction: a process
killed at any moment leaves a valid ledger, in which every counted token is stored.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from slowthink.errors import EngineError
from slowthink.records import Answer, AnswerEnd, Chain, ChainState, Cost, Event
from slowthink.serialise import from_plain, plain

_SCHEMA = """
CREATE TABLE IF NOT EXISTS chains (
  key TEXT PRIMARY KEY, ids BLOB NOT NULL, events TEXT NOT NULL, state TEXT NOT NULL,
  versions TEXT NOT NULL, batch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, chain_key TEXT NOT NULL, cut INTEGER NOT NULL, closing BLOB NOT NULL,
  ids BLOB NOT NULL, end TEXT NOT NULL, versions TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_of_chain ON answers (chain_key);
CREATE TABLE IF NOT EXISTS spent (
  tag TEXT NOT NULL, prefilled INTEGER, decoded INTEGER, forced INTEGER, re_prefilled INTEGER,
  seconds REAL
);
"""
_LOCK_TIMEOUT_SECONDS = 10.0
"""Timeout while another program (a backup, the sqlite3 shell) has the file locked."""
_KEYS_PER_QUERY = 500


class Ledger:
    """Chains and answers on disk; a context manager, open in one process at a time.

    `full_sync`: wait until each transaction is on disk, so that nothing is lost in a power cut.
    Raises EngineError if another process has the ledger open, or if it cannot be written.
    """

    def __init__(self, path: Path, *, full_sync: bool = False) -> None:
        self.path = path
        self._lock_file = _lock(path)
        try:
            self._db = _connect(path, full_sync=full_sync)
        except sqlite3.DatabaseError as error:
            self._lock_file.close()
            raise _ledger_error(path, error) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._lock_file.close()

    def chains(self, keys: Sequence[str]) -> dict[str, Chain]:
        """Return the stored chains among these keys, by key."""
        rows = self._select("SELECT key, ids, events, state FROM chains WHERE key IN", keys)
        return {
            key: Chain(
                key=key,
                ids=_unpack_ids(ids),
                events=tuple(from_plain(Event, event) for event in json.loads(events)),
                state=ChainState(state),
            )
            for key, ids, events, state in rows
        }

    def answers(self, chain_keys: Sequence[str]) -> dict[str, Answer]:
        """Return all stored answers of these chains, by answer key."""
        rows = self._select(
            "SELECT key, chain_key, cut, closing, ids, end FROM answers WHERE chain_key IN",
            chain_keys,
        )
        return {
            key: Answer(
                key=key, chain_key=chain_key, num_thinking_tokens=cut, closing=_unpack_ids(closing),
                ids=_unpack_ids(ids), end_reason=AnswerEnd(end),
            )
            for key, chain_key, cut, closing, ids, end in rows
        }  # fmt: skip

    def record(
        self,
        chains: Iterable[Chain],
        answers: Iterable[Answer],
        *,
        tag: str,
        cost: Cost,
        seconds: float,
        versions: str = "",
        batch: int = 0,
    ) -> None:
        """Store results in one transaction. A chain replaces the stored one with the same key."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO chains VALUES (?, ?, ?, ?, ?, ?)",
                [_chain_row(chain, versions, batch) for chain in chains],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
                [_answer_row(answer, versions) for answer in answers],
            )
            spent = (tag, cost.prefilled, cost.decoded, cost.forced, cost.re_prefilled, seconds)
            self._db.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?)", spent)

    def spent(self, tag: str) -> tuple[Cost, float]:
        """Return tokens and seconds spent under a tag, including those of interrupted runs."""
        query = (
            "SELECT COALESCE(SUM(prefilled), 0), COALESCE(SUM(decoded), 0), "
            "COALESCE(SUM(forced), 0), COALESCE(SUM(re_prefilled), 0), "
            "COALESCE(SUM(seconds), 0) FROM spent WHERE tag = ?"
        )
        try:
            row = self._db.execute(query, (tag,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise _ledger_error(self.path, error) from error
        prefilled, decoded, forced, re_prefilled, seconds = row
        cost = Cost(prefilled=prefilled, decoded=decoded, forced=forced, re_prefilled=re_prefilled)
        return cost, seconds

    def _select(self, query: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            batch = keys[start : start + _KEYS_PER_QUERY]
            placeholders = ",".join("?" * len(batch))
            try:
                rows = self._db.execute(f"{query} ({placeholders})", batch).fetchall()
            except sqlite3.DatabaseError as error:
                raise _ledger_error(self.path, error) from error
            yield from rows

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _ledger_error(self.path, error) from error


def _connect(path: Path, *, full_sync: bool) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=_LOCK_TIMEOUT_SECONDS)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
        database.executescript(_SCHEMA)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _lock(path: Path) -> IO[str]:
    """Lock the ledger until this process ends, even if it is killed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(path.name + ".lock").open("a+")
    except OSError as error:
        raise _ledger_error(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        raise EngineError(
            f"{path}: another process (pid {pid}) has this ledger open; expected no other. "
            "Wait for it, or give one of the runs its own ledger: --set ledger=PATH"
        ) from None
    with contextlib.suppress(OSError):  # the disk may be full; the lock works without the pid
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file


def _ledger_error(path: Path, error: sqlite3.DatabaseError | OSError) -> EngineError:
    return EngineError(
        f"{path}: {error}. Everything recorded before is safe; expected a writable ledger on a "
        "local disk with free space, not locked by another program. Fix this and run the same "
        "command again."
    )


def _chain_row(chain: Chain, versions: str, batch: int) -> tuple[Any, ...]:
    events = json.dumps(plain(chain.events))
    return chain.key, _pack_ids(chain.ids), events, chain.state.value, versions, batch


def _answer_row(answer: Answer, versions: str) -> tuple[Any, ...]:
    return (
        answer.key, answer.chain_key, answer.num_thinking_tokens, _pack_ids(answer.closing),
        _pack_ids(answer.ids), answer.end_reason.value, versions,
    )  # fmt: skip


def _pack_ids(ids: Sequence[int]) -> bytes:
    return array.array("I", ids).tobytes()


def _unpack_ids(blob: bytes) -> tuple[int, ...]:
    return tuple(array.array("I", blob))
