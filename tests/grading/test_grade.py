"""Verdicts, workers and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slowthink.data.pair_files import grade_file
from slowthink.errors import ConfigError, DataError
from slowthink.grading import GradeItem, Grader, check_dependencies
from slowthink.grading.grader import PairItem
from slowthink.grading.workers import WorkerPool, WorkerResult
from slowthink.records import Grade, Problem, Verdict
from tests.grading.killers import KILLERS

TOWER = r"9^{9^{9^{9^9}}}"
ENDLESS = r"\sum_{k=1}^{10^{12}} \frac{1}{k^k}"


def problem(answer: str | None, *, choices: tuple[str, ...] = (), meta: str = "{}") -> Problem:
    return Problem(
        id="p-1", duplicate_key="d-1", question="What?", choices=choices, answer=answer,
        source="test", source_row="1", meta=meta,
    )  # fmt: skip


def test_a_right_answer_keeps_both_texts_and_the_rule(grader: Grader) -> None:
    grade = grader.grade(problem(r"\frac12"), r"Thus \boxed{0.5}.")
    assert grade == Grade(verdict=Verdict.CORRECT, extracted="0.5", gold=r"\frac12", method="value")


def test_no_answer_is_not_wrong(grader: Grader) -> None:
    assert grader.grade(problem("5"), "I give up").verdict is Verdict.NO_ANSWER


def test_a_truncated_answer_is_truncated_even_with_a_box(grader: Grader) -> None:
    grade = grader.grade(problem("5"), r"\boxed{5} and then", truncated=True)
    assert (grade.verdict, grade.extracted) == (Verdict.TRUNCATED, "5")
    assert grader.grade(problem("5"), "so", truncated=True).verdict is Verdict.TRUNCATED


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_a_problem_without_an_answer_is_ungradable(grader: Grader, answer: str | None) -> None:
    assert grader.grade(problem(answer), r"\boxed{5}").verdict is Verdict.UNGRADABLE


def test_the_letter_beside_an_option_text_is_used(grader: Grader) -> None:
    item = problem("x<4", meta='{"choice_answer": "D"}')
    assert grader.grade(item, r"\boxed{D}").verdict is Verdict.CORRECT
    assert grader.grade(item, r"\boxed{C}").verdict is Verdict.WRONG


def test_many_grades_are_in_order(grader: Grader) -> None:
    answers = ["1", r"\int_0^1 2x\,dx", "2", r"\int_0^1 4x\,dx", "one"]
    items = [GradeItem(problem=problem("1"), answer_text=rf"\boxed{{{a}}}") for a in answers]
    correct = [grade.verdict is Verdict.CORRECT for grade in grader.grade_many(items)]
    assert correct == [True, True, False, False, True]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="limo-compat"):
        Grader("lenient")


def test_the_dependencies_work() -> None:
    check_dependencies()


def test_grading_works_in_a_thread(grader: Grader) -> None:
    grades: list[Grade] = []

    def work() -> None:
        grades.append(grader.grade(problem(r"\int_0^1 2x\,dx"), r"\boxed{1}"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [grade.verdict for grade in grades] == [Verdict.CORRECT] * 3


@pytest.mark.slow
def test_grading_works_from_a_command_string() -> None:
    code = (
        "from slowthink.grading import Grader\nfrom slowthink.grading.grader import PairItem\n"
        "with Grader() as g:\n    pair = PairItem('1', r'\\int_0^1 2x dx')\n"
        "    print(g.grade_pairs([pair])[0].grade.method)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "math-verify", done.stderr


@pytest.mark.slow
def test_a_stuck_worker_is_killed_and_replaced() -> None:
    pool = WorkerPool(timeout_seconds=1.0)
    try:
        pool.compare_many([("1", "1")])
        before = pool.pids
        stuck, fine = pool.compare_many([("1", ENDLESS), ("x+1", "1+x")])
        assert (stuck.equal, fine.equal) == (None, True)
        assert "killed" in stuck.error
        assert stuck.seconds < 1.5
        assert not set(before) & set(pool.pids)
    finally:
        pool.close()


def _compare_at_once(pool: WorkerPool, answers: list[str]) -> list[tuple[WorkerResult, float]]:
    """Compare each answer with x+1 in a thread of its own; return results and seconds."""

    def compare(answer: str) -> tuple[WorkerResult, float]:
        started = time.monotonic()
        (result,) = pool.compare_many([("x+1", answer)])
        return result, time.monotonic() - started

    with ThreadPoolExecutor(len(answers)) as threads:
        return list(threads.map(compare, answers))


@pytest.mark.slow
def test_others_do_not_wait_for_a_stuck_comparison() -> None:
    pool = WorkerPool(num_workers=2, timeout_seconds=1.5)
    try:
        pool.compare_many([("1", "1")] * 2)
        results = _compare_at_once(pool, [ENDLESS, *["1+x"] * 19])
    finally:
        pool.close()
    assert [result.equal for result, _ in results] == [None, *[True] * 19]


@pytest.mark.slow
def test_twenty_stuck_comparisons_at_once_end_at_their_limit() -> None:
    pool = WorkerPool(timeout_seconds=1.5)
    try:
        pool.compare_many([("1", "1")])
        results = _compare_at_once(pool, [ENDLESS] * 20)
        assert pool.compare_many([("x+1", "1+x")])[0].equal is True
    finally:
        pool.close()
    assert all(result.error.startswith("worker") for result, _ in results)
    assert max(seconds for _, seconds in results) < 2.5 * 1.5 * machine_load()


@pytest.mark.slow
def test_a_file_in_the_working_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "math_verify.py").write_text("open('imported', 'w'); raise SystemExit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f":.:{os.environ.get('PYTHONPATH', '')}")
    pool = WorkerPool()
    try:
        assert pool.compare_many([("x+1", "1+x")])[0].equal is True
    finally:
        pool.close()
    assert not (tmp_path / "imported").exists()


@pytest.mark.slow
def test_two_workers_answer_in_order_and_end_when_closed() -> None:
    pool = WorkerPool(num_workers=2)
    answers = ["1", r"\int_0^1 2x\,dx", "2", r"\int_0^1 4x\,dx", "3-2"]
    results = pool.compare_many([("1", answer) for answer in answers])
    pids = pool.pids
    pool.close()
    assert [result.equal for result in results] == [True, True, False, False, True]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_a_worker_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, slowthink.grading.workers as w; w._compare('1', '1');"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_number_beyond_bounds_is_wrong_without_a_worker() -> None:
    with Grader() as grader:
        grade = grader.grade(problem("1"), rf"\boxed{{{TOWER}}}")
        assert (grade.verdict, grader.pool.pids) == (Verdict.WRONG, [])


def machine_load() -> float:
    """How much longer work takes now than on an idle machine; 1 on an idle one."""
    started, processor = time.monotonic(), time.process_time()
    while time.process_time() - processor < 0.05:
        pass
    return max(1.0, (time.monotonic() - started) / 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLERS)
def test_a_killer_is_graded_in_time(grader: Grader, name: str) -> None:
    for gold in ("1", r"\frac{x^2+1}{2}"):
        started = time.monotonic()
        grader.grade(problem(gold), rf"\boxed{{{KILLERS[name]}}}")
        seconds = time.monotonic() - started
        assert seconds < 5.0 * machine_load()


@pytest.mark.slow
def test_a_killer_as_reference_answer_is_graded_in_time(grader: Grader) -> None:
    for killer in KILLERS.values():
        started = time.monotonic()
        grader.grade_pairs([PairItem(killer, "1")])
        seconds = time.monotonic() - started
        assert seconds < 5.0 * machine_load()


def _write(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_a_file_is_graded_with_its_agreement(tmp_path: Path) -> None:
    rows: list[object] = [
        {"gold": "1/2", "pred": "0.5", "equal": True},
        {"gold": "3", "pred": "4", "equal": True},
        {"gold": "7", "pred": "seven", "equal": False},
        {"gold": "9", "response": "hence \\boxed{9}"},
        {"gold": "", "pred": "4"},
    ]
    result = grade_file(_write(tmp_path / "pairs.jsonl", rows))
    assert result["n"] == 5
    assert result["verdicts"] == {"correct": 3, "wrong": 1, "ungradable": 1}
    assert result["agreement"] == pytest.approx(1 / 3)
    assert [row["line"] for row in result["false_positives"]] == [3]
    assert [row["line"] for row in result["false_negatives"]] == [2]
    assert result["grades_per_second"] > 0
    assert result["worst_seconds"] < 5


@pytest.mark.usefixtures("shared_workers")
def test_bad_rows_are_reported_with_their_place(tmp_path: Path) -> None:
    rows = ['{"gold": "1", "pred": "1"}', "{broken", '{"gold": "1"}', '{"gold": [1], "pred": "1"}']
    path = _write(tmp_path / "pairs.jsonl", list(rows))
    result = grade_file(path)
    assert (result["n"], result["num_bad_rows"]) == (1, 3)
    assert all(
        f"{path}:{line}:" in text for line, text in zip((2, 3, 4), result["bad_rows"], strict=True)
    )


def test_a_file_without_a_usable_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: not valid JSON"):
        grade_file(_write(tmp_path / "pairs.jsonl", ["nonsense"]))
    with pytest.raises(DataError, match="no rows"):
        grade_file(_write(tmp_path / "empty.jsonl", []))
    with pytest.raises(DataError, match="no such file"):
        grade_file(tmp_path / "missing.jsonl")


@pytest.mark.usefixtures("shared_workers")
def test_the_published_rules_accept_their_traps(tmp_path: Path) -> None:
    rows: list[object] = [
        {"gold": "6", "pred": "600"}, {"gold": "(0,1)", "pred": "[0,1]"},
        {"gold": "A", "pred": "a"}, {"gold": r"\frac{1}{23}", "pred": r"\frac{12}{3}"},
    ]  # fmt: skip
    path = _write(tmp_path / "pairs.jsonl", rows)
    assert grade_file(path, mode="limo-compat")["verdicts"] == {"correct": 4}
    assert grade_file(path, mode="s1-compat")["verdicts"] == {"wrong": 4}
    assert grade_file(path)["verdicts"] == {"wrong": 4}


def test_s1_rules_normalise_whole_numbers() -> None:
    with Grader("s1-compat") as grader:
        assert grader.grade(problem("23"), "Answer: 023").verdict is Verdict.CORRECT
        assert grader.grade(problem("0.5"), r"\boxed{1/2}").verdict is Verdict.WRONG
