"""Files of problems: which rows are read, which are dropped, which files raise an error."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slowthink.data.problems import SourceProblems
from slowthink.errors import ConfigError, DataError
from slowthink.recipe import FileSource
from slowthink.records import Split
from slowthink.stages.pool.files import file_problems

GOOD = {"question": "What is 1 + 1?", "answer": "2"}


def write(folder: Path, *lines: bytes | dict[str, Any], name: str = "pool.jsonl") -> Path:
    data = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path = folder / name
    path.write_bytes(b"\n".join(data) + b"\n")
    return path


def read(path: Path, **settings: Any) -> SourceProblems:
    source = FileSource(path=str(path), **settings)
    return file_problems(source, seed=0, setting="pool.sources.0")


def question(number: int) -> dict[str, Any]:
    return {"id": f"q{number}", "question": f"What is {number} + 1?", "answer": str(number + 1)}


BROKEN = {
    "torn": (b'{"question": "What is', "not valid JSON"),
    "not utf-8": (b'{"question": "caf\xe9?", "answer": "1"}', "not valid UTF-8"),
    "nul byte": (b'{"question": "a\x00b", "answer": "1"}', "holds a NUL byte"),
    "nul escape": (b'{"question": "a\\u0000b", "answer": "1"}', "`question` holds a NUL byte"),
    "surrogate": (b'{"question": "\\ud800", "answer": "1"}', "`question` is not valid UTF-8"),
    "list row": (b"[1, 2]", "the row is a list; expected an object"),
    "deep": (b"[" * 100_000, "not valid JSON"),
    "huge number": (b'{"question": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "no question": (b'{"answer": "1"}', "`question` is missing or empty"),
    "blank question": (b'{"question": "  ", "answer": "1"}', "`question` is missing or empty"),
    "question number": (
        b'{"question": 5, "answer": "1"}',
        "`question` is a number; expected a string",
    ),
    "answer list": (
        b'{"question": "a?", "answer": ["1"]}',
        "`answer` is a list; expected a string",
    ),
    "solution object": (
        b'{"question": "a?", "answer": "1", "solution": {}}',
        "`solution` is an object; expected a string",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_row_is_dropped_with_its_line_and_reason(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    source = read(write(tmp_path, GOOD, line))
    assert [item.problem.question for item in source.items] == [GOOD["question"]]
    (dropped,) = source.dropped
    assert (dropped.id, dropped.step, dropped.reason) == ("pool.jsonl:2", "read", reason)
    assert len(dropped.evidence) <= 200 and dropped.evidence.encode("utf-8")


def test_line_of_50_mb_is_dropped_in_bounded_memory(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, b'{"question": "' + b"a" * 50_000_000 + b'"}', question(2))
    tracemalloc.start()
    source = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.location for item in source.items] == ["pool.jsonl:1", "pool.jsonl:3"]
    assert source.dropped[0].reason == "a line above 8,000,000 bytes"
    assert source.dropped[0].evidence.startswith("50,000,017 bytes: ")
    assert peak < 30_000_000


def test_second_row_of_an_id_is_dropped(tmp_path: Path) -> None:
    source = read(write(tmp_path, question(1), question(2), question(3) | {"id": "q1"}))
    assert [(drop.id, drop.reason) for drop in source.dropped] == [
        ("pool.jsonl:3", "duplicate `id`")
    ]


def test_byte_order_mark_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", b"  ")
    source = read(path)
    assert (len(source.items), source.dropped, source.num_rows) == (1, [], 1)


# --- whole files ----------------------------------------------------------------------------------


def test_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file; expected .*pool\.sources\.0\.path=PATH"):
        read(tmp_path / "none.jsonl")


def test_empty_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.touch()
    with pytest.raises(DataError, match="no rows; expected at least one"):
        read(path)


def test_file_without_a_usable_row_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 rows can be used \(not valid JSON"):
        read(write(tmp_path, b"{", b"nothing"))


def test_unknown_kind_of_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a `\.xlsx` file; expected \.jsonl, \.json"):
        read(write(tmp_path, GOOD, name="pool.xlsx"))


def test_broken_parquet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a Parquet file"):
        read(write(tmp_path, GOOD, name="pool.parquet"))


@pytest.mark.parametrize("key", ["question_field", "domain_field", "choices_field"])
def test_missing_column_is_an_error_listing_the_columns(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, GOOD, question(2))
    expected = rf"no column `topic`; the columns are question, answer, id.*{key}=COLUMN"
    with pytest.raises(DataError, match=expected):
        read(path, **{key: "topic"})


def test_file_without_answers_and_solutions_is_an_error_unless_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "a?"})
    with pytest.raises(DataError, match="no column `answer`"):
        read(path)
    assert read(path, answer_field=None).items[0].problem.answer is None


# --- what a row becomes ---------------------------------------------------------------------------


def test_answer_out_of_the_solution_is_marked_as_derived(tmp_path: Path) -> None:
    solution = r"It is \boxed{1} or rather \boxed{\frac{1}{2}}."
    without = {"question": "a?", "solution": solution}
    rows = [without, without | {"question": "b?", "answer": ""}, GOOD]
    problems = [item.problem for item in read(write(tmp_path, *rows)).items]
    assert [(p.answer, p.answer_derived) for p in problems] == [
        (r"\frac{1}{2}", True),
        (r"\frac{1}{2}", True),
        ("2", False),
    ]


def test_columns_are_mapped(tmp_path: Path) -> None:
    row = {"q": "a?", "a": 7, "topic": "sums", "opts": ["1", "7"]}
    source = read(
        write(tmp_path, row), question_field="q", answer_field="a", domain_field="topic",
        choices_field="opts", name="mine", licence="MIT", language="zh",
    )  # fmt: skip
    problem = source.items[0].problem
    assert (problem.question, problem.answer, problem.domain) == ("a?", "7", "sums")
    assert (problem.choices, problem.source, problem.source_row) == (("1", "7"), "mine", "1")
    assert (problem.licence, problem.language) == ("MIT", "zh")


def test_csv_rows_may_span_lines_and_bad_ones_are_dropped(tmp_path: Path) -> None:
    data = b'question,answer\n"What\nis 1?",1\nx,2,3\ncaf\xe9,4\nlast,5\n'
    path = tmp_path / "pool.csv"
    path.write_bytes(data)
    source = read(path)
    assert [item.problem.question for item in source.items] == ["What\nis 1?", "last"]
    assert [(drop.id, drop.reason) for drop in source.dropped] == [
        ("pool.csv:4", "has 3 cells; expected 2, as the header"),
        ("pool.csv:5", "not valid UTF-8: convert the file"),
    ]


def test_unclosed_quote_in_csv_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_bytes(b'question,answer\na,1\n"b,2\nc,3\n')
    source = read(path)
    assert [item.problem.question for item in source.items] == ["a"]
    assert [drop.reason for drop in source.dropped] == ["not valid CSV"]


def test_parquet_is_read_like_jsonl(tmp_path: Path) -> None:
    rows = [question(number) for number in range(600)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    from_parquet = read(tmp_path / "pool.parquet", name="x").items
    from_lines = read(write(tmp_path, *rows), name="x").items
    assert [item.problem for item in from_parquet] == [item.problem for item in from_lines]


# --- which rows -----------------------------------------------------------------------------------


def test_heldout_rows_do_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [question(number) for number in range(50)]

    def held(rows: list[dict[str, Any]]) -> set[str]:
        items = read(write(tmp_path, *rows), num_heldout=10).items
        return {item.problem.id for item in items if item.problem.split is Split.HELDOUT}

    assert len(held(rows)) == 10
    assert held(rows) == held(rows[::-1])


def test_holding_out_all_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 of 2 problems would be held out"):
        read(write(tmp_path, question(1), question(2)), num_heldout=2)


def test_rows_that_are_not_drawn_are_recorded(tmp_path: Path) -> None:
    source = read(write(tmp_path, *map(question, range(20))), max_problems=5)
    assert len(source.items) == 5
    assert [drop.reason for drop in source.dropped] == ["not drawn (max_problems)"] * 15


def test_heldout_file_is_held_out_whole(tmp_path: Path) -> None:
    items = read(write(tmp_path, question(1), question(2)), split="heldout").items
    assert [item.problem.split for item in items] == [Split.HELDOUT, Split.HELDOUT]


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.csv", "pool.json", "pool.parquet"])
def test_progress_of_a_long_file_grows_to_its_end(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("slowthink.stages.pool.files.PROGRESS_LINES", 10)
    rows = [question(number) for number in range(95)]
    path = tmp_path / name
    if name == "pool.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "pool.csv":
        path.write_text("id,question,answer\n" + "".join(f"{','.join(r.values())}\n" for r in rows))
    else:
        path.write_text(
            json.dumps(rows) if name == "pool.json" else "\n".join(map(json.dumps, rows)) + "\n"
        )
    reports: list[tuple[int, int]] = []
    source = FileSource(path=str(path))
    file_problems(source, seed=0, setting="s", progress=lambda *report: reports.append(report))
    numbers = [done for done, _ in reports]
    assert {total for _, total in reports} == {95}
    assert numbers == sorted(numbers)
    assert numbers[-1] == 95
    assert len(numbers) == 11


# --- columns and languages that are guessed -------------------------------------------------------


def test_usual_names_of_columns_are_guessed_and_recorded(tmp_path: Path) -> None:
    row = {"编号": 1, "题目": "求 3 的两倍。", "答案": "6", "解析": "3×2=6"}
    source = read(write(tmp_path, row))
    (item,) = source.items
    assert (item.problem.question, item.problem.answer) == ("求 3 的两倍。", "6")
    assert item.problem.solution == "3×2=6"
    assert source.facts["guessed_columns"] == {
        "question": "题目", "answer": "答案", "solution": "解析",
    }  # fmt: skip


def test_columns_that_are_named_or_have_the_default_name_are_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, {"question": "a?", "problem": "b?", "answer": "1", "gold": "2"})
    source = read(path)
    assert (source.items[0].problem.question, source.items[0].problem.answer) == ("a?", "1")
    assert "guessed_columns" not in source.facts
    with pytest.raises(DataError, match="no column `text`"):
        read(path, question_field="text")


@pytest.mark.parametrize(("row", "setting", "language"), [
    ({"question": "求 $x$ 的值。"}, "en", "zh"),
    ({"question": "What is 1 + 1?"}, "en", "en"),
    ({"question": "$x^2 = 4$"}, "zh", "zh"),
    ({"question": "Докажите, что число простое."}, "en", "ru"),
    ({"question": "Let 甲 and 乙 be two people who walk towards each other."}, "en", "en"),
    ({"question": "¿Cuál es el resultado?", "language": "es"}, "en", "es"),
    ({"question": "What is 1 + 1?", "meta": {"language": "Chinese"}}, "en", "zh"),
    ({"question": "What is 1 + 1?", "meta": '{"language": "zh"}'}, "en", "zh"),
])  # fmt: skip
def test_the_language_is_what_the_row_states_or_its_script_shows(
    tmp_path: Path, row: dict[str, Any], setting: str, language: str
) -> None:
    source = read(write(tmp_path, row | {"answer": "2"}), language=setting)
    assert source.items[0].problem.language == language
