"""Made-up pairs of every kind of answer are graded as they are labelled, by `slowthink grade`.

`made_pairs.jsonl` has one pair per line with its kind: equal in any notation, or different in value,
bracket, order, unit or word.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slowthink.data.pair_files import read_pairs
from slowthink.grading import Grader
from slowthink.grading.answers.compare import compare
from slowthink.grading.files import PairRow, grade_rows, pair_from_row, summarize_grades

PAIRS = Path(__file__).with_name("made_pairs.jsonl")


def test_made_pairs_of_every_kind_are_graded_as_labelled(grader: Grader) -> None:
    rows = read_pairs(PAIRS)
    result = summarize_grades(rows, grade_rows(rows, grader), mode="strict")
    assert result["false_positives"] == []
    assert result["false_negatives"] == []
    assert result["num_undecided"] == 0
    assert result["num_labelled"] > 1000


def test_a_reference_answer_equals_itself(grader: Grader) -> None:
    rows = read_pairs(PAIRS)
    golds = dict.fromkeys(row.gold for row in rows.rows if row.gold.strip())
    same = [PairRow(i, gold, f"\\boxed{{{gold}}}") for i, gold in enumerate(golds)]
    grades = grade_rows(type(rows)(same, []), grader).grades
    missed = [(g.gold, g.extracted) for g in grades if g.verdict.value != "correct"]
    assert missed == []


@pytest.mark.parametrize("mark", ["$", "\\(", "\\["])
def test_formula_delimiters_change_no_verdict(mark: str) -> None:
    closing = {"$": "$", "\\(": "\\)", "\\[": "\\]"}[mark]
    for gold, pred, equal in [("[1,2)", "1\\le x<2", True), ("[1,2)", "(1,2]", False)]:
        pair = pair_from_row(PairRow(1, gold, f"{mark}{pred}{closing}"))
        assert compare(pair.gold, pair.answer or "", context=pair.context).equal is equal
