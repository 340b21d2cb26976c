"""People's judgements of chains: as records, in a run's `review.sqlite`, and as JSONL.

{"kind": "chain", "item": "c-9a1f…", "problem_id": "p-0c1e…", "reviewer": "Ann", "level": 4,
 "flags": ["gap"], "note": "skips a case", "preferred": null, "blind": true, "at": "2026-11-28T…Z"}

The table only grows: a judgement that is changed is added again, and the last one counts.
"""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowthink.errors import DataError
from slowthink.records import group_by
from slowthink.serialise import digest, from_plain, json_lines, plain, read_text

DATABASE = "review.sqlite"
"""In the run folder."""
APPLICATION_ID = 0x736C7276
"""Marks an SQLite file as a database of reviews."""
LEVELS = range(1, 6)
BAD = "bad"
"""The flag of a chain that is not to be trained on."""
FLAGS = {
    BAD: "not to be trained on", "error": "a wrong step", "gap": "a crucial step is missing",
    "repetitive": "goes in circles", "unclear": "hard to follow", "language": "mixes languages",
}  # fmt: skip
EQUAL = "equal"
"""`preferred` where neither of two chains is better."""
PAIR = "~"
"""Joins the ids of the two chains of a pair."""
TIME = "%Y-%m-%dT%H:%M:%SZ"
MAX_NAME, MAX_NOTE = 40, 10_000
"""Characters of a reviewer's name and of a note."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What one person says about one chain, or about two chains of one problem."""

    kind: str
    """chain | pair."""
    item: str
    """The chain's id; of a pair, both ids joined by `~`, in order."""
    problem_id: str
    reviewer: str
    level: int | None = None
    """1 (worst) to 5; None for a pair, and for a bad chain without one."""
    flags: tuple[str, ...] = ()
    """Keys of FLAGS, in their order."""
    note: str = ""
    preferred: str | None = None
    """Of a pair: the better chain's id, or `equal`."""
    blind: bool = True
    """Made without knowledge of the scores and of other reviewers' judgements."""
    at: str
    """UTC, ISO 8601."""

    @property
    def is_bad(self) -> bool:
        """Whether the chain is not to be trained on."""
        return BAD in self.flags


def now() -> str:
    """The time as `Judgement.at` has it."""
    return datetime.datetime.now(datetime.UTC).strftime(TIME)


def problem_of(judgement: Judgement) -> str | None:
    """What is wrong with a judgement; None if nothing is."""
    wrong: Iterable[tuple[bool, str]] = (
        (judgement.kind not in ("chain", "pair"), "kind: expected chain or pair"),
        (not is_name(judgement.reviewer), f"reviewer: expected 1 to {MAX_NAME} characters"),
        (judgement.level is not None and judgement.level not in LEVELS, "level: expected 1 to 5"),
        (not set(judgement.flags) <= FLAGS.keys(), f"flags: expected some of {', '.join(FLAGS)}"),
        (len(judgement.note) > MAX_NOTE, f"note: expected at most {MAX_NOTE} characters"),
        (judgement.kind == "chain" and judgement.level is None and not judgement.is_bad,
         "level: missing; expected 1 to 5, or the flag `bad`"),
        (judgement.kind == "pair"
         and judgement.preferred not in (EQUAL, *judgement.item.split(PAIR)),
         "preferred: missing; expected one of the two chains, or `equal`"),
    )  # fmt: skip
    return next((text for is_wrong, text in wrong if is_wrong), None)


