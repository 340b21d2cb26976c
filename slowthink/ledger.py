"""Every chain and answer that a model was asked for, once.

SQLite (WAL, one writer process, local disk). A chain is keyed without cap and number of waits, an
answer by its chain and cut: so a larger cap, more waits, problems or samples only add, and what was
finished is never asked again. A batch is recorded in one transaction: killed at any moment, the
ledger holds whole batches and needs no repair.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from slowthink.errors import EngineError
from slowthink.plain import from_plain, plain
from slowthink.records import Answer, AnswerEnd, Chain, ChainState, Cost, Event

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
_LOOKUP = 500
"""Keys asked for in one statement."""


class Ledger:
    """Chains and answers on disk; use as a context manager. One process at a time."""

    def __init__(self, path: Path, *, full_sync: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _lock(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise _explained(path, error) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._lock.close()

    def chains(self, keys: Sequence[str]) -> dict[str, Chain]:
        """The chains that are here, of these keys."""
        rows = self._select("SELECT key, ids, events, state FROM chains WHERE key IN", keys)
        return {
            key: Chain(
                key=key,
                ids=_ids(ids),
                events=tuple(from_plain(Event, event) for event in json.loads(events)),
                state=ChainState(state),
            )
            for key, ids, events, state in rows
        }

    def answers(self, chain_keys: Sequence[str]) -> dict[str, Answer]:
        """All answers to these chains, by their own keys."""
        rows = self._select(
            "SELECT key, chain_key, cut, closing, ids, end FROM answers WHERE chain_key IN",
            chain_keys,
        )
        return {
            key: Answer(
                key=key, chain_key=chain_key, cut=cut, closing=_ids(closing), ids=_ids(ids),
                end=AnswerEnd(end),
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
        """Store one batch, whole or not at all. A longer chain takes the place of a shorter one."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO chains VALUES (?, ?, ?, ?, ?, ?)",
                [_chain_row(chain, versions, batch) for chain in chains],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
                [_answer_row(answer, versions) for answer in answers],
            )
            figures = (cost.prefilled, cost.decoded, cost.forced, cost.re_prefilled, seconds)
            self._db.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?)", (tag, *figures))

    def spent(self, tag: str) -> tuple[Cost, float]:
        """Tokens and seconds spent under a tag so far, earlier attempts included."""
        query = (
            "SELECT COALESCE(SUM(prefilled), 0), COALESCE(SUM(decoded), 0), "
            "COALESCE(SUM(forced), 0), COALESCE(SUM(re_prefilled), 0), "
            "COALESCE(SUM(seconds), 0) FROM spent WHERE tag = ?"
        )
        prefilled, decoded, forced, again, seconds = self._db.execute(query, (tag,)).fetchone()
        cost = Cost(prefilled=prefilled, decoded=decoded, forced=forced, re_prefilled=again)
        return cost, seconds

    def _select(self, query: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _LOOKUP):
            part = keys[start : start + _LOOKUP]
            marks = ",".join("?" * len(part))
            yield from self._db.execute(f"{query} ({marks})", part)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise _explained(self.path, error) from error


def _lock(path: Path) -> IO[str]:
    """Hold the ledger for this process; the lock goes with the process, however it ends."""
    file = path.with_name(path.name + ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise EngineError(
            f"{path}: another process (pid {holder}) is writing this ledger; expected to be alone. "
            "Wait for it, or give the other run a ledger of its own: --set ledger=PATH"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _explained(path: Path, error: sqlite3.DatabaseError) -> EngineError:
    return EngineError(
        f"{path}: {error}. What was recorded before is safe; expected a writable ledger on a local "
        "disk with room. Mend that and give the same command again."
    )


def _chain_row(chain: Chain, versions: str, batch: int) -> tuple[Any, ...]:
    events = json.dumps(plain(chain.events))
    return chain.key, _blob(chain.ids), events, chain.state.value, versions, batch


def _answer_row(answer: Answer, versions: str) -> tuple[Any, ...]:
    return (
        answer.key, answer.chain_key, answer.cut, _blob(answer.closing), _blob(answer.ids),
        answer.end.value, versions,
    )  # fmt: skip


def _blob(ids: Sequence[int]) -> bytes:
    return array.array("I", ids).tobytes()


def _ids(blob: bytes) -> tuple[int, ...]:
    return tuple(array.array("I", blob))
