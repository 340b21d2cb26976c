"""Stored samples: the formats of their files, their parts, and their graded rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from slowthink.data.rows import UnusableValue
from slowthink.data.stored.formats import detect_format
from slowthink.data.stored.grading import grade_stored, match_problems, stored_problems
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import StoredSample, StoredSamples, select_model
from slowthink.errors import DataError
from slowthink.grading import Grader
from slowthink.grading.thinking import split_text
from slowthink.records import (
    AnswerEnd,
    Problem,
    Split,
    ThinkingEnd,
    Verdict,
    duplicate_key,
    problem_id,
)
from slowthink.stage_rows import EvaluationRow

QUESTION = "What is 17 + 25?"


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


def written(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read(folder: Path, *rows: Any) -> StoredSamples:
    return read_stored(written(folder, *rows), setting="evaluate.arms.0.samples")


def graded(stored: StoredSamples, grader: Grader, problems: Any = None) -> list[EvaluationRow]:
    rows, _, _ = grade_stored(
        stored, problems or stored_problems(stored, benchmark="set"), arm="theirs", benchmark="set",
        protocol="greedy", grader=grader, count_tokens=lambda text: len(text.split()),
        last_number=False,
    )  # fmt: skip
    return rows


def problem_with(question: str = QUESTION, **more: Any) -> Problem:
    choices = more.get("choices", ())
    return Problem(
        id=problem_id(question, choices), duplicate_key=duplicate_key(question, choices),
        question=question, source="set", source_row="1", **more,
    )  # fmt: skip


# --- lm-eval --------------------------------------------------------------------------------------


def harness_row(**changes: Any) -> dict[str, Any]:
    """A row as lm-eval 0.4 writes it with --log_samples."""
    row = {
        "doc_id": 7,
        "doc": {"question": QUESTION, "answer": "17 + 25 = <<17+25=42>>42\n#### 42"},
        "target": "17 + 25 = <<17+25=42>>42\n#### 42",
        "arguments": {
            "gen_args_0": {
                "arg_0": f"Question: 1 + 1?\nAnswer: 2\n\nQuestion: {QUESTION}\nAnswer:",
                "arg_1": {"until": ["Question:"], "do_sample": True, "temperature": 0.6},
            }
        },
        "resps": [["17 + 25 = 42.\n#### 42"]],
        "filtered_resps": ["42"],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": "aa", "prompt_hash": "bb", "target_hash": "cc",
        "exact_match": 1.0,
    }  # fmt: skip
    return row | changes


def test_a_row_of_lm_eval_is_one_sample(tmp_path: Path) -> None:
    stored = read(tmp_path, harness_row())
    assert stored.format == "lm-eval"
    assert stored.samples == (
        StoredSample(
            question=QUESTION, answer="42", response="17 + 25 = 42.\n#### 42", sample=0,
            problem_row="7", labelled_correct=True, temperature=0.6, location="rows.jsonl:1",
        ),
    )  # fmt: skip


def test_repeats_of_lm_eval_are_several_samples_without_a_label(tmp_path: Path) -> None:
    stored = read(tmp_path, harness_row(resps=[["It is 42.", "It is 43.", "No idea"]]))
    assert [(sample.sample, sample.response) for sample in stored.samples] == [
        (0, "It is 42."), (1, "It is 43."), (2, "No idea"),
    ]  # fmt: skip
    assert [sample.labelled_correct for sample in stored.samples] == [None, None, None]
    assert stored.samples[2].location == "rows.jsonl:1#2"


def test_each_filter_of_lm_eval_writes_the_same_responses_and_one_is_taken(tmp_path: Path) -> None:
    flexible = harness_row(filter="flexible-extract", exact_match=0.0)
    other = harness_row(filter="flexible-extract", doc_id=8, resps=[["#### 41"]])
    stored = read(tmp_path, harness_row(), flexible, other)
    assert [sample.response for sample in stored.samples] == ["17 + 25 = 42.\n#### 42", "#### 41"]
    assert [drop.reason for drop in stored.dropped] == ["the same responses, under another filter"]


def test_an_older_row_of_lm_eval_lists_its_arguments(tmp_path: Path) -> None:
    row = harness_row(doc={}, target="42", arguments=[[QUESTION, {"temperature": 0.8}]])
    (sample,) = read(tmp_path, row).samples
    assert (sample.question, sample.answer, sample.temperature) == (QUESTION, "42", 0.8)


def test_lm_eval_without_sampling_is_greedy_at_any_temperature(tmp_path: Path) -> None:
    arguments = {"gen_args_0": {"arg_0": "Q", "arg_1": {"do_sample": False, "temperature": 0.7}}}
    (sample,) = read(tmp_path, harness_row(arguments=arguments)).samples
    assert sample.temperature == 0.0


def test_a_chat_prompt_of_lm_eval_gives_the_last_user_message(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Think."}, {"role": "user", "content": QUESTION}]
    row = harness_row(doc={}, arguments={"gen_args_0": {"arg_0": [json.dumps(turns)], "arg_1": {}}})
    assert read(tmp_path, row).samples[0].question == QUESTION


@pytest.mark.parametrize(
    ("doc", "target", "question", "answer"),
    [
        ({"Problem": "A?", "Answer": 204}, "204", "A?", "204"),
        ({"problem": "B?", "solution": r"so \boxed{7}"}, r"so \boxed{7}", "B?", "7"),
        ({"problem": "C?", "answer": "5"}, "", "C?", "5"),
        ({"question": "D?", "choices": ["x", "y", "z"], "answer": 2}, "2", "D?", "C"),
        ({"Question": "E?", "choices": ["x", "y"], "answer": "(B)"}, "(B)", "E?", "(B)"),
        ({"question": "F?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}}, "A", "F?", "A"),
    ],
    ids=["aime24", "solution", "no-target", "mmlu", "gpqa", "arc"],
)
def test_documents_of_lm_eval_s_tasks(tmp_path: Path, doc, target, question, answer) -> None:
    (sample,) = read(tmp_path, harness_row(doc=doc, target=target)).samples
    assert (sample.question, sample.answer) == (question, answer)


def test_log_likelihoods_are_dropped(tmp_path: Path) -> None:
    row = harness_row(resps=[[["-3.2", "False"]], [["-4.1", "False"]]])
    stored = read(tmp_path, row, harness_row())
    assert len(stored.samples) == 1
    (drop,) = stored.dropped
    assert (drop.id, drop.step) == ("rows.jsonl:1", "read")
    assert "log-likelihoods" in drop.reason


# --- the other forms ------------------------------------------------------------------------------


def test_a_generic_row(tmp_path: Path) -> None:
    row = {
        "problem_id": "p7", "question": QUESTION, "answer": 42, "sample": 3, "response": "It is 42",
        "correct": False, "model": "m", "rm_score": 1.5, "finish_reason": "length", "num_tokens": 9,
    }  # fmt: skip
    stored = read(tmp_path, row)
    assert stored.format == "generic"
    assert stored.samples == (
        StoredSample(
            question=QUESTION, answer="42", response="It is 42", sample=3, problem_row="p7",
            labelled_correct=False, model="m", score=1.5, truncated=True, num_tokens=9,
            location="rows.jsonl:1",
        ),
    )  # fmt: skip


@pytest.mark.parametrize("column", ["response", "generation", "completion", "output"])
def test_a_response_has_many_names(tmp_path: Path, column: str) -> None:
    (sample,) = read(tmp_path, {"problem": QUESTION, "gold": "42", column: "42"}).samples
    assert (sample.answer, sample.response) == ("42", "42")


def test_a_list_of_responses_is_several_samples(tmp_path: Path) -> None:
    row = {"question": QUESTION, "answer": "42", "responses": ["42", "43"], "score": [0.9, 0.1]}
    samples = read(tmp_path, row).samples
    assert [(sample.sample, sample.response, sample.score) for sample in samples] == [
        (0, "42", 0.9), (1, "43", 0.1),
    ]  # fmt: skip


def test_samples_without_a_number_count_by_problem_and_model(tmp_path: Path) -> None:
    rows = [
        {"question": question, "answer": "1", "response": "1", "model": model}
        for question, model in [("A?", "m"), ("B?", "m"), ("A?", "n"), ("A?", "m")]
    ]
    assert [sample.sample for sample in read(tmp_path, *rows).samples] == [0, 0, 0, 1]


def test_a_row_of_nemo_skills(tmp_path: Path) -> None:
    row = {
        "problem": QUESTION, "expected_answer": "42", "generation": "<think>Hm</think>It is 42",
        "predicted_answer": "42", "symbolic_correct": True, "num_generated_tokens": 12,
    }  # fmt: skip
    stored = read(tmp_path, row)
    (sample,) = stored.samples
    assert stored.format == "nemo-skills"
    assert (sample.thinking, sample.closing, sample.response) == ("Hm", "</think>", "It is 42")
    assert (sample.labelled_correct, sample.num_tokens) == (True, 12)


def test_a_sample_of_an_inspect_log(tmp_path: Path) -> None:
    content = [{"type": "reasoning", "reasoning": "Hm"}, {"type": "text", "text": "It is 42"}]
    row = {
        "id": 7, "epoch": 2, "input": [{"role": "user", "content": QUESTION}], "target": "42",
        "output": {
            "model": "m", "usage": {"input_tokens": 9, "output_tokens": 12},
            "choices": [{"message": {"content": content}, "stop_reason": "stop"}],
        },
        "scores": {"match": {"value": "C"}},
    }  # fmt: skip
    stored = read(tmp_path, row)
    (sample,) = stored.samples
    assert stored.format == "inspect"
    assert (sample.question, sample.thinking, sample.response) == (QUESTION, "Hm", "It is 42")
    assert (sample.sample, sample.model, sample.num_tokens) == (1, "m", 12)
    assert (sample.labelled_correct, sample.truncated) == (True, False)


def test_broken_rows_are_dropped_with_line_and_reason(tmp_path: Path) -> None:
    good = {"question": QUESTION, "answer": "42", "response": "42"}
    rows = [good, "{not json", {"a": 1}, good | {"question": " "}, good | {"response": 5}]
    stored = read(tmp_path, *rows)
    assert len(stored.samples) == 1
    assert [(drop.id, drop.reason) for drop in stored.dropped] == [
        ("rows.jsonl:2", "not valid JSON"),
        ("rows.jsonl:3", "of no known form (lm-eval, inspect, nemo-skills, generic)"),
        ("rows.jsonl:4", "`question` is missing or empty"),
        ("rows.jsonl:5", "`response` is a number; expected a string"),
    ]


def test_a_file_without_a_usable_row_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 1 rows can be used .*--set evaluate\.arms\.0"):
        read(tmp_path, {"a": 1})


def test_one_model_of_several_can_be_selected(tmp_path: Path) -> None:
    row = {"question": QUESTION, "answer": "42", "response": "42"}
    stored = read(tmp_path, row | {"model": "m"}, row | {"model": "n"}, row)
    assert stored.models == ("m", "n")
    assert [sample.model for sample in select_model(stored, model="n").samples] == ["n"]
    with pytest.raises(DataError, match="expected one of m, n"):
        select_model(stored, model="o")


ODD = [None, "", 1, float("nan"), 10**400, True, [], ["a", "b"], [[1]], {}, {"text": "x"}, "[{bad",
       [{"role": "user"}], {"choices": [1]}, {"choices": {}}, {"samples": [{"answer_at": -3}]},
       {"choices": [{"message": {"content": "x"}}], "usage": [1]}, {"gen_args_0": {"arg_0": []}},
       "<think>x</think>", chr(0), chr(0xD800)]  # fmt: skip
ODD_COLUMNS = [
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "slowthink",
    "metrics",
    "exact_match",
    "filter",
    "input",
    "output",
    "epoch",
    "scores",
    "id",
    "choices",
    "question",
    "problem",
    "answer",
    "response",
    "responses",
    "generation",
    "expected_answer",
    "score",
    "correct",
    "model",
    "sample",
    "finish_reason",
    "num_tokens",
    "thinking",
    "temperature",
]


def test_no_value_of_a_row_raises_an_unexpected_error() -> None:
    random, num_read = Random(0), 0
    for _ in range(30_000):
        row = {name: random.choice(ODD) for name in random.sample(ODD_COLUMNS, 12)}
        form = detect_format(row)
        if form is not None:
            with contextlib.suppress(UnusableValue):
                num_read += len(form.read(row))
    assert num_read > 100


# --- parts of a text ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "thinking", "closing", "response"),
    [
        ("It is 42", None, "", "It is 42"),
        ("<think>Hm</think>42", "Hm", "</think>", "42"),
        ("Hm</think>42", "Hm", "</think>", "42"),
        ("<|im_start|>think\nHm\n<|im_start|>answer\n42", "\nHm\n", "<|im_start|>answer", "\n42"),
        ("<|begin_of_thought|>Hm<|end_of_thought|>42", "Hm", "<|end_of_thought|>", "42"),
        ("<think>a</think>b</think>42", "a</think>b", "</think>", "42"),
        ("<think>Hm, 42", "Hm, 42", "", ""),
    ],
    ids=["none", "tags", "lone-end", "s1", "sky", "two-ends", "never-closed"],
)
def test_thinking_is_split_off(text, thinking, closing, response) -> None:
    parts = split_text(text)
    assert (parts.thinking, parts.closing, parts.response) == (thinking, closing, response)


def test_text_of_a_model_that_closes_its_thinking_elsewhere_was_cut(tmp_path, grader) -> None:
    """The template opens thinking: only the end is written, and a text without it never ended."""
    rows = [
        sample_of(r"17 + 25 = 42</think>\boxed{42}", model="r1"),
        sample_of(r"So \boxed{42}. Let me check by", model="r1"),
        sample_of(r"So \boxed{42}.", model="r1", finish_reason="stop"),
        sample_of(r"So \boxed{42}.", model="plain"),
        sample_of(r"<think>17 + 25 = 42</think>\boxed{42}", model="qwen"),
        sample_of(r"So \boxed{42}.", model="qwen"),
    ]
    stored = read(tmp_path, *rows)
    cut = [sample.truncated for sample in stored.samples]
    assert cut == [None, True, False, None, None, None]
    assert (stored.samples[1].thinking, stored.samples[1].response) == (rows[1]["response"], "")
    verdicts = [row.verdict for row in graded(stored, grader)]
    assert verdicts[1] is Verdict.TRUNCATED
    assert [v for i, v in enumerate(verdicts) if i != 1] == [Verdict.CORRECT] * 5


def test_a_response_may_be_a_list_of_typed_parts(tmp_path) -> None:
    parts = [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "It is 42"}]
    (sample,) = read(tmp_path, {"question": QUESTION, "answer": "42", "response": parts}).samples
    assert (sample.thinking, sample.response) == ("Hm", "It is 42")


@pytest.mark.parametrize("column", ["thinking", "reasoning_content", "reasoning"])
def test_tags_in_a_column_of_thinking_are_taken_off(tmp_path, column) -> None:
    row = sample_of(r"\boxed{42}", **{column: "<think>17 + 25</think>"})
    (sample,) = read(tmp_path, row).samples
    assert (sample.thinking, sample.response) == ("17 + 25", r"\boxed{42}")


# --- rows -----------------------------------------------------------------------------------------


def sample_of(response: str, **more: Any) -> dict[str, Any]:
    return {"question": QUESTION, "answer": "42", "response": response} | more


def test_a_row_has_our_verdict_and_its_documented_id(tmp_path: Path, grader: Grader) -> None:
    stored = read(tmp_path, sample_of(r"\boxed{42}", correct=False, score=0.5, temperature=0.7))
    (row,) = graded(stored, grader)
    assert row.id == f"theirs|greedy|set|{problem_id(QUESTION)}|0.7|0|000000|0|free"
    assert (row.verdict, row.extracted, row.gold) == (Verdict.CORRECT, "42", "42")
    assert (row.score, row.count_source, row.num_prompt_tokens) == (0.5, "retokenised", 5)
    assert (row.max_thinking_tokens, row.waits, row.forced) == (0, 0, False)
    assert json.loads(row.segments) == [["answer", r"\boxed{42}"]]


def test_thinking_is_never_graded(tmp_path: Path, grader: Grader) -> None:
    thinking = r"<think>surely \boxed{42}</think>"
    rows = [sample_of(thinking + r"\boxed{41}"), sample_of("no idea", thinking=r"\boxed{42}")]
    first, second = graded(read(tmp_path, *rows), grader)
    assert (first.verdict, first.extracted) == (Verdict.WRONG, "41")
    assert first.thinking_end is ThinkingEnd.NATURAL
    assert (first.num_thinking_tokens, first.num_answer_tokens) == (2, 1)
    assert second.verdict is Verdict.NO_ANSWER


def test_unfinished_thinking_and_a_length_limit_are_truncated(tmp_path, grader) -> None:
    rows = [sample_of(r"<think>\boxed{42}"), sample_of(r"\boxed{42}", finish_reason="length")]
    first, second = graded(read(tmp_path, *rows), grader)
    assert (first.verdict, first.thinking_end) == (Verdict.TRUNCATED, ThinkingEnd.NONE)
    assert (second.verdict, second.answer_end) == (Verdict.TRUNCATED, AnswerEnd.LENGTH)


def test_the_token_count_of_the_file_is_kept(tmp_path: Path, grader: Grader) -> None:
    rows = [sample_of("<think>a b</think>so 42", num_tokens=100), sample_of("42", num_tokens=7)]
    first, second = graded(read(tmp_path, *rows), grader)
    assert (first.num_thinking_tokens, first.num_answer_tokens) == (98, 2)
    assert (second.num_thinking_tokens, second.num_answer_tokens) == (0, 7)
    assert first.count_source == "usage"


def test_samples_that_share_a_number_are_renumbered(tmp_path: Path, grader: Grader) -> None:
    rows = [sample_of(text, sample=number) for text, number in [("42", 5), ("41", 5), ("40", 2)]]
    other = {"question": "Other?", "answer": "1", "response": "1", "sample": 5}
    graded_rows = graded(read(tmp_path, *rows, other), grader)
    assert [(row.answer, row.sample) for row in graded_rows] == [
        ("42", 0), ("41", 1), ("40", 2), ("1", 5),
    ]  # fmt: skip


def test_problems_have_the_most_frequent_reference_answer(tmp_path: Path) -> None:
    keys = ["", "^2", "42", "42"]
    rows = [sample_of("42", answer=key, id=7 + i) for i, key in enumerate(keys)]
    (problem,) = stored_problems(read(tmp_path, *rows), benchmark="set")
    assert (problem.id, problem.answer) == (problem_id(QUESTION), "42")
    assert (problem.split, problem.source, problem.source_row) == (Split.HELDOUT, "set", "7")


def test_a_problem_without_a_reference_answer_is_ungradable(tmp_path: Path, grader: Grader) -> None:
    (row,) = graded(read(tmp_path, {"question": QUESTION, "response": "42"}), grader)
    assert row.verdict is Verdict.UNGRADABLE


def test_samples_match_by_exact_question_then_by_its_normal_form(tmp_path: Path) -> None:
    exact, spelled = problem_with(answer="42"), problem_with("what  is 17 + 25?", answer="42")
    stored = read(tmp_path, sample_of("42"), sample_of("42", question="WHAT is 17 + 25?"))
    first, second = (sample.problem_id for sample in stored.samples)
    assert match_problems(stored, [spelled, exact]) == {first: exact, second: spelled}


def test_grading_uses_the_problem_s_answer_and_drops_unmatched_samples(
    tmp_path: Path, grader: Grader
) -> None:
    stored = read(tmp_path, sample_of("Answer: 43", answer="43"), sample_of("1", question="Other?"))
    rows, dropped, _ = grade_stored(
        stored, [problem_with(answer="42")], arm="a", benchmark="set", protocol="greedy",
        grader=grader, count_tokens=len, last_number=False,
    )  # fmt: skip
    assert [(row.verdict, row.gold) for row in rows] == [(Verdict.WRONG, "42")]
    assert [(drop.id, drop.step, drop.reason) for drop in dropped] == [
        ("rows.jsonl:2", "match", "no such problem")
    ]


def test_letters_follow_the_order_of_options_that_the_model_saw(
    tmp_path: Path, grader: Grader
) -> None:
    problem = problem_with(choices=("forty", "forty-two", "fifty"), answer="B")
    shuffled = ["forty-two", "fifty", "forty"]
    rows = [sample_of(f"Answer: {letter}", choices=shuffled) for letter in "AB"]
    right, wrong = graded(read(tmp_path, *rows), grader, [problem])
    assert (right.verdict, right.gold) == (Verdict.CORRECT, "A")
    assert wrong.verdict is Verdict.WRONG
