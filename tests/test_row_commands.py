"""The commands on files of rows: dedup, decontaminate, grade, passk, compare, check, init, recipes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slowthink.cli.app import main
from slowthink.data.column_names import USUAL_NAMES, guess_column
from slowthink.data.encodings import csv_encoding
from slowthink.data.rows import read_rows
from slowthink.recipe.loading import load_recipe, recipe_names, recipe_summary

LONG = "How many positive integers below 1000 are divisible by 7 and leave remainder 3 when divided by 5?"
OTHER = "A train leaves Paris at noon and travels 300 kilometres at 75 km/h; when does it arrive in Lyon?"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shared_grader(grader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands grade by the shared grader, whose workers have started."""
    monkeypatch.setattr("slowthink.api.answers.shared_grader", lambda mode="strict": grader)
    monkeypatch.setattr("slowthink.grading.check_dependencies", lambda: None)
    monkeypatch.setattr("slowthink.grading.Grader", lambda *args, **options: nullcontext(grader))


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code or 0


def write(name: str, rows: list[Any]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    Path(name).write_text("\n".join(lines) + "\n", "utf-8")
    return name


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text("utf-8").splitlines()]


# --- names of columns -----------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "role", "name"), [
    (["id", "Problem", "final answer"], "question", "Problem"),
    (["id", "Problem", "final answer"], "answer", "final answer"),
    (["题目", "答案", "解析"], "solution", "解析"),
    (["text", "rationale"], "solution", "rationale"),
    (["text"], "question", None),
])  # fmt: skip
def test_usual_names_are_guessed_in_any_spelling(columns, role, name) -> None:
    assert guess_column(columns, role) == name


def test_no_name_is_usual_for_two_roles() -> None:
    names = [name for role in USUAL_NAMES.values() for name in role]
    assert len(names) == len(set(names))


# --- dedup and decontaminate ----------------------------------------------------------------------


def test_dedup_keeps_the_first_row_with_the_users_columns(capsys) -> None:
    rows = [
        {"nr": 1, "题目": f"求 $\\frac{{1}}{{2}} x$ 的值。{LONG}", "note": ["kept", 1]},
        {"nr": 2, "题目": OTHER},
        {"nr": 3, "题目": f"求 $\\dfrac{{1}}{{2}}x$ 的值。{LONG}"},
    ]
    assert call("dedup", write("pool.jsonl", rows), "--out", "u.jsonl", "--dropped", "d.jsonl") == 0
    assert read("u.jsonl") == rows[:2]
    (dropped,) = read("d.jsonl")
    assert dropped["nr"] == 3
    assert (dropped["duplicate_of"], dropped["duplicate_of_line"]) == ("pool.jsonl:1", 1)
    captured = capsys.readouterr()
    assert "question is read from column `题目`" in captured.err
    assert "2 to keep, 1 duplicates" in captured.out


def test_dedup_keeps_questions_whose_answers_differ(capsys) -> None:
    forms = [("frac", "28"), ("dfrac", "29"), ("tfrac", "28")]
    rows = [
        {"problem": f"{LONG} Halve it: $\\{form}{{1}}{{2}}$.", "final_answer": answer}
        for form, answer in forms
    ]
    assert call("dedup", write("pool.jsonl", rows), "--out", "u.jsonl") == 0
    assert read("u.jsonl") == rows[:2]
    assert "answer is read from column `final_answer`" in capsys.readouterr().err


def test_rows_go_through_a_pipe(monkeypatch, capsys) -> None:
    path = write("pool.jsonl", [{"question": LONG}, {"question": LONG}])
    with Path(path).open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert call("dedup", "-", "--out", "-") == 0
    captured = capsys.readouterr()
    assert captured.out == json.dumps({"question": LONG}) + "\n"
    assert "1 duplicates" in captured.err


