r"""Pairs written to try the grader, labelled by reason alone before any rule was changed for them.

Example row: {"id": "ratios-02", "kind": "ratios", "form": "answer", "language": "en", "reference":
"2:5", "answer": "\\frac25", "equivalent": true, "why": "the ratio's value"}. In the form `response`,
`answer` is a whole response; `choices` are the options' texts; `arguable` marks a label that a
reader may dispute for the reason in `why`.

Rules may be mended on the open half, `equivalence_own_open.jsonl`. The held-out half tells whether
they hold beyond it, so it is stored compressed, where no search shows its rows, and nobody who
writes rules reads it. Within each kind and label, ids in the order of their SHA-256 go to the
halves in turn. `python -m benchmarks.own_pairs` measures the agreement on both.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from benchmarks.own_pairs import Row, agreement, held_text, parse_rows, read_open
from slowthink.records import Grade, Verdict

HELD_SHA256 = "8fe27d71f04f94a1ab4327f7de011153b8a9d9f94541859830950caa554f77cc"
REQUIRED = {"id", "kind", "form", "language", "reference", "answer", "equivalent", "why"}
OPTIONAL = {"choices", "arguable"}


@pytest.fixture(scope="module")
def halves() -> tuple[list[Row], list[Row]]:
    return read_open(), parse_rows(held_text())


def test_the_held_out_half_is_as_it_was_written() -> None:
    assert hashlib.sha256(held_text()).hexdigest() == HELD_SHA256


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


def test_agreement_counts_an_undecided_pair_as_not_accepted() -> None:
    verdicts = {
        True: (Verdict.CORRECT, Verdict.UNGRADABLE),
        False: (Verdict.WRONG, Verdict.CORRECT),
    }
    graded = [
        ({"kind": "ratios", "form": "answer", "equivalent": equivalent}, Grade(verdict=verdict))
        for equivalent, of_label in verdicts.items()
        for verdict in of_label
    ]
    figures = agreement(graded)
    assert (figures["n"], figures["agreement"], figures["num_undecided"]) == (4, 0.5, 1)
    assert (figures["num_false_positives"], figures["num_false_negatives"]) == (1, 1)
    assert figures["ci95"] == pytest.approx([0.15, 0.85], abs=1e-4)
    assert figures["ci95_over_kinds"] == [0.5, 0.5]  # one kind, drawn each time
