"""The grader on real data, in a folder beside the project; never copied into it."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from slowthink.analysis import statistics as stats
from slowthink.data.pair_files import grade_file
from slowthink.grading import GradeItem, Grader
from slowthink.grading.grader import PairItem
from slowthink.records import Problem, Verdict

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
DATASETS = sorted(path.stem for path in (DATA / "eval").glob("*.jsonl"))
NO_ANSWER = {"gaokao2023en": 2}
"""Rows without a reference answer in the published dataset; their verdict is UNGRADABLE."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.exists(), reason="no shared data beside the project"),
]


def read_rows(name: str) -> list[dict[str, Any]]:
    with (DATA / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def problem_from_row(row: dict[str, Any]) -> Problem:
    return Problem(
        id="p", duplicate_key="d", question=row["question"], answer=str(row["answer"] or ""),
        source="shared", source_row="1", meta=json.dumps(row.get("meta", {})),
    )  # fmt: skip


@pytest.mark.slow
def test_projects_that_test_equivalence_agree_with_us(tmp_path: Path) -> None:
    rows = [
        row for row in read_rows("grading/equivalence_pairs_tests.jsonl") if not row["contested"]
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    result = grade_file(path, num_workers=2)
    assert result["agreement"] >= 0.97
    assert result["worst_seconds"] < 5


@pytest.mark.parametrize("name", DATASETS)
def test_every_reference_answer_is_accepted(grader: Grader, name: str) -> None:
    forms = ("\\boxed{%s}", "Thus we get $\\boxed{%s}$, as asked.", "Final Answer: %s")
    items = [
        GradeItem(problem=problem_from_row(row), answer_text=form % row["answer"])
        for row in read_rows(f"eval/{name}.jsonl")
        for form in forms
    ]
    verdicts = Counter(grade.verdict for grade in grader.grade_many(items))
    assert verdicts.pop(Verdict.UNGRADABLE, 0) == len(forms) * NO_ANSWER.get(name, 0)
    assert set(verdicts) == {Verdict.CORRECT}


def test_respelled_reference_answers_are_accepted(grader: Grader) -> None:
    rows = read_rows("eval/math500.jsonl")
    pairs = [PairItem(row["answer"], _respelled(row["answer"])) for row in rows]
    verdicts = [timed.grade.verdict for timed in grader.grade_pairs(pairs)]
    assert verdicts.count(Verdict.CORRECT) == len(rows)


def _respelled(text: str) -> str:
    text = text.replace("\\frac", "\\dfrac ").replace("\\left(", "(").replace("\\right)", ")")
    return "$" + text.replace("+", " + ") + "$"


SAMPLES = {
    "aime24_o1journey_n10.jsonl": (False, 0),
    "math100_qwen_n8_rm.jsonl": (False, 1),
    "math500_o1journey_12models.jsonl": (False, 45),
    "gsm8k_openai_4models.jsonl": (True, 0),
}
"""Whether the last number counts as the answer, and the number of doubtful labels (see LOG.md)."""


LARGE_FILES = ("math500_o1journey_12models.jsonl", "gsm8k_openai_4models.jsonl")
"""The fast tests grade these in test_recomputed.py, and compare each model's labels."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE_FILES else []) for n in SAMPLES],
)
def test_verdicts_differ_from_labels_only_where_labels_are_doubtful(
    grader: Grader, name: str
) -> None:
    last_number, max_differences = SAMPLES[name]
    rows = read_rows(f"samples/{name}")
    items = [
        GradeItem(
            problem=problem_from_row(row), answer_text=row["response"], last_number=last_number
        )
        for row in rows
    ]
    grades = grader.grade_many(items)
    differ = [
        (g.gold, g.extracted)
        for g, row in zip(grades, rows, strict=True)
        if (g.verdict is Verdict.CORRECT) != row["correct"]
    ]
    assert len(differ) <= max_differences, differ


@pytest.mark.parametrize("name", ["aime24_o1journey_n10.jsonl", "math100_qwen_n8_rm.jsonl"])
def test_pass_and_majority_rates_equal_an_independent_count(name: str) -> None:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_rows(f"samples/{name}"):
        groups[row["problem_id"]].append(row)
    for k in (1, 3, 5):
        for group in groups.values():
            correct = [bool(row["correct"]) for row in group]
            answers = [row["pred"] or None for row in group]
            subsets = list(itertools.combinations(range(len(group)), k))
            any_right = sum(any(correct[i] for i in s) for s in subsets) / len(subsets)
            pass_rate = stats.pass_at_k(sum(correct), num_samples=len(group), k=k)
            assert pass_rate == pytest.approx(any_right)
            majority = sum(_majority(s, answers, correct) for s in subsets) / len(subsets)
            majority_rate = stats.maj_at_k(answers, k=k, correct=correct)
            assert majority_rate == pytest.approx(majority)


def _majority(subset: tuple[int, ...], answers: list[str | None], correct: list[bool]) -> float:
    votes = Counter(answers[i] for i in subset if answers[i])
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    is_correct = {answers[i]: correct[i] for i in subset}
    return sum(is_correct[answer] for answer in winners) / len(winners) if winners else 0.0
