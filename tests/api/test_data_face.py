"""Problems, overlaps, selection, figures and runs from Python, by the rules of the stages."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import slowthink as st
from slowthink.errors import DataError
from slowthink.pipeline import run as pipeline_run
from slowthink.records import Verdict
from tests.test_pipeline import write_inputs

QUESTION = (
    "How many positive integers below 1000 are divisible by 7 but not by 11 or 13? Write the sum of "
    "the digits of this number, in base ten and without leading zeros, as the answer."
)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A run on the replay engine, its stages in this process."""
    folder = tmp_path_factory.mktemp("face")
    (folder / "made.yaml").write_text(yaml.safe_dump(write_inputs(folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_run, "needs_model", lambda recipe, stage: False)
        patch.setattr("slowthink.stages.evaluate.check_dependencies", lambda: None)  # seconds
        settings = {"evaluate.num_resamples": 100, "evaluate.arms.1.caps": (4, 8)}
        yield st.run(folder / "made.yaml", out=folder / "run", settings=settings, quiet=True)


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "text", "verdict", "extracted"),
    [
        (r"\frac12", "0.5", Verdict.CORRECT, "0.5"),
        (r"\frac12", r"So it is \boxed{0.5}.", Verdict.CORRECT, "0.5"),
        ("42", "17 + 25\nFinal Answer: 41", Verdict.WRONG, "41"),
        ("42", "I added 17 and 25.\nThat took a while.", Verdict.NO_ANSWER, None),
        ("", "42", Verdict.UNGRADABLE, "42"),
    ],
)
def test_grade_returns_the_verdict_and_what_was_compared(gold, text, verdict, extracted) -> None:
    grade = st.grade(gold, text)
    assert (grade.verdict, grade.extracted) == (verdict, extracted)


def test_grade_reads_letters_where_there_are_choices() -> None:
    assert st.grade("B", "So (B) it is.", choices=["3", "4"]).verdict is Verdict.CORRECT
    assert st.extract_answer("The answer is (B).", choices=["3", "4"]) == "B"
    assert st.extract_answer("故选：B") == "B"
    assert st.extract_answer("Hm, 3, no, 4", last_number=True) == "4"
    with pytest.raises(st.ConfigError, match="expected one of strict"):
        st.grade("1", "1", mode="lenient")


# --- problems -------------------------------------------------------------------------------------


def test_problems_are_loaded_from_files_and_rows_with_what_was_dropped(tmp_path) -> None:
    path = tmp_path / "exam.csv"
    path.write_text("task,key\nWhat is 1 + 1?,2\n,3\nWhat is 1 + 1?,2\n")
    problems = st.load_problems(path, question_field="task", answer_field="key")
    assert [(p.question, p.answer, p.source) for p in problems] == [("What is 1 + 1?", "2", "exam")]
    assert len(problems.dropped) == 2
    rows = st.load_problems([{"q": "2 + 2?", "answer": 4}], question_field="q")
    assert rows[0].answer == "4" and rows[:1][0] is rows[0]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"question": ["2 + 2?", "Why?"], "answer": ["4", None]})
    assert [p.answer for p in st.load_problems(frame)] == ["4", None]


ROWS = [
    {"question": "2 + 2?", "answer": "B", "choices": ["3", "4"]},
    {"question": "Why?", "answer": None, "choices": []},
]


def test_rows_are_sampled_by_seed_and_wrong_numbers_are_refused() -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(20)]
    drawn = [[p.question for p in st.load_problems(rows, max_problems=5, seed=s)] for s in (0, 1)]
    assert list(map(len, drawn)) == [5, 5]
    assert drawn[0] != drawn[1]
    again = st.load_problems(rows[::-1], max_problems=5)
    assert {p.question for p in again} == set(drawn[0])
    assert {dropped.reason for dropped in again.dropped} == {"not drawn (max_problems)"}
    for wrong in ({"max_problems": "3"}, {"max_problems": 0}, {"seed": "a"}, {"seed": -1}):
        with pytest.raises(st.ConfigError, match="expected a whole number from"):
            st.load_problems(rows, **wrong)


