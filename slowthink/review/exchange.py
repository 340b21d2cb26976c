"""Judgements to and from JSONL, so that people can review on several machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slowthink.data.reviews import DATABASE, read_reviews
from slowthink.errors import DataError
from slowthink.review.chains import ReviewSet
from slowthink.review.store import ReviewStore
from slowthink.serialise import plain, write_atomic


def export_reviews(root: Path, out: Path) -> dict[str, Any]:
    """Write all judgements of a run, also those that were replaced. Raises DataError if there are
    none, or the file exists."""
    if out.exists():
        raise DataError(
            f"{out}: the file exists already; expected a new one. Name another: --export FILE"
        )
    judgements = read_reviews(root / DATABASE)
    lines = [json.dumps(plain(judgement), ensure_ascii=False) for judgement in judgements]
    write_atomic(out, "".join(f"{line}\n" for line in lines))
    return {"out": str(out), "num_judgements": len(judgements)}


def import_reviews(root: Path, path: Path, reviewed: ReviewSet) -> dict[str, Any]:
    """Add the judgements of a file that the run does not have yet: all of them, or none.

    Raises DataError if a row is no judgement, or none is of a chain of this run.
    """
    judgements = read_reviews(path)
    unknown = reviewed.check(judgements, where=path)
    with ReviewStore(root / DATABASE) as store:
        num_new = store.add_all(judgements)
    return {
        "file": str(path), "num_judgements": len(judgements), "num_new": num_new,
        "num_unknown": unknown,
    }  # fmt: skip
