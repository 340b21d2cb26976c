"""`slowthink check` on recipes, folders and files: every reference answer and every bad row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slowthink.cli.app import main
from slowthink.cli.check import _remedy, check_files, check_recipe, result_text
from slowthink.errors import DataError
from slowthink.recipe.loading import parse_recipe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "eval"
PLAIN = {"question": "What is 2 + 2?", "answer": "4"}
WITHOUT_ANSWER = {"question": "Prove that 2 is prime.", "answer": ""}
UNPARSABLE = {"question": "Which brace opens?", "answer": "{"}
CONTRADICTORY = {
    "question": "What is 2 * 5? A. 5 B. 7 C. 10",
    "answer": "10",
    "meta": {"choice_answer": "A"},
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code or 0


def test_each_file_of_a_folder_is_a_dataset(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", PLAIN, WITHOUT_ANSWER)
    write(tmp_path / "a.jsonl", PLAIN, PLAIN)
    (tmp_path / "notes.txt").write_text("no problems")
    data = check_files(tmp_path)
    counts = [
        (s["name"], s["num_problems"], s["num_keys"], s["accepted"], s["num_without_key"])
        for s in data["sets"]
    ]
    assert counts == [("a", 2, 2, 2, 0), ("b", 2, 1, 1, 1)]
    assert data["sets"][1]["path"] == str(tmp_path / "b.jsonl")
    assert (data["ok"], data["num_problems"], data["num_without_key"]) == (True, 4, 1)
    assert data["keys"][0] == {"source": "a", "keys": 2, "accepted": 2}


def test_a_row_without_a_reference_answer_is_ungradable_and_not_refused(tmp_path: Path) -> None:
    data = check_files(write(tmp_path / "set.jsonl", PLAIN, WITHOUT_ANSWER))
    (row,) = data["ungradable"]
    assert (row["set"], row["row"], row["reason"]) == ("set", "set.jsonl:2", "no key")
    assert data["ok"] and data["refused"] == []


@pytest.mark.parametrize("answer", ["notfound", "See solution.", "略", "\\text{Proof}", "N/A"])
def test_a_note_in_place_of_an_answer_is_no_reference_answer(tmp_path: Path, answer: str) -> None:
    data = check_files(write(tmp_path / "set.jsonl", PLAIN, PLAIN | {"answer": answer}))
    assert (data["num_without_key"], data["sets"][0]["accepted"]) == (1, 1)


@pytest.mark.parametrize(
    "answer", ["A, since 3 is odd", "X的数学期望：2\n方差：1", "f(2)=5; f(3)=7\nso 12"]
)
def test_a_reference_answer_is_read_out_of_a_sentence_and_not_compared_with_itself(
    tmp_path: Path, answer: str
) -> None:
    data = check_files(write(tmp_path / "set.jsonl", PLAIN | {"answer": answer}))
    assert [row["gold"] for row in data["refused"]] == [answer]
    assert data["refused"][0]["extracted"] != answer


def test_a_refused_reference_answer_is_listed_with_its_verdict(tmp_path: Path) -> None:
    data = check_files(write(tmp_path / "set.jsonl", UNPARSABLE, PLAIN))
    (row,) = data["refused"]
    assert (row["row"], row["gold"]) == ("set.jsonl:1", "{")
    assert row["verdict"] != "correct" and row["method"]
    assert (data["ok"], data["sets"][0]["accepted"]) == (False, 1)


def test_a_reference_answer_whose_text_and_letter_differ_is_doubtful(tmp_path: Path) -> None:
    consistent = CONTRADICTORY | {"question": "Again: 2 * 5? A. 5 B. 7 C. 10"}
    consistent |= {"meta": {"choice_answer": "C"}}
    data = check_files(write(tmp_path / "set.jsonl", CONTRADICTORY, consistent))
    (row,) = data["doubtful"]
    assert (row["row"], row["reason"]) == ("set.jsonl:1", "option A is '5'")
    assert data["ok"]


def test_a_file_that_cannot_be_used_is_explained_without_settings_of_a_recipe(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no such file; .* Name one: slowthink check PATH$"):
        check_files(tmp_path / "missing.jsonl")
    with pytest.raises(
        DataError, match=r"no column `question`; .* Name the right one: --question-field COLUMN$"
    ):
        check_files(write(tmp_path / "set.jsonl", {"text": "2 + 2?", "answer": "4"}))


@pytest.mark.parametrize(
    ("refused", "level", "remedy"),
    [
        ([], "refuse", "see what training refuses above"),
        ([{}], "refuse", "fix or drop the refused rows; see what training refuses above"),
        ([{}], "warn", "fix or drop the refused rows"),
        ([], "warn", "1 rows cannot be read; expected none. Fix them, or leave them out: "
         "--skip-bad"),
    ],
)  # fmt: skip
def test_the_remedy_names_what_failed(refused, level, remedy) -> None:
    training = [{"level": level, "text": "disk"}]
    assert _remedy({"refused": refused, "unreadable": [{}], "training": training}) == remedy


def test_an_unreadable_row_is_listed(tmp_path: Path) -> None:
    data = check_files(write(tmp_path / "set.jsonl", PLAIN, {"answer": "1"}))
    assert data["unreadable"] == [
        {"set": "set", "row": "set.jsonl:2", "reason": "`question` is missing or empty"}
    ]
    assert "set: 1 of 1 reference answers accepted, 1 rows unreadable" in result_text(data)
    assert (data["num_rows"], data["num_problems"]) == (2, 1)


def test_a_value_that_cannot_be_used_is_named_by_its_own_column(tmp_path: Path) -> None:
    rows = [{"problem": "2 + 2?", "gold": "4"}, {"problem": 7, "gold": "4"}]
    rows += [{"problem": "3 + 3?", "gold": {"x": 1}}]
    data = check_files(write(tmp_path / "set.jsonl", *rows))
    assert [row["reason"] for row in data["unreadable"]] == [
        "`problem` is a number; expected a string",
        "`gold` is an object; expected a string",
    ]


def test_a_folder_without_files_of_problems_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of problems; .*slowthink check RECIPE"):
        check_files(tmp_path)


def test_files_of_a_folder_that_cannot_be_checked_are_all_named(tmp_path: Path, capsys) -> None:
    write(tmp_path / "a.jsonl", PLAIN)
    (tmp_path / "b.csv").write_text("question,answer\nWhat is 3 + 3?,6\n")
    write(tmp_path / "scores.jsonl", {"id": 1, "score": 3})
    write(tmp_path / "users.jsonl", {"name": "x"})
    assert call("check", str(tmp_path)) == 1
    text = capsys.readouterr().out
    assert "a: 1 of 1" in text and "b: 1 of 1" in text
    assert "not checked: scores.jsonl: no column `question`; the columns are id, score." in text
    assert "not checked: users.jsonl: no column `question`; the columns are name." in text
    assert "not ok: 2 files cannot be checked; expected problems. Name the column" in text
    assert call("check", str(tmp_path), "--skip-bad", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [Path(file["path"]).name for file in data["unchecked"]] == [
        "scores.jsonl",
        "users.jsonl",
    ]


def test_files_of_one_stem_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "exam.jsonl", PLAIN)
    (tmp_path / "exam.csv").write_text("question,answer\nWhat is 3 + 3?,6\n")
    write(tmp_path / "other.jsonl", PLAIN)
    names = [counts["name"] for counts in check_files(tmp_path)["sets"]]
    assert names == ["exam.csv", "exam.jsonl", "other"]


def test_a_folder_of_which_no_file_can_be_checked_is_one_error(tmp_path: Path) -> None:
    write(tmp_path / "scores.jsonl", {"id": 1, "score": 3})
    write(tmp_path / "users.jsonl", {"name": "x"})
    with pytest.raises(DataError, match=r"none of 2 files .*(?s:.)*are id, score\.(?s:.)*are name"):
        check_files(tmp_path)


def test_a_recipes_pool_and_benchmarks_are_checked(tmp_path: Path) -> None:
    pool = write(
        tmp_path / "train.jsonl", {"question": "What is 1 + 1?", "answer": "2"}, UNPARSABLE
    )
    write(tmp_path / "exam.jsonl", PLAIN)
    recipe = parse_recipe(
        {
            "name": "test",
            "pool": {"sources": [{"kind": "file", "path": str(pool)}]},
            "evaluate": {
                "arms": [{"name": "base", "model": "base", "caps": [8]}],
                "benchmarks": [{"name": "aime24", "path": str(tmp_path / "exam.jsonl")}],
            },
        }
    )
    data = check_recipe(recipe)
    counts = {s["name"]: (s["num_keys"], s["accepted"], Path(s["path"]).name) for s in data["sets"]}
    assert counts == {"train": (2, 1, "train.jsonl"), "aime24": (1, 1, "exam.jsonl")}
    assert [row["row"] for row in data["refused"]] == ["train:2"]


def test_the_command_fails_if_a_reference_answer_is_refused(tmp_path: Path, capsys: Any) -> None:
    good, bad = write(tmp_path / "a.jsonl", PLAIN), write(tmp_path / "b.jsonl", UNPARSABLE)
    assert call("check", str(good)) == 0
    assert capsys.readouterr().out == "a: 1 of 1 reference answers accepted\nok\n"
    assert call("check", str(bad), "--json") == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert call("check", str(tmp_path)) == 1
    assert "refused: b b.jsonl:1: '{'" in capsys.readouterr().out
    assert call("check", str(good), "--set", "seed=1") == 2


EXCEPTIONS = {
    "ungradable": {"gaokao2023en": ["no key"] * 2},
    "doubtful": {"gaokao24_zh": ["option A is '10 i'"]},
}
"""Rows of the real sets that need attention, by set: two have no answer at their source; one has
the answer 10, which is option C, and the letter A."""


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="no shared data beside the project")
def test_every_reference_answer_of_the_real_sets_is_accepted() -> None:
    data = check_files(SHARED)
    assert len(data["sets"]) >= 16
    assert [row["name"] for row in data["sets"] if row["accepted"] < row["num_keys"]] == []
    assert data["refused"] == [] and data["unreadable"] == []
    for kind, by_set in EXCEPTIONS.items():
        reasons: dict[str, list[str]] = {}
        for row in data[kind]:
            reasons.setdefault(row["set"], []).append(row["reason"])
        assert reasons == by_set, kind
