"""Row formats of published chains, each read from a row that we wrote in its schema."""

from __future__ import annotations

from typing import Any

import pytest

from slowthink.data.rows import UnusableValue
from slowthink.records import Grade, Problem, Trace, Verdict
from slowthink.serialise import plain
from slowthink.stages.trace.formats import (
    CHAIN_FORMATS,
    answer_in_solution,
    detect_format,
    split_thinking,
)

CHAIN = "One and one.\nSo two."
PROBLEM = Problem(
    id="p-1",
    duplicate_key="k",
    question="What is 1 + 1?",
    answer="2",
    source="test",
    source_row="1",
)
TRACE = Trace(
    problem=PROBLEM, thinking=CHAIN, response="Final Answer: 2", teacher="me",
    grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=7, num_response_tokens=4,
    tokenizer="t",
)  # fmt: skip

ROWS: dict[str, dict[str, Any]] = {
    "slowthink": plain(TRACE),
    "s1k": {
        "question": "What is 1 + 1?", "solution": "2", "cot_type": "math", "source_type": "s1/test",
        "metadata": "{}", "cot": None, "thinking_trajectories": [CHAIN],
        "attempt": "Final Answer: 2",
    },
    "s1k-1.1": {
        "question": "What is 1 + 1?", "solution": r"It is \boxed{2}", "source_type": "s1/test",
        "gemini_thinking_trajectory": "no", "gemini_attempt": "no",
        "deepseek_thinking_trajectory": CHAIN, "deepseek_attempt": "Final Answer: 2",
    },
    "chain": {
        "id": "x-1", "question": "What is 1 + 1?", "thinking": CHAIN,
        "response": "Final Answer: 2", "answer": "2", "model": "me", "source": "test",
    },
    "limo": {
        "question": "What is 1 + 1?", "answer": "2",
        "solution": CHAIN + "\n\n**Final Answer**\n\\boxed{2}",
    },
    "sharegpt": {
        "system": "Think.", "answer": "2",
        "conversations": [
            {"from": "human", "value": "What is 1 + 1?"},
            {"from": "gpt", "value": f"<think>\n{CHAIN}\n</think>\n\nFinal Answer: 2"},
        ],
    },
    "messages": {
        "answer": "2",
        "messages": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "What is 1 + 1?"},
            {"role": "assistant", "content": f"<think>{CHAIN}</think>Final Answer: 2"},
        ],
    },
    "alpaca": {
        "instruction": "What is 1 + 1?", "input": "", "answer": "2",
        "output": f"<|im_start|>think\n{CHAIN}\n<|im_start|>answer\nFinal Answer: 2",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CHAIN_FORMATS)
def test_format_is_detected_from_columns(name: str) -> None:
    assert detect_format(list(ROWS[name])) is CHAIN_FORMATS[name]


@pytest.mark.parametrize("name", CHAIN_FORMATS)
def test_row_becomes_question_thinking_response_and_answer(name: str) -> None:
    chain = CHAIN_FORMATS[name].read(ROWS[name])
    assert chain.problem.question == "What is 1 + 1?"
    assert chain.thinking.strip() == CHAIN
    assert "2" in chain.response and CHAIN not in chain.response
    assert chain.problem.answer == "2"


def test_unknown_columns_have_no_format() -> None:
    assert detect_format(["prompt", "completion"]) is None


TEXTS = {
    "tags": ("<think>\na\n</think>\nb", ("a", "b")),
    "no opening tag": ("a\n</think>\n\nb", ("a", "b")),
    "thought tokens": (
        "<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>b<|end_of_solution|>",
        ("a", "b"),
    ),
    "s1": ("<|im_start|>think\na\n<|im_start|>answer\nb<|im_end|>", ("a", "b")),
    "last heading": (
        "a **Final Answer** no\n**Final Answer**\n\\boxed{2}",
        ("a **Final Answer** no", "**Final Answer**\n\\boxed{2}"),
    ),
    "box only": (r"So \boxed{2}.", (r"So \boxed{2}.", "Final Answer: 2")),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TEXTS.values(), ids=TEXTS.keys())
def test_text_is_split(text: str, expected: tuple[str, str]) -> None:
    assert split_thinking(text) == expected


def test_chain_without_an_answer_is_refused() -> None:
    with pytest.raises(UnusableValue, match="the chain states no answer"):
        split_thinking("I do not know")


def test_long_text_is_split_in_linear_time() -> None:
    text = "step\n" * 100_000 + r"\boxed{2}"
    assert split_thinking(text)[1] == "Final Answer: 2"


SOLUTIONS = {
    "short": ("128", "128"),
    "boxed": ("Long\nstory: \\boxed{7}", "7"),
    "long line": ("word " * 30, None),
    "several lines": ("1\n2", None),
    "none": (None, None),
}


@pytest.mark.parametrize(("solution", "expected"), SOLUTIONS.values(), ids=SOLUTIONS.keys())
def test_answer_of_a_solution(solution: str | None, expected: str | None) -> None:
    assert answer_in_solution(solution) == expected


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no thinking": ("s1k", {"thinking_trajectories": None}, "`thinking_trajectories` is not"),
    "no attempt": ("s1k", {"attempt": None}, "`attempt` is missing or empty"),
    "empty question": ("chain", {"question": " "}, "the question is empty"),
    "question of another type": ("limo", {"question": 3}, "`question` is a number"),
    "neither text": ("chain", {"thinking": None, "response": None}, "the chain states no answer"),
    "more turns": (
        "sharegpt",
        {"conversations": ROWS["sharegpt"]["conversations"] * 2},
        "not one question and one reply",
    ),
    "turns of another type": ("sharegpt", {"conversations": ["a"]}, "not a list of turns"),
    "half a trace": ("slowthink", {"problem": None}, "not a Trace row"),
    "trace without tokens": ("slowthink", {"grade": {"verdict": "fine"}}, "not a Trace row"),
    "trace of null": ("slowthink", {"thinking": None}, "`thinking` is missing or empty"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "change", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_row_is_refused_with_a_reason(name: str, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableValue, match=reason):
        CHAIN_FORMATS[name].read(ROWS[name] | change)


def test_one_of_the_two_texts_may_be_missing() -> None:
    row = ROWS["chain"] | {"thinking": None, "response": r"Easy. \boxed{2}"}
    chain = CHAIN_FORMATS["chain"].read(row)
    assert (chain.thinking, chain.response) == (r"Easy. \boxed{2}", "Final Answer: 2")
