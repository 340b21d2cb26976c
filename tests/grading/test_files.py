"""Files of pairs: contested rows, rows for a judge, and the table of graders."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.pair_files import grade_file, read_pairs
from slowthink.grading import MODES
from slowthink.grading.reference.table import compare_graders, format_table
from slowthink.grading.reference.traps import TRAPS

ROWS: list[dict[str, Any]] = [
    {"gold": "1/2", "pred": "0.5", "equal": True},
    {"gold": "[0,1]", "pred": "(0,1)", "equal": False},
    {"gold": "12", "response": "Thus $\\boxed{012}$.", "equal": True},
    {"gold": "", "pred": "4", "equal": True},
    {"gold": "x>1", "pred": "x < 1", "equal": True, "contested": True},
]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def write(tmp_path: Path) -> Any:
    return partial(write_rows, tmp_path / "pairs.jsonl")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, open_shared: Any) -> dict[str, Any]:
    """`ROWS` by every grader."""
    path = write_rows(tmp_path_factory.mktemp("compared") / "pairs.jsonl", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slowthink.grading.reference.table.Grader", open_shared)
        return compare_graders(read_pairs(path))


@pytest.mark.usefixtures("shared_workers")
def test_a_contested_row_is_graded_but_does_not_count_for_the_agreement(write: Any) -> None:
    result = grade_file(write(ROWS))
    assert (result["n"], result["num_labelled"], result["num_contested"]) == (5, 4, 1)
    assert (result["agreement"], result["num_undecided"]) == (1.0, 1)
    assert result["verdicts"] == {"correct": 2, "wrong": 2, "ungradable": 1}


@pytest.mark.usefixtures("shared_workers")
def test_a_row_with_a_solution_needs_no_reference_answer(write: Any) -> None:
    row = {"question": "Prove it.", "solution": "Clear.", "response": "It is clear."}
    assert grade_file(write([row]))["verdicts"] == {"ungradable": 1}


@pytest.mark.usefixtures("shared_workers")
def test_a_comparison_has_every_grader_and_the_result_of_grade(
    write: Any, compared: dict[str, Any]
) -> None:
    by_name = {result["grader"]: result for result in compared["graders"]}
    assert tuple(by_name) == MODES
    alone = grade_file(write(ROWS))
    timed = {"grades_per_second", "worst_seconds"}
    assert compared.keys() - {"graders"} == alone.keys()
    assert all(compared[key] == alone[key] for key in alone.keys() - timed)
    wrong = ("num_false_positives", "num_false_negatives")
    counts = {name: tuple(result[key] for key in wrong) for name, result in by_name.items()}
    assert counts["strict"] == (0, 0)
    assert counts["limo-compat"] == (1, 1)
    assert counts["s1-compat"] == (0, 1)


def test_the_table_counts_the_traps_that_a_grader_calls_equal(compared: dict[str, Any]) -> None:
    traps = {result["grader"]: result["traps"] for result in compared["graders"]}
    assert traps["strict"] == []
    assert {"percent-6-600", "brackets-closed", "order-in-pair"} <= set(traps["limo-compat"])
    lines = format_table(compared).splitlines()
    assert len(lines) == 1 + len(MODES)
    assert lines[1].split()[0] == "strict"
    assert lines[1].endswith(f"0 of {len(TRAPS)}")


@pytest.mark.usefixtures("shared_workers")
def test_math_verify_alone_parses_bare_answers_and_sentences(write: Any) -> None:
    rows = [
        {"gold": r"\frac{1}{2}", "pred": "0.5"},
        {"gold": r"\frac{1}{2}", "response": r"Thus it is $\boxed{\frac{2}{4}}$."},
        {"gold": r"\frac{1}{2}", "pred": r"\frac{1}{3}"},
    ]
    result = grade_file(write(rows), mode="math-verify")
    assert result["verdicts"] == {"correct": 2, "wrong": 1}


@pytest.mark.slow
def test_an_answer_on_which_math_verify_hangs_is_undecided(write: Any) -> None:
    rows = [{"gold": "1", "pred": r"\sum_{k=1}^{10^{12}} \frac{1}{k^k}", "equal": False}]
    result = grade_file(write(rows), mode="math-verify")
    assert result["verdicts"] == {"grader_error": 1}
    assert (result["num_undecided"], result["agreement"]) == (1, None)
    assert result["worst_seconds"] < 5
