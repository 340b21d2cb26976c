"""A run's samples as lm-eval files: the harness's fields, and reading them back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.app import main
from slowthink.data.stored.grading import grade_stored, stored_problems
from slowthink.data.stored.read import read_stored
from slowthink.data.tables import write_records
from slowthink.errors import DataError
from slowthink.export import export_run
from slowthink.export.lm_eval import MAX_ROW_CHARS, file_name
from slowthink.grading import Grader
from slowthink.records import AnswerEnd, Problem, ThinkingEnd, Verdict
from slowthink.stage_rows import EvaluationRow

S1 = [
    ["thinking", "17 + 25"],
    ["wait", "Wait"],
    ["thinking", r" so \boxed{41}?"],
    ["closing", "\n<|im_start|>answer\nFinal Answer:"],
    ["answer", " 42\n\nI am sure"],
]
CUT_OFF = [["thinking", "17 + 25 is about"]]
PLAIN = [["thinking", r"17 + 25 = \boxed{41}"], ["closing", "\nFinal Answer:"], ["answer", " 42"]]
NO_IDEA = [["thinking", "Hm"], ["closing", "\n<|im_start|>answer\n"], ["answer", "No idea"]]


def make_row(
    segments: list[list[str]], answer: str, verdict: Verdict, **more: Any
) -> EvaluationRow:
    """A row of the tuned arm at cap 8 without waits."""
    extracted = {Verdict.CORRECT: "42", Verdict.WRONG: "41"}.get(verdict)
    fields: dict[str, Any] = {
        "id": "", "arm": "tuned", "model": "tuned", "benchmark": "set", "protocol": "limo-v2",
        "temperature": 0.6, "problem_id": "p-1", "question": "What is 17 + 25?", "domain": None,
        "source": "set", "sample": 0, "max_thinking_tokens": 8, "waits": 0, "forced": True,
        "num_prompt_tokens": 9, "num_thinking_tokens": 8, "num_answer_tokens": 4,
        "num_forced_tokens": 3, "num_closing_tokens": 3, "count_source": "ids", "thinking_end": ThinkingEnd.CAP,
        "answer_end": AnswerEnd.LENGTH, "num_waits_used": 0, "answer": answer,
        "last_number": False, "score": None, "verdict": verdict, "extracted": extracted, "gold": "42",
        "method": "number", "violations": (), "segments": json.dumps(segments),
    } | more  # fmt: skip
    row = EvaluationRow(**fields)
    return replace(row, id=f"{row.arm}|{row.problem_id}|{row.waits}|{row.sample}|{row.forced}")


def rows() -> list[EvaluationRow]:
    return [
        make_row(S1, "Final Answer: 42\n\nI am sure", Verdict.CORRECT, score=0.5),
        make_row(CUT_OFF, "", Verdict.TRUNCATED, sample=1),
        make_row(NO_IDEA, "No idea", Verdict.NO_ANSWER, sample=2, answer_end=AnswerEnd.STOP),
        make_row(
            PLAIN, "\nFinal Answer: 42", Verdict.CORRECT, problem_id="p-2", question="40 + 2?"
        ),
        make_row(
            NO_IDEA, "No idea", Verdict.UNGRADABLE, problem_id="p-3", question="Why?", gold=None
        ),
    ]


def write_run(folder: Path, graded: list[EvaluationRow]) -> Path:
    root = folder / "run"
    (root / "evaluate").mkdir(parents=True)
    write_records(root / "evaluate" / "data.parquet", graded, EvaluationRow)
    return root


def exported(folder: Path, graded: list[EvaluationRow]) -> list[Path]:
    summary = export_run(write_run(folder, graded), folder / "out")
    return [Path(file["path"]) for file in summary["files"]]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as opened:
        yield opened


def test_each_problem_is_a_row_with_the_harness_s_fields(tmp_path: Path) -> None:
    (path,) = exported(tmp_path, rows())
    assert path == tmp_path / "out" / "tuned" / "samples_set_limo-v2_t0.6_cap000008_waits0.jsonl"
    first, second, third = lines(path)
    texts = ["".join(text for _, text in segments) for segments in (S1, CUT_OFF, NO_IDEA)]
    assert first["resps"] == [texts]
    assert first["filtered_resps"] == [["42", "[invalid]", "[invalid]"]]
    assert (first["doc_id"], first["target"]) == (0, "42")
    assert first["doc"] == {"question": "What is 17 + 25?", "answer": "42", "problem_id": "p-1"}
    assert first["exact_match"] == pytest.approx(1 / 3)
    assert first["metrics"] == ["exact_match"]
    assert first["arguments"]["gen_args_0"] == {
        "arg_0": "What is 17 + 25?", "arg_1": {"temperature": 0.6, "do_sample": True},
    }  # fmt: skip
    assert first["prompt_hash"] == hashlib.sha256(b"What is 17 + 25?").hexdigest()
    assert (second["filtered_resps"], second["exact_match"]) == (["42"], 1.0)
    assert (third["exact_match"], third["target"]) == (None, "")


def test_values_without_a_field_of_the_harness_are_under_slowthink(tmp_path: Path) -> None:
    (path,) = exported(tmp_path, rows())
    own = lines(path)[0]["slowthink"]
    assert {key: own[key] for key in own if key != "samples"} == {
        "arm": "tuned", "model": "tuned", "benchmark": "set", "protocol": "limo-v2",
        "max_thinking_tokens": 8, "waits": 0, "forced": True,
    }  # fmt: skip
    verdicts = [sample["verdict"] for sample in own["samples"]]
    assert verdicts == ["correct", "truncated", "no_answer"]
    assert own["samples"][0]["score"] == 0.5


def test_reading_the_files_again_gives_the_same_answers_and_verdicts(
    tmp_path: Path, grader: Grader
) -> None:
    before = rows()
    (path,) = exported(tmp_path, before)
    stored = read_stored(path, setting="samples")
    assert stored.format == "lm-eval"
    after, dropped, _ = grade_stored(
        stored, stored_problems(stored, benchmark="set"), arm="again", benchmark="set",
        protocol="limo-v2", grader=grader, count_tokens=len, last_number=False,
    )  # fmt: skip
    assert dropped == []
    assert [compared_fields(row) for row in after] == [compared_fields(row) for row in before]


def compared_fields(row: EvaluationRow) -> tuple[Any, ...]:
    total = row.num_thinking_tokens + row.num_answer_tokens
    return row.question, row.sample, row.answer, row.verdict, row.extracted, row.score, total


def test_imported_rows_are_the_same_after_export_and_import(tmp_path: Path, grader: Grader) -> None:
    path = tmp_path / "theirs.jsonl"
    texts = ["<think>Hm</think>\n42", "Answer: 42", r"<think>\boxed{42}"]
    path.write_text(
        "\n".join(json.dumps({"question": "Q?", "answer": "42", "response": t}) for t in texts)
    )
    options = {
        "arm": "a", "benchmark": "set", "protocol": "stored", "grader": grader,
        "count_tokens": len, "last_number": True,
    }  # fmt: skip
    stored = read_stored(path, setting="samples")
    before, *_ = grade_stored(stored, stored_problems(stored, benchmark="set"), **options)
    (out,) = exported(tmp_path, before)
    assert out.name == "samples_set_stored_t0.jsonl"
    again = read_stored(out, setting="samples")
    after, *_ = grade_stored(again, stored_problems(again, benchmark="set"), **options)
    assert [compared_fields(row) for row in after] == [compared_fields(row) for row in before]
    assert [row.thinking_end for row in after] == [row.thinking_end for row in before]
    assert [row.verdict for row in after] == [Verdict.CORRECT, Verdict.CORRECT, Verdict.TRUNCATED]
    assert [row.segments for row in after] == [row.segments for row in before]


def test_each_arm_and_point_has_its_own_file(tmp_path: Path) -> None:
    base = make_row(PLAIN, "\nFinal Answer: 42", Verdict.CORRECT)
    graded = [
        base, replace(base, waits=1), replace(base, forced=False), replace(base, temperature=0.0),
        replace(base, arm="a b", id="1"), replace(base, arm="a/b", id="2"),
    ]  # fmt: skip
    names = [path.relative_to(tmp_path / "out").as_posix() for path in exported(tmp_path, graded)]
    assert sorted(names) == [
        "a-b/samples_set_limo-v2_t0.6_cap000008_waits0.jsonl",
        "a-b/samples_set_limo-v2_t0.6_cap000008_waits0~.jsonl",
        "tuned/samples_set_limo-v2_t0.6_cap000008_waits0.jsonl",
        "tuned/samples_set_limo-v2_t0.6_cap000008_waits1.jsonl",
        "tuned/samples_set_limo-v2_t0.6_free000008.jsonl",
        "tuned/samples_set_limo-v2_t0_cap000008_waits0.jsonl",
    ]


def test_a_name_stays_within_the_folder() -> None:
    row = make_row(PLAIN, "42", Verdict.CORRECT, arm="../../etc", benchmark="a/b")
    assert file_name(row) == "-..-etc/samples_a-b_limo-v2_t0.6_cap000008_waits0.jsonl"


def test_answer_options_are_read_from_the_pool(tmp_path: Path, make_problem) -> None:
    problem = replace(make_problem("Which?"), choices=("x", "y"))
    root = write_run(tmp_path, [make_row(PLAIN, "42", Verdict.CORRECT, problem_id=problem.id)])
    (root / "pool").mkdir()
    write_records(root / "pool" / "data.parquet", [problem], Problem)
    (file,) = export_run(root, tmp_path / "out")["files"]
    assert lines(Path(file["path"]))[0]["doc"]["choices"] == ["x", "y"]


def test_long_samples_are_split_into_readable_rows(tmp_path: Path) -> None:
    long = [["answer", "é" * (MAX_ROW_CHARS // 2)]]
    graded = [make_row(long, long[0][1], Verdict.NO_ANSWER, sample=n) for n in range(5)]
    (path,) = exported(tmp_path, graded)
    assert [row["doc_id"] for row in lines(path)] == [0] * 5
    stored = read_stored(path, setting="samples")
    assert [sample.sample for sample in stored.samples] == [0, 1, 2, 3, 4]
    assert stored.dropped == ()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (path,) = exported(tmp_path, rows())
    with pytest.raises(DataError, match="the file exists already"):
        export_run(tmp_path / "run", tmp_path / "out")
    assert len(lines(path)) == 3


def test_a_run_without_an_evaluation_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not been evaluated yet\. Run: slowthink evaluate RECIPE"):
        export_run(tmp_path, tmp_path / "out")
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    with pytest.raises(DataError) as error:
        export_run(tmp_path, tmp_path / "out")
    expected = f"{tmp_path} has not been evaluated yet. Run: slowthink evaluate {tmp_path}"
    assert str(error.value) == expected


def test_the_command_prints_the_files(tmp_path: Path, capsys) -> None:
    root = write_run(tmp_path, rows())
    with pytest.raises(SystemExit) as stop:
        main(["export", str(root), "--out", str(tmp_path / "out"), "--json"])
    assert not stop.value.code
    data = json.loads(capsys.readouterr().out)
    assert data["num_samples"] == 5
    assert [(file["num_problems"], file["num_samples"]) for file in data["files"]] == [(3, 5)]