def _pandas(rows: Any) -> Any:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    rows = [row | {"choices": numpy.array(row["choices"]), "when": pandas.NA} for row in rows]
    return pandas.DataFrame(rows)


TABLES = {
    "pandas, arrays in its cells": _pandas,
    "datasets": lambda rows: pytest.importorskip("datasets").Dataset.from_list(rows),
    "pyarrow": lambda rows: pytest.importorskip("pyarrow").Table.from_pylist(rows),
    "polars": lambda rows: SimpleNamespace(to_dicts=lambda: rows),
    "a generator": lambda rows: (row for row in rows),
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES.keys())
def test_problems_are_loaded_from_tables(make) -> None:
    problems = st.load_problems(make(ROWS))
    assert [(p.question, p.answer, p.choices) for p in problems] == [
        ("2 + 2?", "B", ("3", "4")),
        ("Why?", None, ()),
    ]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("math50", st.ConfigError, "did you mean `math500`"),
        ("none.jsonl", st.DataError, "no such file"),
        ([{"answer": "1"}], st.DataError, "no column `question`; the columns are answer"),
        (["What is 1 + 1?"], st.DataError, "not a mapping"),
        ([], st.DataError, "rows: no rows; expected problems"),
        (3, st.ConfigError, "source: 3 is of type int; expected a name, a path, or rows"),
        (
            {"question": "1 + 1?"},
            st.ConfigError,
            r"source: .* is of type dict; .* a list of one row: \[row\]",
        ),
    ],
)
def test_what_cannot_be_loaded_is_explained(source, error, message) -> None:
    with pytest.raises(error, match=message):
        st.load_problems(source)


def test_duplicates_are_positions_and_each_resembles_the_kept_one() -> None:
    near = QUESTION.replace("How many positive", "How many of the positive")
    texts = ["What is 2 + 3?", QUESTION, near, near + " ", QUESTION.replace("1000", "2000")]
    (cluster,) = st.find_duplicates(texts)
    assert (cluster.kept, [member.row for member in cluster.members]) == (1, [2, 3])
    scores = [member.score for member in cluster.members]
    assert scores[0] == scores[1] < 1
    (exact,) = st.find_duplicates(texts, near=False)
    assert (exact.kept, [member.row for member in exact.members]) == (2, [3])


def test_leaks_are_copies_and_templates_of_files_and_of_given_problems(tmp_path) -> None:
    path = tmp_path / "exam.jsonl"
    path.write_text(json.dumps({"question": QUESTION, "answer": "1"}) + "\n")
    texts = [f"{QUESTION} Explain.", QUESTION.replace("1000", "9999").replace("7", "6"), "2 + 2?"]
    copies, templates, none = st.find_leaks(texts, [path])
    assert [(leak.kind, leak.item.benchmark) for leak in copies] == [("copy", "exam")]
    assert [leak.kind for leak in templates] == ["template"]
    assert none == ()
    ((run,),) = st.find_leaks(texts[:1], {"mine": [QUESTION]}, preset="s1")
    assert (run.kind, run.item.benchmark) == ("run", "mine")
    with pytest.raises(st.ConfigError, match="expected a list"):
        st.find_leaks(texts, "math500")


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_has_rows_a_summary_and_a_report(finished_run) -> None:
    assert [stage.stage for stage in finished_run.stages] == [
        "pool",
        "filter",
        "evaluate",
        "report",
    ]
    rows = finished_run.rows("evaluate")
    assert {row.arm for row in rows} == {"one", "two"}
    assert len(finished_run.rows("pool").where(split="heldout")) == 6
    assert finished_run.summary["budget_violations"] == 0
    assert finished_run.report.read_text("utf-8").startswith("<!DOCTYPE html>")
    reopened = st.Run(finished_run.root)
    assert len(reopened.rows("evaluate").to_pandas()) == len(rows)


def test_a_run_says_what_it_lacks(finished_run, tmp_path) -> None:
    with pytest.raises(st.ConfigError, match="expected one of pool"):
        finished_run.rows("evaluation")
    with pytest.raises(st.DataError, match="has no training set yet"):
        finished_run.rows("select")
    with pytest.raises(st.ConfigError, match=r"no recipe\.yaml"):
        st.Run(tmp_path)
    with pytest.raises(st.ConfigError, match="no such section"):
        st.run(finished_run.root, stages=["train"])
    with pytest.raises(st.ConfigError, match="was made with other settings"):
        st.run(finished_run.root, settings={"pool.sources.0.num_heldout": 5}, quiet=True)


