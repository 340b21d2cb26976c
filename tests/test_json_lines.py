"""JSONL is split at line feeds only: other line separators may stand in a JSON string."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.generate import _read_questions
from slowthink.curation.domains.taxonomy import load_taxonomy
from slowthink.data.rows import SourceRow, read_rows
from slowthink.data.stored.read import read_stored
from slowthink.engines.replay import read_script
from slowthink.recipe import FileTraces
from slowthink.serialise import json_lines
from slowthink.stages.trace.sources import read_chains

SEPARATORS = {"line": "\u2028", "paragraph": "\u2029", "next line": "\u0085"}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(f"{lines}\n\n".encode())
    return path


@pytest.mark.parametrize("separator", SEPARATORS.values(), ids=SEPARATORS.keys())
def test_a_separator_in_a_string_ends_no_row(tmp_path: Path, separator: str) -> None:
    texts = [f"One{separator}and {number}" for number in (2, 3)]
    path = write(tmp_path, *({"question": text, "response": "3"} for text in texts))
    assert [problem.question for problem in _read_questions(path)] == texts
    rows = [row for row in read_rows(path, setting="x") if isinstance(row, SourceRow)]
    assert [row.values["question"] for row in rows] == texts
    assert [sample.question for sample in read_stored(path, setting="x").samples] == texts

    path = write(tmp_path, *({"question": t, "thinking": ["Hm"], "answer": "3"} for t in texts))
    assert list(read_script(str(path))) == texts
    path = write(tmp_path, *({"code": str(n), "name": text} for n, text in enumerate(texts)))
    assert [domain.name for domain in load_taxonomy(str(path)).classes] == texts
    path = write(tmp_path, *({"question": t, "thinking": "Hm", "response": "3"} for t in texts))
    chains = read_chains(FileTraces(path=str(path)), seed=0, setting="x").chains
    assert [chain.problem.question for chain in chains] == texts


def test_lines_are_numbered_and_blank_ones_left_out() -> None:
    assert json_lines("\ufeff{}\n\n3\u2028\r\n") == [(1, "{}"), (3, "3\u2028\r")]
