"""Journeys from the shell: a PhD student with a CSV, a data person, a Chinese teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.shell import Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def slowthink(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_phd_student_grades_a_csv_and_compares_two_models(slowthink: Shell) -> None:
    base, tuned = [], []
    for q in range(12):
        row = {"uid": f"q-{q}", "problem": f"What is {q} + {q}?", "final_answer": 2 * q}
        for sample in range(4):
            right = f"We add. \\boxed{{{2 * q}}}"
            base.append({**row, "output": right if (q + sample) % 4 == 0 else "\\boxed{-1}"})
            tuned.append({**row, "output": right if (q + sample) % 4 else "\\boxed{-1}"})
    slowthink.write_csv("base.csv", base)
    slowthink.write_csv("tuned.csv", tuned)
    out, err = slowthink("grade", "base.csv", "--out", "graded.csv")
    assert "48 rows: 12 correct, 36 wrong" in out
    assert "gold is read from column `final_answer`" in err
    graded = slowthink.read_csv("graded.csv")
    assert [row["uid"] for row in graded] == [row["uid"] for row in base]
    assert [row["verdict"] for row in graded[:4]] == ["correct", "wrong", "wrong", "wrong"]
    out, _ = slowthink("passk", "base.csv", "--json")
    points = {point["k"]: point["pass"]["value"] for point in json.loads(out)["points"]}
    assert points == {1: 0.25, 2: 0.5, 4: 1.0}
    assert slowthink("passk", "graded.csv", "--json")[1].count("labels in `verdict`") == 1
    out, _ = slowthink("compare", "base.csv", "tuned.csv")
    assert "25.0% -> 75.0% (+50.0%" in out
    with (slowthink.folder / "base.csv").open("a") as file:
        file.write("torn,row\n")
    out, err = slowthink("grade", "base.csv", "--out", "graded.csv", code=1)
    assert "base.csv:50: has 2 cells; expected 4" in err
    assert len(slowthink.read_csv("graded.csv")) == 48


def test_a_data_person_cleans_a_pool_in_a_pipe(slowthink: Shell) -> None:
    rows = [
        {"key": i, "query_id": f"r{i}", "problem": f"How many positive integers below {1000 + i} are "
         f"divisible by {i + 2} and leave remainder 1 when divided by {i + 5}?", "source": "web"}
        for i in range(20)
    ]  # fmt: skip
    pool = "".join(json.dumps(row) + "\n" for row in [*rows, rows[3], rows[4]])
    test = {"id": "t-7", "question": rows[7]["problem"], "answer": "3"}
    (slowthink.folder / "exam.jsonl").write_text(json.dumps(test) + "\n")
    unique, err = slowthink("dedup", "-", "--out", "-", "--dropped", "d.jsonl", stdin=pool)
    assert [json.loads(line) for line in unique.splitlines()] == rows
    assert "20 to keep, 2 duplicates" in err
    clean, err = slowthink(
        "decontaminate", "-", "--against", "exam.jsonl", "--out", "-", stdin=unique
    )
    assert [json.loads(line)["key"] for line in clean.splitlines()] == [
        i for i in range(20) if i != 7
    ]
    assert "1 in a benchmark" in err
    (slowthink.folder / "clean.jsonl").write_text(clean)
    _, err = slowthink("init", "own-data", "--data", "clean.jsonl", code=2)
    assert "slowthink init evaluate --data clean.jsonl" in err


def test_a_chinese_teacher_checks_an_exam_and_builds_a_training_set(slowthink: Shell) -> None:
    rows = [
        {"编号": i, "题目": f"小明有{i}个苹果，又买了{i + 3}个，一共有多少个？", "答案": 2 * i + 3,
         "解析": f"先数原来的，再数新买的：{i}+{i + 3}={2 * i + 3}，所以一共有{2 * i + 3}个。"}
        for i in range(1, 31)
    ]  # fmt: skip
    slowthink.write_csv("exam.csv", rows)
    out, err = slowthink("check", "exam.csv")
    assert "30 of 30 reference answers accepted" in out
    assert "question is read from column `题目`" in err
    slowthink("init", "own-data", "--data", "exam.csv")
    out, _ = slowthink("run", "exam.yaml", "--dry-run", "--json")
    assert json.loads(out)["plan"]["pool"]["num_rows"] == 30
    for stage in ("pool", "filter", "trace", "select"):
        _, err = slowthink(stage, "exam.yaml")
        if stage == "pool":
            assert "30 in `zh`" in err
    chosen = pq.read_table(slowthink.folder / "runs/exam/select/data.parquet").to_pylist()
    assert len(chosen) == 24
    assert {row["problem"]["language"] for row in chosen} == {"zh"}