def is_name(name: str) -> bool:
    """Whether a reviewer may have this name: 1 to 40 characters, all of them visible."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()


def latest(judgements: Iterable[Judgement]) -> dict[tuple[str, str], Judgement]:
    """The last judgement of each item by each reviewer: by time, then by order."""
    ordered = sorted(judgements, key=lambda judgement: judgement.at)
    return {(judgement.item, judgement.reviewer): judgement for judgement in ordered}


def by_chain(judgements: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """The last judgements of each chain, sorted by reviewer."""
    current = sorted(latest(judgements).values(), key=lambda judgement: judgement.reviewer)
    chains = [judgement for judgement in current if judgement.kind == "chain"]
    return group_by(chains, lambda judgement: judgement.item)


def median_level(judgements: Sequence[Judgement]) -> int | None:
    """The median of the levels, the lower one of two; None if there is none."""
    levels = sorted(judgement.level for judgement in judgements if judgement.level is not None)
    return levels[(len(levels) - 1) // 2] if levels else None


def is_rejected(judgements: Sequence[Judgement]) -> bool:
    """Whether at least half of a chain's reviewers call it bad."""
    return 2 * sum(judgement.is_bad for judgement in judgements) >= max(1, len(judgements))


# --- files ----------------------------------------------------------------------------------------


def review_file(setting: str | None, root: Path) -> Path | None:
    """The file that `select.review` names; for `auto` the run's own, if there is one."""
    if setting == "auto":
        return root / DATABASE if (root / DATABASE).is_file() else None
    return Path(setting) if setting else None


def review_digest(path: Path) -> str | None:
    """Digest of the last judgements of chains in a file; None if there are none."""
    chains = by_chain(read_reviews(path))
    rows = [plain(judgement) for same in chains.values() for judgement in same]
    return digest(sorted(rows, key=lambda row: (row["item"], row["reviewer"]))) if rows else None


def read_reviews(path: Path) -> list[Judgement]:
    """All judgements of a `review.sqlite` or a JSONL file, in order. Raises DataError."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; expected judgements of people, as review.sqlite or JSONL. "
            "Name one, or make it: slowthink review RUN"
        )
    with path.open("rb") as file:
        is_database = file.read(15) == b"SQLite format 3"
    return _read_database(path) if is_database else _read_json_lines(path)


def _read_database(path: Path) -> list[Judgement]:
    try:
        database = sqlite3.connect(path, timeout=30)
        try:
            if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise sqlite3.DatabaseError("another application's database")
            rows = database.execute("SELECT value FROM judgements ORDER BY id").fetchall()
        finally:
            database.close()
        return [to_judgement(json.loads(value)) for (value,) in rows]
    except (sqlite3.DatabaseError, ValueError) as error:
        raise DataError(
            f"{path}: {error}; expected a database of reviews, as `slowthink review` writes it. "
            "Restore the file, or move it away and import an export of it."
        ) from error


def _read_json_lines(path: Path) -> list[Judgement]:
    judgements, problems = [], []
    for number, line in json_lines(read_text(path)):
        try:
            judgements.append(to_judgement(json.loads(line)))
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise DataError(
            "\n".join(problems[:10]) + f"\n{len(problems)} rows cannot be used; expected the rows "
            "of `slowthink review RUN --export FILE`. Correct or remove them."
        )
    return judgements


def to_judgement(row: Any) -> Judgement:
    """A row of JSON as a judgement. Raises ValueError if it is none."""
    kinds: dict[str, Any] = {
        "kind": str, "item": str, "problem_id": str, "reviewer": str, "at": str, "note": str,
        "flags": list, "blind": bool, "level": (int, type(None)), "preferred": (str, type(None)),
    }  # fmt: skip
    if not isinstance(row, dict) or not row.keys() <= kinds.keys():
        raise ValueError(f"expected an object with some of {', '.join(kinds)}")
    for name, value in row.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool) != (name == "blind"):
            raise ValueError(f"`{name}` is of type {type(value).__name__}")
    try:
        judgement = from_plain(Judgement, row)
        datetime.datetime.strptime(judgement.at, TIME)
        problem = problem_of(judgement)
    except TypeError as error:
        raise ValueError(str(error).replace("Judgement.__init__() ", "")) from None
    if problem:
        raise ValueError(problem)
    return judgement
