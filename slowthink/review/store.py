"""`review.sqlite`: judgements as people make them, and who is reviewing just now.

    with ReviewStore(run / "review.sqlite") as store:
        session = store.enter("Ann")
        store.add(judgement, seen=0)

Every judgement is a transaction that is on the disk before the page answers. Nothing is changed or
deleted: one that is made again is added, and the last one counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slowthink.data.reviews import APPLICATION_ID, Judgement, to_judgement
from slowthink.errors import DataError, EngineError
from slowthink.serialise import plain

SEAT_SECONDS = 90
"""A reviewer's name is free again this long after the last sign of the browser that has it; a page
that is open gives one every 30 s."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS judgements (
    id INTEGER PRIMARY KEY, item TEXT NOT NULL, reviewer TEXT NOT NULL, value TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS seats (
    reviewer TEXT PRIMARY KEY, session TEXT NOT NULL, seen REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS secret (key BLOB NOT NULL);
"""


class Changed(Exception):
    """A judgement was changed after the page that changes it again was made."""


class Taken(Exception):
    """Somebody else is reviewing under this name."""


class ReviewStore:
    """The database of one run's reviews; a context manager. Several processes may have it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: list[Judgement] = []
        """Those read so far: rows are only added, with numbers from 1."""
        with self._errors():
            self._db = _connect(path)
            with self._transaction():
                if self._db.execute("SELECT 1 FROM secret").fetchone() is None:
                    self._db.execute("INSERT INTO secret VALUES (?)", [secrets.token_bytes(32)])
                self._secret = bytes(self._db.execute("SELECT key FROM secret").fetchone()[0])

    def __enter__(self) -> ReviewStore:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def judgements(self) -> list[Judgement]:
        """All judgements, in the order in which they were made."""
        with self._errors():
            rows = self._db.execute(
                "SELECT id, value FROM judgements WHERE id > ? ORDER BY id", [len(self._known)]
            ).fetchall()
            self._known += [to_judgement(json.loads(value)) for _, value in rows]
        return list(self._known)

    def last_number(self, item: str, reviewer: str) -> int:
        """Number of a reviewer's last judgement of an item; 0 for none."""
        query = "SELECT MAX(id) FROM judgements WHERE item = ? AND reviewer = ?"
        with self._errors():
            return self._db.execute(query, [item, reviewer]).fetchone()[0] or 0

    def add(self, judgement: Judgement, *, seen: int) -> int:
        """Store a judgement and return its number. `seen`: number of the reviewer's last one of
        this item that the page showed, 0 for none. Raises Changed if there is a later one."""
        with self._errors(), self._transaction():
            if self.last_number(judgement.item, judgement.reviewer) != seen:
                raise Changed
            return self._insert(judgement)

    def add_all(self, judgements: Iterable[Judgement]) -> int:
        """Store those that are not there yet, all or none; returns their number."""
        with self._errors(), self._transaction():
            known = set(self.judgements())
            new = [judgement for judgement in dict.fromkeys(judgements) if judgement not in known]
            for judgement in new:
                self._insert(judgement)
        return len(new)

    def _insert(self, judgement: Judgement) -> int:
        value = json.dumps(plain(judgement), ensure_ascii=False)
        cursor = self._db.execute(
            "INSERT INTO judgements (item, reviewer, value) VALUES (?, ?, ?)",
            [judgement.item, judgement.reviewer, value],
        )
        return cursor.lastrowid or 0

    # --- who is reviewing -------------------------------------------------------------------------

    def enter(self, reviewer: str, *, clock: float | None = None) -> str:
        """Take the seat of this name and return the session's secret. Raises Taken if another
        browser has it. Names that differ only in case are the same."""
        moment = time.time() if clock is None else clock
        session, key = secrets.token_urlsafe(24), reviewer.casefold()
        with self._errors(), self._transaction():
            rows = self._db.execute("SELECT reviewer, seen FROM seats").fetchall()
            if any(name.casefold() == key and moment - seen < SEAT_SECONDS for name, seen in rows):
                raise Taken(reviewer)
            known = [name for name, _ in rows if name.casefold() == key]
            self._db.execute(
                "INSERT OR REPLACE INTO seats VALUES (?, ?, ?)",
                [known[0] if known else reviewer, _hash(session), moment],
            )
        return session

    def reviewer_of(self, session: str) -> str | None:
        """The reviewer whose session this is, who is now seen; None if it has ended."""
        with self._errors():
            row = self._db.execute(
                "SELECT reviewer, seen FROM seats WHERE session = ?", [_hash(session)]
            ).fetchone()
        if row and time.time() - row[1] > SEAT_SECONDS / 6:
            with contextlib.suppress(sqlite3.OperationalError):  # a full disk stops no reader
                self._db.execute(
                    "UPDATE seats SET seen = ? WHERE session = ?", [time.time(), _hash(session)]
                )
        return row and str(row[0])

    def leave(self, session: str) -> None:
        """Free the seat of this session."""
        with self._errors():
            self._db.execute(
                "UPDATE seats SET seen = 0, session = '' WHERE session = ?", [_hash(session)]
            )

    def form_token(self, session: str) -> str:
        """What a form of this session must send, and no other site can know."""
        return hmac.new(self._secret, session.encode(), "sha256").hexdigest()

    # --- transactions -----------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            raise _store_error(self.path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        has_tables = database.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
        if application != APPLICATION_ID and has_tables:
            raise DataError(
                f"{path}: a database of another program; expected one of reviews, or no file. "
                "Nothing was changed. Move it away, then run the same command again."
            )
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute(f"PRAGMA application_id={APPLICATION_ID}")
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


def _hash(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()


def _store_error(path: Path, error: Exception) -> Exception:
    if isinstance(error, DataError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT) or isinstance(error, ValueError):
        return DataError(
            f"{path}: {error}; expected a database of reviews, as `slowthink review` wrote it. "
            "Restore the file; or move it away, and --import an export of it."
        )
    return EngineError(
        f"{path}: {error}; expected a file that can be written, on a local disk with free space. "
        "What was saved before is safe. Free disk space or make the folder writable, then save "
        "again."
    )
