"""The ledger: all chains, answers and scores that models have given, each stored once.

SQLite (WAL, one writer process, local disk). A chain's key excludes cap and number of waits, and an
answer's key includes the chain and the cut. So for a larger cap, more waits, problems or samples,
only what is new is generated. Results and their cost are stored in one transaction: a process
killed at any moment leaves a valid ledger, in which every counted token is stored. Each row has a
digest, checked when it is read, since a bit that flips on a disk changes no length; rows of older
ledgers have none. The time at which a row was stored is beside it, for provenance: no decision
depends on it, and the digest does not cover it.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from slowthink.errors import EngineError
from slowthink.records import Answer, AnswerEnd, Chain, ChainState, Cost, Event, Reported
from slowthink.serialise import from_plain, plain

R = TypeVar("R")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS chains (
  key TEXT PRIMARY KEY, ids BLOB NOT NULL, events TEXT NOT NULL, state TEXT NOT NULL,
  versions TEXT NOT NULL, batch INTEGER NOT NULL, digest BLOB, created TEXT, reported TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, chain_key TEXT NOT NULL, cut INTEGER NOT NULL, closing BLOB NOT NULL,
  ids BLOB NOT NULL, end TEXT NOT NULL, versions TEXT NOT NULL,
  digest BLOB, created TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_of_chain ON answers (chain_key);
CREATE TABLE IF NOT EXISTS spent (
  tag TEXT NOT NULL, prefilled INTEGER, decoded INTEGER, forced INTEGER, re_prefilled INTEGER,
  seconds REAL
);
CREATE TABLE IF NOT EXISTS scores (
  key TEXT PRIMARY KEY, value TEXT NOT NULL, digest BLOB, created TEXT
) WITHOUT ROWID;
"""
_ADDED_COLUMNS = {
    "chains": {"digest": "BLOB", "created": "TEXT", "reported": "TEXT"},
    "answers": {"digest": "BLOB", "created": "TEXT"},
}
"""Columns that older ledgers lack, in the order in which they were added."""
_STORE_CHAIN = """
INSERT INTO chains (key, ids, events, state, reported, digest, versions, batch, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
  created = CASE WHEN ids = excluded.ids THEN created ELSE excluded.created END,
  ids = excluded.ids, events = excluded.events, state = excluded.state,
  reported = excluded.reported, digest = excluded.digest, versions = excluded.versions,
  batch = excluded.batch
"""
"""A chain that is stored again with a further answer keeps its time."""
_STORE_ANSWER = """
INSERT OR IGNORE INTO answers
  (key, chain_key, cut, closing, ids, end, digest, versions, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_REMEDY = (
    "Restore a backup of it; or move it away and run the same command again, which generates "
    "everything anew."
)
_LOCK_TIMEOUT_SECONDS = 10.0
"""Timeout while another program (a backup, the sqlite3 shell) has the file locked."""
_KEYS_PER_QUERY = 500


class Ledger:
    """Chains, answers and scores on disk; a context manager, open in one process at a time.

    `full_sync`: wait until each transaction is on disk, so that nothing is lost in a power cut.
    Raises EngineError if another process has the ledger open, or if it cannot be written.
    """

    def __init__(self, path: Path, *, full_sync: bool = False) -> None:
        self.path = path
        self._lock_file = _lock(path)
        try:
            self._db = _connect(path, full_sync=full_sync)
        except (sqlite3.DatabaseError, EngineError) as error:
            self._lock_file.close()
            if isinstance(error, EngineError):
                raise
            raise _ledger_error(path, error) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()
        self._lock_file.close()

    def chains(self, keys: Sequence[str]) -> dict[str, Chain]:
        """Return the stored chains among these keys, by key."""
        rows = self._select(
            "SELECT key, ids, events, state, reported, digest FROM chains WHERE key IN", keys
        )
        return self._read(rows, "chains", _to_chain)

    def dates(self, chain_keys: Sequence[str]) -> dict[str, str]:
        """Return when each of these chains was completed: `2026-01-31T23:59:59Z`, in UTC. Chains of
        ledgers from before times were stored are left out."""
        query = "SELECT key, created FROM chains WHERE created IS NOT NULL AND key IN"
        return dict(self._select(query, chain_keys))

    def answers(self, chain_keys: Sequence[str]) -> dict[str, Answer]:
        """Return all stored answers of these chains, by answer key."""
        rows = self._select(
            "SELECT key, chain_key, cut, closing, ids, end, digest FROM answers WHERE chain_key IN",
            chain_keys,
        )
        return self._read(rows, "answers", _to_answer)

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
        now = _now()
        with self._transaction():
            self._db.executemany(
                _STORE_CHAIN, [(*_chain_row(chain), versions, batch, now) for chain in chains]
            )
            self._db.executemany(
                _STORE_ANSWER, [(*_answer_row(answer), versions, now) for answer in answers]
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

    def values(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the stored values among these keys: scores by a model, as JSON data.

        A key is a digest of all that decides the value: the model's fingerprint, the chain, the
        score's version and its settings.
        """
        rows = self._select("SELECT key, value, digest FROM scores WHERE key IN", keys)
        return self._read(rows, "scores", lambda _, value: json.loads(value))

    def record_values(self, values: Mapping[str, Any]) -> None:
        """Store values by key in one transaction. A value replaces the stored one."""
        texts = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        now = _now()
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO scores (key, value, digest, created) VALUES (?, ?, ?, ?)",
                [(key, text, _digest(key, text), now) for key, text in texts.items()],
            )

    def _read(
        self, rows: Iterable[tuple[Any, ...]], table: str, convert: Callable[..., R]
    ) -> dict[str, R]:
        """The rows' records by key. Raises EngineError that names the damaged rows."""
        records: dict[str, R] = {}
        damaged: list[str] = []
        for *values, digest in rows:
            try:
                if digest is not None and digest != _digest(*values):
                    raise ValueError
                records[values[0]] = convert(*values)
            except (ValueError, TypeError, KeyError, RecursionError):
                damaged.append(str(values[0]))
        if damaged:
            raise _damaged_rows(self.path, table, damaged)
        return records

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
    try:
        database = sqlite3.connect(path, isolation_level=None, timeout=_LOCK_TIMEOUT_SECONDS)
    except ValueError as error:  # a NUL in the name
        raise sqlite3.OperationalError(str(error)) from None
    try:
        columns = _columns(database)
        if columns and not {"ids", "events", "state"} <= columns.get("chains", set()):
            raise _not_a_ledger(path, columns)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={'FULL' if full_sync else 'NORMAL'}")
        database.executescript(_SCHEMA)
        for table, added in _ADDED_COLUMNS.items():
            for column in added if table in columns else ():
                if column not in columns[table]:
                    database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {added[column]}")
    except (sqlite3.DatabaseError, EngineError):
        database.close()
        raise
    return database