# --- figures --------------------------------------------------------------------------------------

SAMPLES = [
    {"problem_id": problem, "correct": correct, "answer": answer}
    for problem, samples in {
        "p1": [(True, "1/2"), (True, "0.5"), (False, "3"), (False, "4")],
        "p2": [(True, "7"), (False, "8"), (False, "8.0"), (False, "9")],
    }.items()
    for correct, answer in samples
]


def test_pass_at_k_and_maj_at_k_are_means_over_problems_with_intervals() -> None:
    passes = st.pass_at_k(SAMPLES, k=2)
    assert passes.value == pytest.approx((1 - 1 / 6 + 1 / 2) / 2)
    assert passes.low <= passes.value <= passes.high
    assert (passes.n, passes.num_samples) == (2, 4)
    assert str(passes).startswith("66.7% (95 % interval ")
    assert st.pass_at_k(SAMPLES, k=1).value == pytest.approx(3 / 8)
    assert st.maj_at_k(SAMPLES, k=4).value == pytest.approx(0.5), "1/2 and 0.5 are one answer"


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        (SAMPLES, 5, "expected 1 <= k <= 4"),
        ([{"problem_id": "p", "score": 1}], 1, "expected `problem_id` and `correct`"),
        ([], 1, "no rows"),
        ([{"problem_id": "p", "verdict": "ungradable"}], 1, "none of 1 could be graded"),
        (["p"], 1, "row 0: 'p' is of type str"),
    ],
)
def test_rows_that_give_no_figure_are_explained(rows, k, message) -> None:
    with pytest.raises(st.DataError, match=message):
        st.pass_at_k(rows, k=k)


@pytest.mark.parametrize("k", [0, "x", 1.5, True, None])
def test_k_is_a_count(k) -> None:
    with pytest.raises(st.ConfigError, match="^k: .* expected a whole number from 1"):
        st.pass_at_k(SAMPLES, k=k)


def test_labels_may_be_1_and_0_but_votes_need_answers() -> None:
    labels = [{"problem_id": "p", "correct": correct} for correct in (1, 0)]
    assert st.pass_at_k(labels, k=1).value == 0.5
    assert st.maj_at_k([row | {"answer": row["correct"]} for row in labels], k=1).value == 0.5
    for rows in (labels, [row | {"answer": None} for row in labels]):
        with pytest.raises(st.DataError, match="no `answer`"):
            st.maj_at_k(rows, k=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.grade("5", 5), "text: 5 is of type int"),
        (lambda: st.grade("5", None), "text: None is of type NoneType"),
        (lambda: st.grade(5, "5"), "gold: 5 is of type int"),
        (lambda: st.extract_answer(None), "text: None"),
        (lambda: st.compare("a.jsonl", "b.jsonl"), "rows_a: 'a.jsonl' is of type str"),
        (lambda: st.pass_at_k("a.jsonl", k=1), "rows: 'a.jsonl'"),
        (lambda: st.find_duplicates([{"question": "x"}]), "question 0: .* of type dict"),
        (lambda: st.find_duplicates([None]), "question 0: None"),
        (lambda: st.find_duplicates("abc"), r"Write \['abc'\]"),
        (lambda: st.find_leaks("x", ["math500"]), r"Write \['x'\]"),
        (lambda: st.find_leaks(["x"], "math500"), r"Write \['math500'\]"),
        (lambda: st.find_leaks(["x"], []), "against: empty"),
        (lambda: st.find_leaks(["x"], {"mine": "abc"}), "against: 'abc' is a text"),
        (lambda: st.find_leaks(["x"], [5]), "against: 5 is of type int"),
        (lambda: st.find_leaks(["x"], ["math500"], preset="s3"), "preset: Input .*; saw 's3'"),
        (lambda: st.grade("5", "5", choices="abc"), "choices: 'abc' is a text; expected a list"),
        (lambda: st.extract_answer("A", choices=[1, 2]), r"choices\[0\]: 1 is of type int"),
        (lambda: st.select([1]), r"traces\[0\]: 1 is of type int; expected a Trace"),
        (lambda: st.select("x"), "traces: 'x' is a text; expected a list"),
        (lambda: st.run("quickstart", stages="pool"), r"stages: 'pool' .* Write \['pool'\]"),
        (lambda: st.run("quickstart", out=5), "out: 5 is of type int; expected the run folder"),
        (lambda: st.run(5), "recipe: 5 is of type int; expected a recipe"),
        (lambda: st.Run(None), "root: None is of type NoneType; expected the folder of a run"),
    ],
)
def test_arguments_of_a_wrong_type_are_explained(call, message) -> None:
    with pytest.raises(st.ConfigError, match=message):
        call()


