"""Row formats of published chains, each read from a row that we wrote in its schema."""

from __future__ import annotations

import re
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
    texts = split_thinking(text)
    assert (texts.thinking, texts.response, texts.defect) == (*expected, None)


def test_text_without_a_delimiter_is_all_thinking_and_lacks_an_answer_part() -> None:
    assert split_thinking(r"So \boxed{2}.").unsplit
    assert not split_thinking("a **Final Answer** 2").unsplit


LACKING = {
    "no answer": ("I do not know", "the chain states no answer"),
    "never closed": ("<think>one and", "the thinking is never closed"),
    "no thinking": ("<think>\n</think>2", "the thinking is empty"),
}


@pytest.mark.parametrize(("text", "defect"), LACKING.values(), ids=LACKING.keys())
def test_chain_that_lacks_a_part_is_read_with_its_defect(text: str, defect: str) -> None:
    assert split_thinking(text).defect == defect


def test_long_text_is_split_in_linear_time() -> None:
    text = "step\n" * 100_000 + r"\boxed{2}"
    assert split_thinking(text).response == "Final Answer: 2"


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


# --- thinking in a field, a part or a column ------------------------------------------------------

REPLY = r"It is \boxed{2}."
WITHOUT = {"messages": [{"role": "user", "content": "What is 1 + 1?"}]}


def messages_with(**reply: Any) -> dict[str, Any]:
    turns = [*WITHOUT["messages"], {"role": "assistant", "content": REPLY} | reply]
    return {"answer": "2", "messages": turns}


def sharegpt_with(**reply: Any) -> dict[str, Any]:
    question = {"from": "user", "value": "What is 1 + 1?"}
    return {"conversations": [question, {"from": "model", "value": REPLY} | reply]}


OWN_THINKING: dict[str, dict[str, Any]] = {
    "reasoning_content": messages_with(reasoning_content=CHAIN),
    "thinking": messages_with(thinking=f"<think>\n{CHAIN}\n</think>"),
    "sharegpt": sharegpt_with(reasoning=CHAIN),
    "sharegpt parts": sharegpt_with(
        value=[{"type": "thinking", "thinking": CHAIN}, {"type": "text", "text": REPLY}]
    ),
    "parts": messages_with(
        content=[{"type": "reasoning", "text": CHAIN}, {"type": "text", "text": REPLY}]
    ),
    "parts of both": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is 1 + 1?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": REPLY}], "reasoning": CHAIN},
        ]
    },
    "a column of the row": messages_with() | {"reasoning": CHAIN},
    "alpaca": {"instruction": "What is 1 + 1?", "output": REPLY, "reasoning_content": CHAIN},
    "alpaca tags": {"instruction": "What is 1 + 1?", "output": f"[THINK]{CHAIN}[/THINK]{REPLY}"},
    "chain": {"question": "What is 1 + 1?", "reasoning_content": CHAIN, "response": REPLY},
    "chain tags": {
        "question": "What is 1 + 1?", "thinking": f"<think>{CHAIN}</think>", "response": REPLY,
    },
    "limo": {"question": "What is 1 + 1?", "solution": REPLY, "answer": "2", "thinking": CHAIN},
    "harmony": messages_with(
        content=f"<|channel|>analysis<|message|>{CHAIN}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{REPLY}<|return|>"
    ),
    "a log": {
        "messages": WITHOUT["messages"],
        "choices": [{"message": {"content": REPLY, "reasoning_content": CHAIN}}],
    },
    "a log of requests": {
        "request": WITHOUT, "response": {"body": {"choices": [
            {"message": {"role": "assistant", "content": REPLY, "reasoning": CHAIN}}
        ]}},
    },
    "a conversation": {
        "conversation": [*WITHOUT["messages"],
                         {"role": "assistant", "content": {"thinking": CHAIN, "text": REPLY}}],
    },
    "parts with a flag": {
        "messages": [{"role": "user", "parts": [{"text": "What is 1 + 1?"}]},
                     {"role": "model", "parts": [{"text": CHAIN, "thought": True}, {"text": REPLY}]}],
    },
    "a turn of its own": {
        "messages": [*WITHOUT["messages"], {"role": "thinking", "content": CHAIN},
                     {"role": "assistant", "content": REPLY}],
    },
    "a channel of its own": {
        "messages": [*WITHOUT["messages"],
                     {"role": "assistant", "channel": "analysis", "content": CHAIN},
                     {"role": "assistant", "channel": "final", "content": REPLY}],
    },
    "a column with a prefix": {
        "instruction": "What is 1 + 1?", "output": REPLY, "Complex_CoT": CHAIN,
    },
    "s1k-1.1": ROWS["s1k-1.1"]
    | {"deepseek_thinking_trajectory": f"<think>\n{CHAIN}\n</think>", "deepseek_attempt": REPLY},
}  # fmt: skip


@pytest.mark.parametrize("row", OWN_THINKING.values(), ids=OWN_THINKING.keys())
def test_thinking_is_read_from_its_own_place(row: dict[str, Any]) -> None:
    format = detect_format(list(row))
    assert format is not None
    chain = format.read(row)
    assert chain.problem.question == "What is 1 + 1?"
    assert (chain.thinking.strip(), chain.response.strip(), chain.notes) == (CHAIN, REPLY, ())


WITH_DEFECT: dict[str, tuple[dict[str, Any], str]] = {
    "empty tags": (messages_with(content=f"<think>\n\n</think>\n\n{REPLY}"), "thinking is empty"),
    "empty field": (messages_with(reasoning_content=""), "thinking is empty"),
    "empty column": (
        {"question": "What is 1 + 1?", "thinking": "", "response": REPLY}, "thinking is empty",
    ),
    "not closed": (messages_with(content=f"<think>\n{CHAIN} {REPLY}"), "never closed"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "defect"), WITH_DEFECT.values(), ids=WITH_DEFECT.keys())
def test_row_without_thinking_or_its_end_is_read_with_its_defect(
    row: dict[str, Any], defect: str
) -> None:
    format = detect_format(list(row))
    assert format is not None
    assert defect in (format.read(row).defect or "")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another turn": (
        messages_with(content=f"<think>{CHAIN}</think>{REPLY}<|im_end|>\n<|im_start|>user\nAnd?"),
        "`<|im_start|>` is left",
    ),
    "a mark alone": (messages_with(content=f"<|channel|>{CHAIN} {REPLY}"), "`<|channel|>` is left"),
    "an image": (messages_with(content=[{"type": "image_url"}]), "part of type `image_url`"),
    "a tool": (messages_with(reasoning=CHAIN, tool_calls=[{"id": 1}]), "calls a tool"),
    "no text": (messages_with(content=None, reasoning=CHAIN), "`content` is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("row", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_split_is_refused(row: dict[str, Any], reason: str) -> None:
    format = detect_format(list(row))
    assert format is not None
    with pytest.raises(UnusableValue, match=re.escape(reason)):
        format.read(row)


def test_several_ends_and_unread_keys_are_noted() -> None:
    text = f"<think>\nEnd by </think> only.\n{CHAIN}\n</think>\n{REPLY}"
    chain = CHAIN_FORMATS["messages"].read(
        messages_with(content=text, internal_monologue=CHAIN * 2)
    )
    assert chain.thinking == f"End by </think> only.\n{CHAIN}"
    assert chain.notes == (
        "2 times </think>; the thinking ends at the last",
        "`internal_monologue` of the reply is not read",
    )
