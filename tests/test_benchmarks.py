"""Benchmarks: the registry, files of every shape, shuffled options, the hub."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slowthink.data.load import ProblemSet, load_benchmark, open_published
from slowthink.data.registry import (
    Part,
    PublishedDataset,
    find_benchmark,
    limo_ten,
    published_datasets,
)
from slowthink.data.rows import SourceRow
from slowthink.errors import ConfigError, DataError
from slowthink.grading import Grader
from slowthink.recipe import BenchmarkConfig
from slowthink.records import Problem, Split, Verdict

BENCHMARKS = published_datasets("benchmark")
SETTING = "evaluate.benchmarks.0"
GPQA = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def write(folder: Path, *rows: dict[str, Any], name: str = "set.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path | None, name: str = "mine", seed: int = 0, **settings: Any) -> ProblemSet:
    config = BenchmarkConfig(name=name, path=str(path) if path else None, **settings)
    return load_benchmark(config, seed=seed, setting=SETTING)


def question(number: int, **more: Any) -> dict[str, Any]:
    return {"question": f"What is {number} + 1?", "answer": str(number + 1), **more}


def only(path: Path, **settings: Any) -> Problem:
    (problem,) = load(path, **settings).problems
    return problem


# --- the registry ---------------------------------------------------------------------------------


def test_limos_ten_sets_are_in_or_out_of_its_domain() -> None:
    ten = {name: BENCHMARKS[name].domain for name in limo_ten()}
    assert len(ten) == 10
    assert {name for name, domain in ten.items() if domain == "in"} == {
        "aime24",
        "math500",
        "amc23",
    }
    assert Counter(ten.values()) == {"in": 3, "out": 7}
    assert all(
        published.domain is None for published in BENCHMARKS.values() if not published.limo_ten
    )


def test_every_name_is_plain_and_every_alias_leads_to_one() -> None:
    aliases = [alias for published in BENCHMARKS.values() for alias in published.aliases]
    for name in [*BENCHMARKS, *aliases]:
        assert name == name.lower() and "_" not in name
    assert len(set(aliases)) == len(aliases) == 19
    assert not set(aliases) & set(BENCHMARKS)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("AIME24", "aime24"),
        ("GPQA", "gpqa-diamond"),
        ("cn_math_2024", "chmath"),
        ("grade_school_math_zh", "grade-school"),
        ("MATH-500", "math500"),
    ],
)
def test_a_set_is_found_by_its_other_names(given: str, name: str) -> None:
    assert find_benchmark(given) == BENCHMARKS[name]


# --- files ----------------------------------------------------------------------------------------


def test_rows_become_held_out_problems_with_the_files_facts(tmp_path: Path) -> None:
    path = write(tmp_path, question(1, id="a"), question(2, id="b"))
    benchmark = load(path, "aime_2024")
    assert (benchmark.name, benchmark.domain, benchmark.instruction) == ("aime24", "in", None)
    assert [p.split for p in benchmark.problems] == [Split.HELDOUT] * 2
    assert [(p.source, p.source_row, p.answer) for p in benchmark.problems] == [
        ("aime24", "a", "2"),
        ("aime24", "b", "3"),
    ]
    assert benchmark.source["path"] == str(path)
    assert (benchmark.source["num_rows"], benchmark.source["num_published"]) == (2, 30)
    assert len(benchmark.source["sha256"]) == 64


def test_the_same_question_has_the_same_id_in_every_set(tmp_path: Path) -> None:
    path = write(tmp_path, question(1))
    assert only(path, name="aime24").id == only(path, name="mine").id


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_files_of_each_kind_are_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"set.{ending}"
    rows = [question(1), question(2)]
    if ending == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["question", "answer"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text(json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows)))
    assert [p.answer for p in load(path).problems] == ["2", "3"]


def test_a_file_may_have_the_hubs_columns_or_named_ones(tmp_path: Path) -> None:
    hub = write(tmp_path, {"problem": "What is 1 + 1?", "answer": 2, "problem_idx": 1})
    assert only(hub, name="hmmt").answer == "2"
    own = write(tmp_path, {"q": "What is 1 + 1?", "a": "2"})
    assert only(own, question_field="q", answer_field="a").answer == "2"
    with pytest.raises(DataError, match=r"no column `question`; .* q, a\. .*question_field=COLUMN"):
        load(own)


EXTRAS = {
    "from the row": question(1, unit="cm", tolerance=0.02, language="zh", domain="algebra"),
    "from its meta": question(
        1, meta={"unit": "cm", "tolerance": "0.02", "language": "Chinese", "subject": "algebra"}
    ),
    "from its meta as text": question(
        1, meta='{"unit": "cm", "tolerance": 2e-2, "language": "zh", "domain": ["algebra", "x"]}'
    ),
}


@pytest.mark.parametrize("row", EXTRAS.values(), ids=EXTRAS.keys())
def test_extras_are_read(tmp_path: Path, row: dict[str, Any]) -> None:
    problem = only(write(tmp_path, row))
    benchmark = (problem.unit, problem.tolerance, problem.language, problem.domain)
    assert benchmark == ("cm", 0.02, "zh", "algebra")


@pytest.mark.parametrize(
    ("name", "more", "language"),
    [
        ("mine", {}, "zh"),
        ("mine", {"language": "en"}, "en"),
        ("math500", {}, "en"),
        ("math500", {"language": "Chinese"}, "zh"),
    ],
)
def test_the_language_is_as_stated_or_listed_else_by_script(
    tmp_path: Path, name: str, more: dict[str, Any], language: str
) -> None:
    row = {"question": "求方程的根", "problem": "求方程的根", "answer": "2", **more}
    assert only(write(tmp_path, row), name=name).language == language


@pytest.mark.parametrize(
    ("answer", "error", "tolerance"),
    [
        ("$2.5$", "1e-1", 0.04),
        ("$4 \\times 10^{5}$", "1e4", 0.025),
        ("0", "1e-1", None),
        ("3,4", "1e-1", None),
        ("8", "0", None),
        ("8", ",1e-2", None),
        ("8", None, None),
    ],
)
def test_an_absolute_error_becomes_a_relative_tolerance(
    tmp_path: Path, answer: str, error: str | None, tolerance: float | None
) -> None:
    row = {"question": "How long?", "answer": answer, "meta": {"error": error}}
    assert only(write(tmp_path, row)).tolerance == (tolerance and pytest.approx(tolerance))


def test_olympiadbench_rows_of_the_hub_keep_context_and_all_answers(tmp_path: Path) -> None:
    row = {
        "id": 7, "context": "Let $n=4$.", "question": "Find both roots of $x^2=n$.",
        "final_answer": ["2", "-2"], "solution": ["Take roots.", "Done."], "unit": None,
        "error": None, "language": "English", "subfield": "Algebra", "is_multiple_answer": True,
    }  # fmt: skip
    problem = only(write(tmp_path, row), name="olympiadbench")
    assert problem.question == "Let $n=4$.\nFind both roots of $x^2=n$."
    assert (problem.answer, problem.solution) == ("2, -2", "Take roots.\nDone.")
    assert (problem.language, problem.domain) == ("en", "Algebra")
    assert json.loads(problem.meta) == {"is_multiple_answer": True}


def test_a_gsm8k_answer_follows_its_solution(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "5 * 200 = 1000.\n#### 1,000"}
    problem = only(write(tmp_path, row), name="gsm8k")
    assert (problem.answer, problem.solution) == ("1,000", "5 * 200 = 1000.")
    assert only(write(tmp_path, row)).answer == "1,000"


def test_of_equal_questions_the_first_is_kept(tmp_path: Path) -> None:
    rows = (question(1), question(2), question(1), question(2, answer="5"))
    benchmark = load(write(tmp_path, *rows))
    assert len(benchmark.problems) == 2
    assert [(drop.id, drop.reason) for drop in benchmark.dropped] == [
        ("set.jsonl:3", "duplicate question"),
        ("set.jsonl:4", "duplicate question, other answer"),
    ]


def test_broken_rows_are_counted_and_a_set_of_them_is_refused(tmp_path: Path) -> None:
    benchmark = load(write(tmp_path, question(1), {"question": "", "answer": "1"}))
    assert [drop.reason for drop in benchmark.dropped] == ["`question` is missing or empty"]
    with pytest.raises(DataError, match="none of 1 rows can be used"):
        load(write(tmp_path, {"question": "", "answer": "1"}))


def test_problems_are_drawn_by_seed_and_not_by_order(tmp_path: Path) -> None:
    rows = [question(number) for number in range(40)]

    def drawn(rows: list[dict[str, Any]], seed: int = 0) -> set[str]:
        benchmark = load(write(tmp_path, *rows), seed=seed, max_problems=10)
        assert Counter(d.reason for d in benchmark.dropped) == {"not drawn (max_problems)": 30}
        return {problem.id for problem in benchmark.problems}

    assert drawn(rows) == drawn(rows[::-1])
    assert drawn(rows) != drawn(rows, seed=1)


def test_recipe_settings_override_the_registry(tmp_path: Path) -> None:
    path = write(tmp_path, question(1))
    assert load(path, "aime24", domain="out").domain == "out"
    assert load(path, "mine", domain="in").domain == "in"


# --- choices --------------------------------------------------------------------------------------


def gpqa_row(number: int) -> dict[str, Any]:
    options = (f"{number} joules", f"{number + 1} joules", "none of these", "all of these")
    return {
        "Question": f"How much energy has body {number}?",
        **dict(zip(GPQA, options, strict=True)),
        "Explanation": "By the law.",
    }


def test_gpqa_options_are_shuffled_by_question_and_the_letter_follows(tmp_path: Path) -> None:
    path = write(tmp_path, *map(gpqa_row, range(60)))
    benchmark = load(path, "gpqa", seed=3)
    letters = Counter(problem.answer for problem in benchmark.problems)
    assert set(letters) == set("ABCD") and max(letters.values()) < 30
    for number, problem in enumerate(benchmark.problems):
        assert problem.choices["ABCD".index(problem.answer or "")] == f"{number} joules"
        assert sorted(problem.choices) == sorted(gpqa_row(number)[name] for name in GPQA)
        assert "Correct Answer" not in problem.meta
    assert benchmark.source["options_seed"] == 3
    assert "letter" in (benchmark.instruction or "")


def test_the_order_of_options_depends_on_seed_and_question_alone(tmp_path: Path) -> None:
    rows = [gpqa_row(number) for number in range(20)]

    def orders(rows: list[dict[str, Any]], seed: int) -> dict[str, tuple[str, ...]]:
        benchmark = load(write(tmp_path, *rows), "gpqa-diamond", seed=seed)
        return {problem.question: problem.choices for problem in benchmark.problems}

    assert orders(rows, 0) == orders(rows[::-1], 0)
    assert orders(rows, 0) != orders(rows, 1)


def test_two_equal_options_are_a_broken_row(tmp_path: Path) -> None:
    twice = gpqa_row(2) | {"Incorrect Answer 3": "2 joules "}
    benchmark = load(write(tmp_path, gpqa_row(1), twice), "gpqa")
    assert [drop.reason for drop in benchmark.dropped] == ["two options are equal"]


def test_letter_and_text_are_accepted_in_every_form_of_the_reference_answer(tmp_path: Path) -> None:
    asked = "Which is even? A. \\frac{3}{3} B. \\frac{4}{2} C. 5 D. 7"
    both = {"question": asked, "answer": "B. \\frac{4}{2}", "meta": {"choice_answer": "B"}}
    text = {"question": asked, "answer": "\\frac{4}{2}", "meta": {"choice_answer": "B"}}
    apart = {"question": "Which is even?", "answer": "4", "choices": ["3", "4", "5", "7"]}
    cases = [(both, "\\frac42"), (text, "\\frac42"), (apart, "4")]
    with Grader() as grader:
        for row, value in cases:
            problem = only(write(tmp_path, row))
            for answer in ("B", "(B)", value):
                assert grader.grade(problem, f"\\boxed{{{answer}}}").verdict is Verdict.CORRECT
            assert grader.grade(problem, "\\boxed{C}").verdict is Verdict.WRONG


# --- the hub --------------------------------------------------------------------------------------


def test_an_unknown_name_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"`math50` .*did you mean `math500`.*path=FILE"):
        load(None, "math50")


def test_a_set_that_is_not_on_the_hub_says_how_to_give_a_file() -> None:
    with pytest.raises(ConfigError, match=r"Kaoyan.*eval/data/kaoyan.*benchmarks\.0\.path=FILE"):
        load(None, "kaoyan")


def test_a_hub_out_of_reach_says_what_to_do() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"MATH-500 could not be loaded .*HF_ENDPOINT.*path=FILE"):
        load(None, "math500")


def test_datasets_library_rows_are_read_like_a_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write(tmp_path, question(1), question(2), name="test.jsonl")
    local = PublishedDataset(name="local", title="local", origin="this test", hub_id=str(tmp_path))
    opened = open_published(local, Part(split="test"), setting=SETTING)
    assert list(opened.rows) == [SourceRow(1, question(1)), SourceRow(2, question(2))]
    assert opened.facts["split"] == "test"
