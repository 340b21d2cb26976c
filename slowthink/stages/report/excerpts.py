"""The rows that the page shows in full: transcripts of each arm, and examples of dropped rows.

They are sampled by seed; transcripts are spread over correct and wrong answers and over points.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from slowthink.records import Verdict, group_by, item_seed
from slowthink.stages.report.problem_columns import MAX_TEXT
from slowthink.stages.report.text import budget_label, shorten

T = TypeVar("T")

EXAMPLES_PER_REASON = 3
MAX_QUESTION_CHARACTERS = 4000
MAX_SEGMENT_CHARACTERS = 24000
SAMPLING_COLUMNS = (
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
    """Rows of a table (only those of `ids`), with the columns that exist; `a.b`: b of struct a."""
    import pyarrow.parquet as pq

    if not path.exists() or (ids is not None and not ids):
        return []
    names = pq.read_schema(path).names
    present = [name for name in columns if name.partition(".")[0] in names]
    filters = None if ids is None else [("id", "in", list(ids))]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=present, filters=filters).to_pylist()
    return rows


def sample_transcripts(rows: Iterable[Mapping[str, Any]], *, num: int, seed: int) -> list[str]:
    """Ids of `num` rows per arm: correct and wrong alternate, each spread over the curve's points.

    All points use the same seeded order of problems, so the same problems are shown at several
    points. Arms are interleaved.
    """
    by_arm = group_by(rows, lambda row: str(row["arm"]))
    sampled = [_order_in_arm(by_arm[arm], seed)[:num] for arm in sorted(by_arm)]
    return [str(row["id"]) for row in _interleave(sampled)]


def _order_in_arm(rows: Sequence[Mapping[str, Any]], seed: int) -> list[Mapping[str, Any]]:
    ranks = {row["problem_id"]: item_seed(seed, row["problem_id"]) for row in rows}
    rows = sorted(rows, key=lambda row: (ranks[row["problem_id"]], row["sample"], row["id"]))
    strata = group_by(
        rows,
        lambda row: (
            row["verdict"] == Verdict.CORRECT.value,
            row["max_thinking_tokens"], row["waits"], row["forced"],
            row.get("benchmark") or "", row.get("protocol") or "",
        ),
    )  # fmt: skip
    keys = sorted(strata, reverse=True)
    return _interleave(
        [_interleave([strata[key] for key in keys if key[0] is right]) for right in (True, False)]
    )


def _interleave(lists: Sequence[Sequence[T]]) -> list[T]:
    """The first of each list, then the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [items[index] for index in range(longest) for items in lists if index < len(items)]


def read_transcripts(folder: Path, *, num: int, seed: int) -> list[dict[str, Any]]:
    """The sampled rows of `evaluate` with their texts, in the order of `sample_transcripts`."""
    path = folder / "data.parquet"
    ids = sample_transcripts(read_columns(path, SAMPLING_COLUMNS), num=num, seed=seed)
    return [
        {
            **{name: row[name] for name in SHOWN_COLUMNS if name in row},
            "point": budget_label(row),
            "question": shorten(row["question"], limit=MAX_QUESTION_CHARACTERS),
            "segments": read_segments(row, limit=MAX_SEGMENT_CHARACTERS),
        }
        for row in read_answers(path, ids)
    ]


def read_answers(path: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `evaluate` with these ids, with their texts, in the order of the ids."""
    columns = {*SAMPLING_COLUMNS, *SHOWN_COLUMNS, "question", "segments"}
    rows = {row["id"]: row for row in read_columns(path, sorted(columns), ids=ids)}
    return [rows[row_id] for row_id in ids]


def read_segments(row: Mapping[str, Any], *, limit: int) -> list[list[str]]:
    """[kind, text] of a row's transcript; long texts keep only beginning and end."""
    return [[kind, shorten(text, limit=limit)] for kind, text in json.loads(row["segments"])]


def read_drops(folder: Path, *, seed: int) -> list[dict[str, Any]]:
    """The number of rows that a stage dropped, by step and reason, with a few sampled by seed.

    The most frequent reason is first.
    """
    rows = read_columns(folder / "dropped.parquet", ("id", "step", "reason"))
    dropped = group_by(rows, lambda row: (row["step"], row["reason"]))
    sampled = {
        key: heapq.nsmallest(
            EXAMPLES_PER_REASON,
            {row["id"] for row in group},
            key=lambda row_id: item_seed(seed, row_id),
        )
        for key, group in dropped.items()
    }
    evidence = _evidence(folder, {row_id for group in sampled.values() for row_id in group})
    return [
        {
            "step": step, "reason": reason, "count": len(dropped[step, reason]),
            "examples": [
                {"id": row_id, "evidence": evidence[step, reason, row_id]}
                for row_id in sampled[step, reason]
            ],
        }
        for step, reason in sorted(dropped, key=lambda key: (-len(dropped[key]), key))
    ]  # fmt: skip


def _evidence(folder: Path, ids: Collection[str]) -> dict[tuple[str, str, str], str]:
    columns = ("id", "step", "reason", "evidence")
    rows = read_columns(folder / "dropped.parquet", columns, ids=sorted(ids))
    return {
        (row["step"], row["reason"], row["id"]): shorten(row["evidence"] or "", limit=MAX_TEXT)
        for row in rows
    }
