"""Broken rows and files: each is dropped or raises DataError; none crashes or is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.problems import SourceProblems
from slowthink.errors import DataError
from slowthink.recipe import FileSource
from slowthink.serialise import plain
from slowthink.stages.pool.files import file_problems
from tests.pool.broken import CSV, FILES, ROWS

FIRST = {
    "id": "first", "question": "What is 1 + 1?", "answer": "2", "choices": ["2", "3"],
    "domain": "sums", "solution": None,
}  # fmt: skip


def read(path: Path, **settings: Any) -> SourceProblems:
    source = FileSource(path=str(path), **settings)
    return file_problems(source, seed=0, setting="pool.sources.0")


def test_the_corpus_has_sixty_kinds_and_more() -> None:
    assert len(ROWS) + len(CSV) + len(FILES) >= 110


@pytest.mark.parametrize(("data", "reason"), ROWS.values(), ids=ROWS.keys())
def test_broken_row_is_dropped(tmp_path: Path, data: bytes, reason: str) -> None:
    last = {"question": "What is 3 + 3?", "answer": "6"}
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b"\n".join([json.dumps(FIRST).encode(), data, json.dumps(last).encode(), b""]))
    source = read(path, choices_field="choices", domain_field="domain")
    assert [item.location for item in source.items] == ["pool.jsonl:1", "pool.jsonl:3"]
    (dropped,) = source.dropped
    assert (dropped.id, dropped.step, dropped.reason) == ("pool.jsonl:2", "read", reason)
    assert json.dumps(plain(dropped), ensure_ascii=False).encode("utf-8")
    assert len(dropped.evidence) <= 200


@pytest.mark.parametrize(("data", "expected"), CSV.values(), ids=CSV.keys())
def test_broken_csv_row_is_dropped(tmp_path: Path, data: bytes, expected: list[str]) -> None:
    path = tmp_path / "pool.csv"
    path.write_bytes(data)
    source = read(path)
    assert source.items[0].problem.question == "a?"
    assert len(source.items) == 1
    assert [drop.reason for drop in source.dropped][: len(expected)] == expected


@pytest.mark.parametrize(("name", "data", "message"), FILES.values(), ids=FILES.keys())
def test_broken_file_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        read(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert str(error.value).encode("utf-8")