def _columns(database: sqlite3.Connection) -> dict[str, set[str]]:
    """Names of the columns of each table; empty for a new file."""
    rows = database.execute(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c "
        "WHERE m.type = 'table'"
    )
    columns: dict[str, set[str]] = {}
    for table, column in rows:
        columns.setdefault(table, set()).add(column)
    return columns


def _lock(path: Path) -> IO[str]:
    """Lock the ledger until this process ends, even if it is killed."""
    try:
        if path.is_dir():
            raise IsADirectoryError("is a folder; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(path.name + ".lock").open("a+", encoding="utf-8", errors="replace")
    except (OSError, ValueError) as error:
        raise _ledger_error(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read(200).strip() or "unknown"
        file.close()
        raise EngineError(
            f"{path}: another process (pid {pid}) has this ledger open; expected no other. "
            "Wait for it, or give one of the runs its own ledger: --set ledger=PATH"
        ) from None
    file.seek(0)
    if (text := file.read(200).strip()) and not text.isdecimal():
        file.close()
        raise EngineError(
            f"{path}.lock: is no lock of a ledger (it begins with {text[:40]!r}); expected a pid, "
            "or no file. Nothing was changed. Name another ledger: --set ledger=PATH"
        )
    with contextlib.suppress(OSError):  # the disk may be full; the lock works without the pid
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file


def _ledger_error(path: Path, error: Exception) -> EngineError:
    """The error for a ledger that is damaged, or that can be used once the cause is gone."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or "decode" in str(error).lower():
        return EngineError(
            f"{path}: {error}; expected a ledger that slowthink wrote. It is damaged, or another "
            f"file. {_REMEDY}"
        )
    return EngineError(
        f"{path}: {error}. Everything recorded before is safe; expected a writable ledger on a "
        "local disk with free space, not locked by another program. Fix this and run the same "
        "command again."
    )


def _not_a_ledger(path: Path, tables: Iterable[str]) -> EngineError:
    return EngineError(
        f"{path}: a database with the tables {', '.join(sorted(tables))[:100]}; expected a ledger "
        "of slowthink, or no file. Nothing was changed. Name another: --set ledger=PATH"
    )


def _damaged_rows(path: Path, table: str, keys: Sequence[str]) -> EngineError:
    listed = ", ".join(f"'{key}'" for key in keys[:5])
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return EngineError(
        f"{path}: {len(keys)} damaged row(s) in `{table}` ({listed}{more}); expected each with the "
        f"digest with which it was stored. {_REMEDY} To generate these rows alone again: "
        f'sqlite3 {path} "DELETE FROM {table} WHERE key IN ({listed})"'
    )


# --- rows -----------------------------------------------------------------------------------------


def _chain_row(chain: Chain) -> tuple[Any, ...]:
    events = json.dumps(plain(chain.events))
    reported = json.dumps(plain(chain.reported)) if chain.reported else None
    values = chain.key, _pack_ids(chain.ids), events, chain.state.value, reported
    return *values, _digest(*values)


def _to_chain(key: str, ids: bytes, events: str, state: str, reported: str | None) -> Chain:
    return Chain(
        key=key,
        ids=_unpack_ids(ids),
        events=tuple(from_plain(Event, event) for event in json.loads(events)),
        state=ChainState(state),
        reported=from_plain(Reported, json.loads(reported)) if reported is not None else None,
    )


def _answer_row(answer: Answer) -> tuple[Any, ...]:
    values = (
        answer.key, answer.chain_key, answer.num_thinking_tokens, _pack_ids(answer.closing),
        _pack_ids(answer.ids), answer.end_reason.value,
    )  # fmt: skip
    return *values, _digest(*values)


def _to_answer(key: str, chain_key: str, cut: int, closing: bytes, ids: bytes, end: str) -> Answer:
    return Answer(
        key=key, chain_key=chain_key, num_thinking_tokens=cut, closing=_unpack_ids(closing),
        ids=_unpack_ids(ids), end_reason=AnswerEnd(end),
    )  # fmt: skip


def _digest(*values: object) -> bytes:
    """Eight bytes of BLAKE2 of a row's values, each after its length. A column without a value
    counts as absent, as in rows from before there was that column."""
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        if value is None:
            continue
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)
    return digest.digest()


def _now() -> str:
    """The time in UTC, in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _pack_ids(ids: Sequence[int]) -> bytes:
    return array.array("I", ids).tobytes()


def _unpack_ids(blob: bytes) -> tuple[int, ...]:
    return tuple(array.array("I", blob))
