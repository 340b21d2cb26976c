"""Declared tables: what a column shows, and when it is left out."""

from __future__ import annotations

import pytest

from slowthink.stages.report.tables import Cell, Column, make_table, with_share
from slowthink.stages.report.text import count, detectable_difference, percent

POINTS = [
    {"arm": "base", "accuracy": 0.25, "ci95": [0.1, 0.4], "loops": 0, "hits": {"copy": 1}},
    {"arm": "tuned", "accuracy": 0.5, "loops": 0, "strong": True},
]


def texts(*columns: Column) -> list[list[str]]:
    """Text and note of every cell."""
    return [[f"{c.text} {c.note}".strip() for c in row] for row in make_table(POINTS, columns).rows]


def test_column_shows_its_key_in_its_format_with_its_note() -> None:
    shown = texts(Column("Arm", "arm"), Column("Accuracy", "accuracy", percent, note="ci95"))
    assert shown == [["base", "25.0% 10.0 to 40.0"], ["tuned", "50.0%"]]


def test_column_without_a_key_formats_the_whole_row() -> None:
    assert texts(Column("Arm", format=lambda row: row["arm"].upper())) == [["BASE"], ["TUNED"]]


def test_path_leads_into_nested_mappings_and_a_missing_part_is_a_dash() -> None:
    assert texts(Column("Copies", ("hits", "copy"), count)) == [["1"], ["–"]]
    assert texts(Column("Copies", ("hits", "copy"), with_share(4)))[0] == ["1 25.0%"]


def test_empty_columns_are_left_out_on_request() -> None:
    loops, missing = Column("Looped", "loops", omit="zero"), Column("x", "x", omit="missing")
    kept = Column("Looped", "loops", count, omit="missing")
    assert make_table(POINTS, [loops, missing, kept]).head == ("Looped",)
    assert make_table(POINTS, [Column("Arm", "arm")]).strong == {1}


def test_alarm_is_for_values_other_than_zero() -> None:
    rows = [{"violations": 0}, {"violations": 2}, {"violations": Cell(text="as is")}]
    table = make_table(rows, [Column("Budget violations", "violations", count, alarm=True)])
    assert [cell.alarm for (cell,) in table.rows] == [False, True, True]
    assert table.rows[2][0].text == "as is"


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ({"n": 9, "minimal_detectable_difference": 0.187, "difference": 0.2},
         "This set of 9 questions could detect a true difference of 18.7 points or more."),
        ({"n": 9, "minimal_detectable_difference": 0.0, "difference": 0.0},
         "Both gave the same result on every question; no detectable difference can be computed."),
        ({"n": 9, "minimal_detectable_difference": 0.0, "difference": 1.0},
         "Both differ by the same amount on every question; no detectable difference can be computed."),
        ({"n": 1, "minimal_detectable_difference": None},
         "n = 1 is too small to compute a detectable difference."),
    ],
)  # fmt: skip
def test_detectable_difference_is_a_sentence(pair: dict, sentence: str) -> None:
    assert detectable_difference(pair) == sentence
