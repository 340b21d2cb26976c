"""The few rows that the page shows in full: transcripts of each arm, and examples of drops.

Which ones is decided by the seed alone, spread over right and wrong and over the points.
"""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from slowthink.records import Verdict, item_seed
from slowthink.stages.report.text import budget_label, shorten

T = TypeVar("T")

EXAMPLES_PER_REASON = 3
MAX_QUESTION_CHARACTERS = 4000
MAX_EXAMPLE_CHARACTERS = 400
MAX_SEGMENT_CHARACTERS = 24000
CHOICE_COLUMNS = (
    "id", "arm", "benchmark", "protocol", "problem_id", "sample", "max_thinking_tokens", "waits",
    "forced", "verdict",
)  # fmt: skip
SHOWN_COLUMNS = (
    "id", "arm", "benchmark", "protocol", "temperature", "problem_id", "domain", "sample",
    "verdict", "extracted", "gold", "method", "score",
    "num_thinking_tokens", "num_answer_tokens", "num_forced_tokens", "num_waits_used",
    "thinking_end", "answer_end", "violations",
)  # fmt: skip


def read_columns(
    path: Path, columns: Iterable[str], *, ids: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of a table: these columns (`a.b`: inside a struct) where it has them; of `ids` alone."""
    import pyarrow.parquet as pq

    if not path.exists() or (ids is not None and not ids):
        return []
    known = pq.read_schema(path).names
    present = [name for name in columns if name.partition(".")[0] in known]
    chosen = None if ids is None else [("id", "in", list(ids))]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=present, filters=chosen).to_pylist()
    return rows


# --- transcripts ----------------------------------------------------------------------------------


def choose_transcripts(rows: Iterable[Mapping[str, Any]], *, num: int, seed: int) -> list[str]:
    """Ids of `num` rows per arm: right and wrong in turn, each spread over the points of the curve.

    Within a point problems come in one seeded order, so the same problems meet at several points.
    Arms are interleaved.
    """
    by_arm: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_arm[row["arm"]].append(row)
    chosen = [_choose_in_arm(by_arm[arm], seed)[:num] for arm in sorted(by_arm)]
    return [str(row["id"]) for row in _interleave(chosen)]


def _choose_in_arm(rows: Sequence[Mapping[str, Any]], seed: int) -> list[Mapping[str, Any]]:
    strata: dict[bool, dict[tuple[Any, ...], list[Mapping[str, Any]]]] = {True: {}, False: {}}
    order = {row["problem_id"]: item_seed(seed, row["problem_id"]) for row in rows}
    for row in sorted(rows, key=lambda row: (order[row["problem_id"]], row["sample"], row["id"])):
        right = row["verdict"] == Verdict.CORRECT.value
        point = (
            row["max_thinking_tokens"], row["waits"], row["forced"],
            row.get("benchmark") or "", row.get("protocol") or "",
        )  # fmt: skip
        strata[right].setdefault(point, []).append(row)
    return _interleave(
        [_interleave([strata[right][point] for point in sorted(strata[right], reverse=True)])
         for right in (True, False)]
    )  # fmt: skip


def _interleave(lists: Sequence[Sequence[T]]) -> list[T]:
    """The first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [items[place] for place in range(longest) for items in lists if place < len(items)]


def read_transcripts(folder: Path, *, num: int, seed: int) -> list[dict[str, Any]]:
    """What the page needs of the chosen rows of `evaluate`, in the chosen order."""
    path = folder / "data.parquet"
    ids = choose_transcripts(read_columns(path, CHOICE_COLUMNS), num=num, seed=seed)
    columns = {*CHOICE_COLUMNS, *SHOWN_COLUMNS, "question", "segments"}
    rows = {row["id"]: row for row in read_columns(path, sorted(columns), ids=ids)}
    return [_transcript(rows[one]) for one in ids]


def read_segments(row: Mapping[str, Any], *, limit: int) -> list[list[str]]:
    """[kind, text] of a row's transcript; long texts keep their ends."""
    return [[kind, shorten(text, limit=limit)] for kind, text in json.loads(row["segments"])]


def _transcript(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in SHOWN_COLUMNS if name in row},
        "point": budget_label(dict(row)),
        "question": shorten(row["question"], limit=MAX_QUESTION_CHARACTERS),
        "segments": read_segments(row, limit=MAX_SEGMENT_CHARACTERS),
    }


# --- drops ----------------------------------------------------------------------------------------


def read_drops(folder: Path, *, seed: int) -> list[dict[str, Any]]:
    """By step and reason, how many rows a stage dropped, and a few of them, drawn by seed.

    The most frequent reason first.
    """
    ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in read_columns(folder / "dropped.parquet", ("id", "step", "reason")):
        ids[row["step"], row["reason"]].append(row["id"])
    drawn = {key: _drawn(group, seed) for key, group in ids.items()}
    evidence = _evidence(folder, {one for group in drawn.values() for one in group})
    return [
        {
            "step": step, "reason": reason, "count": len(ids[step, reason]),
            "examples": [
                {"id": one, "evidence": evidence[step, reason, one]} for one in drawn[step, reason]
            ],
        }
        for step, reason in sorted(ids, key=lambda key: (-len(ids[key]), key))
    ]  # fmt: skip


def _drawn(ids: Iterable[str], seed: int) -> list[str]:
    return heapq.nsmallest(EXAMPLES_PER_REASON, set(ids), key=lambda one: item_seed(seed, one))


def _evidence(folder: Path, ids: Collection[str]) -> dict[tuple[str, str, str], str]:
    columns = ("id", "step", "reason", "evidence")
    rows = read_columns(folder / "dropped.parquet", columns, ids=sorted(ids))
    return {
        (row["step"], row["reason"], row["id"]): shorten(
            row["evidence"] or "", limit=MAX_EXAMPLE_CHARACTERS
        )
        for row in rows
    }


def add_questions(examples: Iterable[dict[str, Any]], questions: Mapping[str, str]) -> None:
    """Put its question, if it is known, into each of these examples."""
    for example in examples:
        example["question"] = shorten(
            questions.get(example["id"], ""), limit=MAX_EXAMPLE_CHARACTERS
        )