def test_a_misspelt_name_has_a_hint() -> None:
    with pytest.raises(AttributeError, match="did you mean `grade`"):
        st.grad  # noqa: B018


def test_rows_of_several_budgets_or_arms_must_be_chosen_from(finished_run) -> None:
    rows = finished_run.rows("evaluate")
    with pytest.raises(st.DataError, match="several arms"):
        st.pass_at_k(rows, k=1)
    with pytest.raises(st.DataError, match="several budgets"):
        st.pass_at_k(rows.where(arm="one"), k=1)
    one = rows.where(arm="one", max_thinking_tokens=16, waits=0, forced=True)
    assert st.pass_at_k(one, k=1).n == 6


def test_compare_pairs_the_problems_of_two_arms(finished_run) -> None:
    rows = finished_run.rows("evaluate")
    same = st.compare(rows.where(arm="one"), rows.where(arm="two"))
    assert (same.n, same.difference, same.p_value, same.won) == (6, 0.0, 1.0, ())
    a = [{"problem_id": i, "correct": i < 3} for i in range(20)]
    b = [{"problem_id": i, "correct": i < 15} for i in range(1, 21)]
    difference = st.compare(a, b)
    assert (difference.n, len(difference.won), len(difference.lost)) == (19, 12, 0)
    assert difference.low > 0 and difference.p_value < 0.001
    assert str(difference).startswith("10.5% -> 73.7% (+63.2%, 95 % interval +")
    with pytest.raises(st.DataError, match="none in common"):
        st.compare(a, [{"problem_id": "x", "correct": True}])


# --- selection ------------------------------------------------------------------------------------


def test_select_is_the_selection_of_the_stage(make_trace) -> None:
    traces = [make_trace(i) for i in range(20)]
    chosen = st.select(traces, method="longest", num_problems=3)
    assert sorted(trace.num_thinking_tokens for trace in chosen) == [17, 18, 19]
    assert len(chosen.dropped) == 17 and "rank" in chosen.dropped[0].evidence
    assert list(st.select(traces[::-1], num_problems=5)) == list(st.select(traces, num_problems=5))
    with pytest.raises(st.ConfigError, match="did you mean `quotas`"):
        st.select(traces, quota=[])


@pytest.fixture
def make_trace(make_problem):
    def make(number: int) -> st.Trace:
        return st.Trace(
            problem=make_problem(f"What is {number} + 1?", domain="sums"), thinking="so", response="1",
            teacher="t", grade=st.Grade(verdict=Verdict.CORRECT), num_thinking_tokens=number,
            num_response_tokens=1, tokenizer="x",
        )  # fmt: skip

    return make


@pytest.mark.parametrize(("call", "remedy"), [
    (lambda: st.load_problems("absent.jsonl"), 'Name one: source="PATH"'),
    (lambda: st.load_problems([{"question": 1}]), 'name another: source="FILE"'),
    (lambda: st.find_leaks(["1 + 1?"], ["absent.jsonl"]), 'Name one: against="PATH"'),
])  # fmt: skip
def test_messages_on_files_name_arguments(call, remedy) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert remedy in str(caught.value) and "--set" not in str(caught.value)


def test_messages_on_columns_name_arguments(tmp_path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "1"}\n')
    with pytest.raises(DataError, match='Name the right one: question_field="COLUMN"'):
        st.load_problems(path)
