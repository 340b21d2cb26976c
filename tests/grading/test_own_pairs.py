r"""Pairs written to try the grader, labelled by reason alone before any rule was changed for them.

Example row: {"id": "ratios-02", "kind": "ratios", "form": "answer", "language": "en", "reference":
"2:5", "answer": "\\frac25", "equivalent": true, "why": "the ratio's value"}. In the form `response`,
`answer` is a whole response; `choices` are the options' texts; `arguable` marks a label that a
reader may dispute for the reason in `why`.

Rules may be mended on the open half, `equivalence_own_open.jsonl`. The held-out half tells whether
they hold beyond it, so it is stored compressed, where no search shows its rows, and nobody who
writes rules reads it. Within each kind and label, ids in the order of their SHA-256 go to the
halves in turn.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPEN = FIXTURES / "equivalence_own_open.jsonl"
HELD = FIXTURES / "equivalence_own_held.jsonl.xz"
HELD_SHA256 = "8fe27d71f04f94a1ab4327f7de011153b8a9d9f94541859830950caa554f77cc"
REQUIRED = {"id", "kind", "form", "language", "reference", "answer", "equivalent", "why"}
OPTIONAL = {"choices", "arguable"}

Row = dict[str, Any]


def parse(text: bytes) -> list[Row]:
    return [json.loads(line) for line in text.decode().split("\n") if line]


@pytest.fixture(scope="module")
def halves() -> tuple[list[Row], list[Row]]:
    return parse(OPEN.read_bytes()), parse(lzma.decompress(HELD.read_bytes()))


def test_the_held_out_half_is_as_it_was_written() -> None:
    assert hashlib.sha256(lzma.decompress(HELD.read_bytes())).hexdigest() == HELD_SHA256


def test_every_row_has_its_fields(halves: tuple[list[Row], list[Row]]) -> None:
    for row in [*halves[0], *halves[1]]:
        assert REQUIRED <= row.keys() <= REQUIRED | OPTIONAL, row["id"]
        assert row["form"] in ("answer", "response")
        assert isinstance(row["equivalent"], bool)
        assert row["reference"] and row["answer"] and row["why"]


def test_there_are_many_pairs_of_many_kinds(halves: tuple[list[Row], list[Row]]) -> None:
    rows = [*halves[0], *halves[1]]
    assert len(rows) >= 400
    assert len({row["kind"] for row in rows}) >= 40
    assert sum(row["form"] == "response" for row in rows) >= 150


def test_each_kind_has_both_labels_in_both_halves(halves: tuple[list[Row], list[Row]]) -> None:
    expected = {(row["kind"], label) for half in halves for row in half for label in (True, False)}
    for half in halves:
        assert {(row["kind"], row["equivalent"]) for row in half} == expected


def test_no_pair_comes_twice(halves: tuple[list[Row], list[Row]]) -> None:
    rows = [*halves[0], *halves[1]]
    pairs = [(row["reference"], row["answer"], *row.get("choices", ())) for row in rows]
    for values in (pairs, [row["id"] for row in rows]):
        assert [value for value, count in Counter(values).items() if count > 1] == []