def test_decontaminate_drops_copies_and_reports_other_numbers(capsys) -> None:
    template = LONG.replace("1000", "500").replace("7", "9").replace("3", "4")
    pool = write("pool.jsonl", [
        {"id": "a", "question": f"Please solve. {LONG}"},
        {"id": "b", "question": template},
        {"id": "c", "question": OTHER},
    ])  # fmt: skip
    exam = write("exam.jsonl", [{"id": "t1", "problem": LONG, "answer": "1"}])
    more = write("more.jsonl", [{"question": "What is 1 + 1?", "answer": "2"}])
    outputs = ("--out", "clean.parquet", "--dropped", "d.csv", "--json")
    assert call("decontaminate", pool, "--against", exam, more, *outputs) == 0
    data = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["num_dropped"], s["num_reported"]) for s in data["against"]] == [
        ("exam", 1, 1), ("more", 0, 0),
    ]  # fmt: skip
    assert pq.read_table("clean.parquet")["id"].to_pylist() == ["b", "c"]
    with open("d.csv", encoding="utf-8") as file:
        (dropped,) = csv.DictReader(file)
    assert (dropped["id"], dropped["leak_of"], dropped["leak_kind"]) == ("a", "exam:t1", "copy")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_any_text_is_written_in_any_format_or_refused(suffix, capsys) -> None:
    pool = write("pool.jsonl", [{"question": LONG, "note": "half \ud800 and\u2028more\n"}])
    code = call("dedup", pool, "--out", f"out.{suffix}")
    assert code == (suffix == "parquet")
    if suffix == "parquet":
        assert "Write JSONL: --out FILE.jsonl" in capsys.readouterr().err
        assert not list(Path().glob("*out.parquet*"))
    if suffix == "jsonl":
        text = Path("out.jsonl").read_bytes().split(b"\n")
        assert json.loads(text[0]) == json.loads(Path(pool).read_bytes().split(b"\n")[0])


@pytest.mark.parametrize("option", ["--out", "--dropped"])
def test_a_benchmark_is_not_overwritten_by_what_is_compared_with_it(option, capsys) -> None:
    pool, exam = (write(name, [{"question": LONG}]) for name in ("pool.jsonl", "exam.jsonl"))
    before = Path(exam).read_bytes()
    assert call("decontaminate", pool, "--against", f"{pool},./exam.jsonl", option, exam) == 2
    assert "exam.jsonl: is the input; expected another file" in capsys.readouterr().err
    assert Path(exam).read_bytes() == before


@pytest.mark.parametrize("command", [("dedup",), ("decontaminate", "--against", "exam.jsonl")])
def test_bad_rows_lose_nothing_and_exit_1_unless_skipped(command, capsys) -> None:
    write("exam.jsonl", [{"question": "What is 1 + 1?", "answer": "2"}])
    pool = write("pool.jsonl", [{"question": LONG}, "no json", {"question": ["x"]}])
    name, *options = command
    outputs = ("--out", "kept.jsonl", "--dropped", "dropped.jsonl")
    assert call(name, pool, *options, *outputs) == 1
    assert "pool.jsonl:2: not valid JSON: no json" in capsys.readouterr().err
    assert read("kept.jsonl") == [{"question": LONG}]
    (bad,) = read("dropped.jsonl")
    assert bad["question"] == ["x"] and "expected a string" in bad["error"]
    assert call(name, pool, *options, "--skip-bad") == 0


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("dedup", "no.jsonl"), 1, "no such file"),
    (("dedup", "a.jsonl", "--question-field", "x"), 2, "no column `x`; the columns are question"),
    (("dedup", "a.jsonl", "--out", "a.jsonl"), 2, "is the input"),
    (("dedup", "a.jsonl", "--out", "a.txt"), 2, "expected .jsonl, .json, .csv, .parquet"),
    (("dedup", "b.jsonl"), 1, "no column for the question; the columns are x"),
    (("decontaminate", "a.jsonl"), 2, "--against math500 aime24"),
    (("decontaminate", "a.jsonl", "--against", "math50"), 2, "did you mean `math500`"),
    (("decontaminate", "a.jsonl", "--against", "b.jsonl"), 1, "Name it `question`"),
    (("decontaminate", "a.jsonl", "--against", "absent.jsonl"), 1, "Name one: --against PATH"),
    (("compare", "a.jsonl", "."), 2, "two run folders or two files"),
    (("compare", "no.jsonl", "a.jsonl"), 1, "no.jsonl: no such file"),
    (("passk", "b.jsonl"), 1, "expected samples"),
    (("init", "large", "--data", "a.jsonl"), 2, "small, own-data, evaluate"),
    (("init", "own-data", "--data", "a.jsonl"), 2, "slowthink init evaluate --data a.jsonl"),
    (("check", "quickstart", "--question-field", "x"), 2, "is a recipe"),
    (("generate", "missing.jsonl"), 2, "no such file"),
])  # fmt: skip
def test_mistakes_are_explained(arguments, code, message, capsys) -> None:
    write("a.jsonl", [{"question": LONG, "answer": "1"}])
    write("b.jsonl", [{"x": 1}])
    assert call(*arguments) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("command", [
    ("dedup",), ("check",), ("init", "evaluate", "--data"), ("decontaminate", "--against", "a.csv"),
])  # fmt: skip
@pytest.mark.parametrize(("data", "message"), [
    ("問題,answer\n一加一?,2\n".encode("big5"), "not UTF-8 text"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text"),
    (b"a\x00b,c\n", "NUL"),
    (b'"question"x,answer\n', "not CSV ("),
    (b"question;answer\n1+1?;2\n", "delimiter is ';'"),
    (b"question\tanswer\n1+1?\t2\n", "delimiter is"),
])  # fmt: skip
def test_csv_that_is_none_is_explained(command, data, message, capsys) -> None:
    Path("a.csv").write_bytes(data)
    options = command[1:] if command[-1] == "--data" else ()
    arguments = (command[0], *options, "a.csv", *(() if options else command[1:]))
    assert call(*arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "\\udc" not in error


def test_rows_of_csv_in_another_encoding_are_bad_with_their_bytes(capsys) -> None:
    Path("a.csv").write_bytes("question,answer\n1+1?,2\nSumme für zwei,2\n".encode("latin-1"))
    assert call("dedup", "a.csv") == 1
    captured = capsys.readouterr()
    assert "a.csv:3: not valid UTF-8: convert the file: Summe f\\xfcr" in captured.err
    assert "\\udc" not in captured.err
    assert captured.out.startswith("2 rows: 1 to keep, 0 duplicates, 1 unusable\n")


@pytest.mark.parametrize("encoding", ["gbk", "gb18030"])
def test_csv_of_a_chinese_windows_is_read_and_that_is_said(encoding, capsys) -> None:
    rows = "题目,答案\n小明有３个苹果，又买了两个，一共有多少个？,5\n求“和”的值：1+1=？,2\n"
    Path(f"{encoding}.csv").write_bytes(rows.encode(encoding))
    assert call("check", f"{encoding}.csv") == 0
    printed = capsys.readouterr()
    (message,) = (line for line in printed.err.splitlines() if "not UTF-8" in line)
    assert message.startswith(f"{encoding}.csv: not UTF-8; it is read as GB18030 (GBK). ")
    assert "2 of 2 reference answers accepted" in printed.out
    assert call("dedup", f"{encoding}.csv", "--out", "out.csv", "--json") == 0
    assert Path("out.csv").read_text(encoding="utf-8") == rows


@pytest.mark.parametrize(("text", "encoding"), [
    ("Größe naïve Summe für zwei Häuser", "latin-1"), ("сколько будет два плюс два", "cp1251"),
    ("りんごはいくつありますか", "euc-jp"), ("りんごはいくつありますか", "shift-jis"),
    ("小明有三個蘋果，又買了兩個，一共有多少個？", "big5"),
])  # fmt: skip
def test_other_encodings_are_not_taken_for_chinese(text, encoding) -> None:
    Path("a.csv").write_bytes(f"question,answer\n{text},5\n".encode(encoding))
    assert csv_encoding(Path("a.csv")) == "utf-8"


def test_bare_carriage_returns_end_the_lines_of_csv(capsys) -> None:
    Path("a.csv").write_bytes(b'question,answer\r1+1?,2\r"2+2,\rsay?",4\r3+3?\r')
    rows = list(read_rows("a.csv", setting=None))
    assert [row.line for row in rows] == [2, 4, 5]
    assert rows[0].values == {"question": "1+1?", "answer": "2"}
    assert rows[1].values == {"question": "2+2,\rsay?", "answer": "4"}
    assert rows[2].reason == "has 1 cells; expected 2, as the header"
    assert call("dedup", "a.csv", "--skip-bad") == 0


# --- grade, check, passk, compare -----------------------------------------------------------------


@pytest.mark.usefixtures("shared_grader")
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_grade_writes_the_verdicts_beside_the_users_columns(suffix, capsys) -> None:
    rows = [{"nr": "1", "answer": "1/2", "pred": "0.5"}, {"nr": "2", "answer": "3", "pred": "4"}]
    path = f"answers.{suffix}"
    if suffix == "csv":
        write(path, ["nr,answer,pred", "1,1/2,0.5", "2,3,4"])
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, rows)
    assert call("grade", path, "--out", "graded.jsonl") == 0
    captured = capsys.readouterr()
    assert "gold is read from column `answer`" in captured.err
    assert "2 rows: 1 correct, 1 wrong" in captured.out
    graded = read("graded.jsonl")
    assert [{key: row[key] for key in rows[0]} for row in graded] == rows
    assert [row["verdict"] for row in graded] == ["correct", "wrong"]


@pytest.mark.usefixtures("shared_grader")
def test_grade_reports_bad_rows_and_exits_1_unless_they_are_skipped(capsys) -> None:
    path = write("a.jsonl", [{"gold": "1", "pred": "1", "verdict": "mine"}, {"gold": "2"}, "x"])
    assert call("grade", path, "--out", "g.jsonl") == 1
    err = capsys.readouterr().err
    assert "a.jsonl:2: has gold" in err and "a.jsonl:3: not valid JSON" in err
    first, second = read("g.jsonl")
    assert (first["verdict"], first["slowthink_verdict"]) == ("mine", "correct")
    assert (second["slowthink_verdict"], second["error"]) == (None, "has gold")
    assert call("grade", path, "--skip-bad") == 0


SAMPLES = [
    {"id": f"q{q}", "problem": f"What is {q} + 1?", "final_answer": str(q + 1), "output": f"\\boxed{{{a}}}"}
    for q, answers in enumerate([(1, 1), (2, 0), (9, 9)])
    for a in answers
]  # fmt: skip


@pytest.mark.usefixtures("shared_grader")
def test_passk_grades_samples_and_has_intervals(capsys) -> None:
    assert call("passk", write("s.jsonl", SAMPLES), "--json") == 0
    captured = capsys.readouterr()
    assert "response is read from column `output`; to change it: rename" in captured.err
    data = json.loads(captured.out)
    assert data["verdicts"] == {"correct": 3, "wrong": 3}
    first, second = data["points"]
    assert (first["k"], first["pass"]["value"], first["pass"]["n"]) == (1, 0.5, 3)
    assert second["pass"]["value"] == pytest.approx(2 / 3)
    assert second["maj"]["value"] == pytest.approx((1 + 0.5) / 3)
    assert 0 <= second["pass"]["low"] < second["pass"]["value"] < second["pass"]["high"] <= 1
    assert call("passk", "s.jsonl", "--k", "3") == 2
    assert "expected k of at most 2" in capsys.readouterr().err


@pytest.mark.usefixtures("shared_grader")
def test_passk_takes_labels_as_they_are(capsys) -> None:
    rows = ["id,correct"] + [f"q{i // 2},{i % 3 == 0}" for i in range(8)]
    assert call("passk", write("s.csv", rows)) == 0
    captured = capsys.readouterr()
    assert "the labels in `correct` are used" in captured.err
    assert "labels only" in captured.out


@pytest.mark.usefixtures("shared_grader")
def test_compare_pairs_two_files_by_their_questions(capsys) -> None:
    better = [
        row | {"output": f"It is {row['final_answer']}. \\boxed{{{row['final_answer']}}}"}
        for row in SAMPLES
    ]
    write("a.jsonl", SAMPLES)
    write("b.jsonl", list(reversed(better)))
    assert call("compare", "a.jsonl", "b.jsonl", "--json") == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert (figures["n"], figures["difference"]) == (3, 0.5)
    assert {row["id"] for row in figures["won"]} == {"q1", "q2"}
    assert call("compare", "a.jsonl", "b.jsonl") == 0
    assert "50.0% -> 100.0%" in capsys.readouterr().out


@pytest.mark.usefixtures("shared_grader")
def test_check_reads_usual_and_named_columns(capsys) -> None:
    write("exam.csv", ["题目,答案,prompt", "1+1,2,x", "2+2,4,x"])
    assert call("check", "exam.csv") == 0
    captured = capsys.readouterr()
    assert "question is read from column `题目`" in captured.err
    assert "2 of 2 reference answers accepted" in captured.out
    write("mine.csv", ["text,key", "1+1,2", "2+2,4"])
    assert call("check", "mine.csv") == 1
    assert "--question-field COLUMN" in capsys.readouterr().err
    assert call("check", "mine.csv", "--question-field", "text", "--answer-field", "key") == 0


def test_check_is_not_ok_if_a_row_cannot_be_read(capsys) -> None:
    exam = write("exam.jsonl", [{"question": "1+1", "answer": "2"}, "no json"])
    assert call("check", exam) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("not ok: 1 rows cannot be read") and last.endswith("--skip-bad")
    assert call("check", exam, "--skip-bad") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ok"


# --- recipes --------------------------------------------------------------------------------------

EXAM = ["编号,题目,答案,解析"] + [
    f"{i},小明有{i}个苹果，又买了{2 * i}个，一共有多少个？,{3 * i},{i}+{2 * i}={3 * i}"
    for i in range(1, 21)
]


@pytest.mark.parametrize("kind", ["own-data", "small", "evaluate"])
def test_init_writes_a_recipe_that_can_run(kind, capsys) -> None:
    write("exam.csv", EXAM)
    assert call("init", kind, "--data", "exam.csv") == 0
    assert "slowthink run exam.yaml --dry-run" in capsys.readouterr().out
    recipe = load_recipe("exam.yaml")
    assert recipe.name == "exam"
    if kind == "evaluate":
        assert recipe.evaluate.benchmarks[0].question_field == "题目"
    else:
        (source,) = recipe.pool.sources
        assert (source.question_field, source.solution_field) == ("题目", "解析")
        assert (source.num_heldout, recipe.select.num_problems) == (4, 16)
    assert call("run", "exam.yaml", "--dry-run") == 0
    assert call("init", kind, "--data", "exam.csv") == 2
    assert "nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["own-data", "small"])
def test_init_without_solutions_names_what_can_be_done(kind, capsys) -> None:
    write("exam.csv", ["question,answer"] + [f"{i}+1,{i + 1}" for i in range(20)])
    assert call("init", kind, "--data", "exam.csv") == 2
    message = capsys.readouterr().err
    assert "slowthink run small-teacher --set pool.sources.0.path=exam.csv" in message
    assert "slowthink init evaluate --data exam.csv" in message


def test_a_recipe_extends_a_shipped_one_or_a_file_beside_it(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "base.yaml").write_text("extends: quickstart\nseed: 7\ntrain: {epochs: 3}\n")
    (folder / "mine.yaml").write_text("extends: base.yaml\nname: mine\ntrain: {batch_size: 2}\n")
    recipe, quickstart = load_recipe(str(folder / "mine.yaml")), load_recipe("quickstart")
    assert (recipe.name, recipe.seed, recipe.pool) == ("mine", 7, quickstart.pool)
    assert (recipe.train.epochs, recipe.train.batch_size) == (3, 2)
    assert recipe.train.learning_rate == quickstart.train.learning_rate
    (folder / "base.yaml").write_text("extends: mine.yaml\n")
    assert call("run", str(folder / "mine.yaml"), "--dry-run") == 2
    assert "no circle" in capsys.readouterr().err


def test_recipes_has_one_line_for_each(capsys) -> None:
    assert call("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    assert all(20 < len(recipe_summary(name)) <= 110 for name in recipe_names())


def test_version_and_completion(capsys) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("slowthink 0")
    script = "import sys; sys.argv[0] = 'slowthink'; from slowthink.cli.app import main; main()"
    variables = {
        "_SLOWTHINK_COMPLETE": "complete_bash",
        "COMP_WORDS": "slowthink run qui",
        "COMP_CWORD": "2",
    }
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env=variables | {"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.split() == ["quickstart"]
