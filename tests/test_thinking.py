"""The reader of thinking: delimiters of many models, messages, and names of ends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from slowthink.data.finish import Finish, read_finish
from slowthink.data.messages import read_message
from slowthink.data.rows import UnusableValue
from slowthink.grading.extract import extract
from slowthink.grading.thinking import remove_tags, response_of, split_text

T, R = "3 rows of 4.\nSo 12.", "There are 12."
HARMONY_FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
SPLIT: dict[str, tuple[str, str, str]] = {
    "tags": (f"<think>\n{T}\n</think>\n\n{R}", T, R),
    "template-opened": (f"{T}\n</think>\n\n{R}", T, R),
    "empty": (f"<think>\n\n</think>\n\n{R}", "", R),
    "empty, template-opened": (f"\n</think>\n{R}", "", R),
    "thinking": (f"<thinking>{T}</thinking>{R}", T, R),
    "thought": (f"<thought>\n{T}</thought>\n{R}", T, R),
    "seed": (f"<seed:think>{T}</seed:think>{R}<seed:eos>", T, R),
    "seed, template-opened": (f"{T}</seed:think>{R}", T, R),
    "brackets": (f"[THINK]{T}[/THINK]{R}</s>", T, R),
    "cohere": (f"<|START_THINKING|>{T}<|END_THINKING|><|START_RESPONSE|>{R}<|END_RESPONSE|>", T, R),
    "upper case": (f"<Thought>\n{T}\n</Thought>\n{R}", T, R),
    "triangles": (f"◁think▷{T}◁/think▷{R}", T, R),
    "gemma": (f"<|channel>thought\n{T}<channel|>{R}<turn|>", T, R),
    "unused": (f"<unused94>thought\n{T}<unused95>{R}", T, R),
    "answer marks": (f"<think>{T}</think>\n{R}<|end_of_sentence|>", T, R),
    "granite": (f"Here is my thought process:\n{T}\nHere is my response:\n{R}", T, R),
    "s1": (f"<|im_start|>think\n{T}\n<|im_start|>answer\n{R}<|im_end|>", T, R),
    "header": (f"<|im_start|>assistant\n<think>\n{T}\n</think>\n{R}<|im_end|>\n", T, R),
    "r1 marks": (f"<｜Assistant｜><think>\n{T}\n</think>\n{R}<｜end▁of▁sentence｜>", T, R),
    "llama mark": (f"<think>{T}</think>{R}<|eot_id|>", T, R),
    "several marks": (f"<think>{T}</think>{R}<|im_end|>\n<|endoftext|>", T, R),
    "GLM box": (f"<think>{T}</think>There are <|begin_of_box|>12<|end_of_box|>.", T, R),
    "solution": (
        f"<|begin_of_thought|>{T}<|end_of_thought|><|begin_of_solution|>{R}<|end_of_solution|>", T, R,
    ),
    "harmony": (f"<|channel|>analysis<|message|>{T}{HARMONY_FINAL}{R}<|return|>", T, R),
    "harmony, started": (
        f"<|start|>assistant<|channel|>analysis<|message|>{T}{HARMONY_FINAL}{R}", T, R,
    ),
    "harmony, template-opened": (f"{T}{HARMONY_FINAL}{R}<|return|>", T, R),
    "harmony, two parts": (
        f"<|channel|>analysis<|message|>3 rows of 4.<|end|><|start|>assistant"
        f"<|channel|>analysis<|message|>So 12.{HARMONY_FINAL}{R}", T, R,
    ),
    "harmony without special tokens": (f"analysis{T}assistantfinal{R}", T, R),
    "quoted end": (f"<think>\nEnd by </think> only. {T}\n</think>\n{R}",
                   f"End by </think> only. {T}", R),
    "end quoted in the response": (f"<think>{T}</think>\n`</think>` ends it.", T, "`</think>` ends it."),
    "other end quoted": (f"<think>{T} no [/THINK] here</think>{R}", f"{T} no [/THINK] here", R),
    "two blocks": (f"<think>3 rows of 4.</think>\n<think>So 12.</think>{R}", T, R),
    "preface": (f"Sure.\n<think>\n{T}\n</think>\n{R}", f"Sure.\n{T}", R),
    "tag quoted in thinking": (f"Is <think> shown? {T}</think>{R}", f"Is <think> shown? {T}", R),
}  # fmt: skip


@pytest.mark.parametrize(("text", "thinking", "response"), SPLIT.values(), ids=SPLIT.keys())
def test_a_text_is_split(text: str, thinking: str, response: str) -> None:
    parts = split_text(text)
    assert parts.thinking is not None and parts.closing
    assert (parts.thinking.strip(), parts.response.strip()) == (thinking, response)


@pytest.mark.parametrize("text", ["<think>\n3 rows", "analysisOf 3 rows", "[THINK]3 rows", "<seed:think>3 rows</think>",
                                  "<|channel|>analysis<|message|>3 rows<|end|>"])  # fmt: skip
def test_thinking_without_an_end_is_unfinished(text: str) -> None:
    parts = split_text(text)
    assert parts.unfinished and parts.response == ""
    assert "3 rows" in str(parts.thinking)


@pytest.mark.parametrize(
    "text", [R, "Tags such as `<think>` are no thinking.", "End by `</think>`.", "x < y > z", ""]
)
def test_a_text_without_delimiters_has_no_thinking(text: str) -> None:
    assert (split_text(text).thinking, split_text(text).response) == (None, text)


def test_several_ends_are_noted() -> None:
    assert split_text(SPLIT["quoted end"][0]).notes == (
        "2 times </think>; the thinking ends at the last",
    )
    assert split_text(SPLIT["tags"][0]).notes == ()


def test_the_own_delimiters_of_a_format_come_first() -> None:
    parts = split_text(f"{T}[A]{R}", own=("[Q]", "[A]"))
    assert (parts.thinking, parts.response) == (T, R)


@pytest.mark.parametrize(
    "thinking", [f"<think>\n{T}\n</think>", f"<think>{T}", f"{T}\n</think>", f"[THINK]{T}[/THINK]", T,
                 f"<think>{T}</think>{R}", f"<|channel|>analysis<|message|>{T}<|end|>"],
)  # fmt: skip
def test_tags_around_a_thinking_column_are_taken_off(thinking: str) -> None:
    assert remove_tags(thinking, R).strip() == T


MESSAGES: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "text": ({"content": R}, None, R),
    "reasoning_content": ({"content": R, "reasoning_content": T}, T, R),
    "reasoning": ({"content": R, "reasoning": T}, T, R),
    "thinking": ({"content": R, "thinking": T}, T, R),
    "both names": ({"content": R, "reasoning": T, "reasoning_content": T}, T, R),
    "null": ({"content": R, "reasoning_content": None}, None, R),
    "empty": ({"content": R, "reasoning_content": ""}, "", R),
    "a switch": ({"content": R, "reasoning": "off"}, None, R),
    "tagged field": ({"content": R, "reasoning_content": f"<think>{T}</think>"}, T, R),
    "empty tags in content": (
        {"content": f"<think>\n\n</think>\n\n{R}", "reasoning_content": T}, T, R,
    ),
    "details": ({"content": R, "reasoning_details": [{"type": "reasoning.text", "text": T}]}, T, R),
    "parts": (
        {"content": [{"type": "thinking", "thinking": T}, {"type": "text", "text": R}]}, T, R,
    ),
    "nested parts": (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": T}]},
                     {"type": "text", "text": R}]}, T, R,
    ),
    "reasoning part": (
        {"content": [{"type": "reasoning", "reasoning": T}, {"type": "output_text", "text": R}]},
        T, R,
    ),
    "summary part": (
        {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": T}]},
                     {"type": "text", "text": R}]}, T, R,
    ),
    "tags in a part": ({"content": [{"type": "text", "text": f"<think>{T}</think>{R}"}]}, T, R),
    "thinking only": ({"content": None, "reasoning_content": T}, T, ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "thinking", "response"), MESSAGES.values(), ids=MESSAGES.keys()
)
def test_a_message_is_split(message: dict[str, Any], thinking: str | None, response: str) -> None:
    parts = read_message(message)
    assert (parts.thinking, parts.response.strip()) == (thinking, response)


def test_two_different_thinkings_are_joined_and_noted() -> None:
    parts = read_message({"content": f"<think>b</think>{R}", "reasoning": "a"})
    assert (parts.thinking, parts.notes) == ("a\nb", ("thinking in two places is joined",))


@pytest.mark.parametrize(
    "content", [[{"type": "image_url", "image_url": "x"}], [{"type": "text", "text": 3}], 7, [7]]
)
def test_content_that_is_no_text_is_refused(content: Any) -> None:
    with pytest.raises(UnusableValue):
        read_message({"content": content})


def test_long_texts_are_split_in_linear_time() -> None:
    started = time.process_time()
    for filler in (" ", "\n", "<think>", "</think>", "<|im_start|>", "<|channel|>", "`</think>`"):
        split_text(filler * 20_000 + "x")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", Finish.STOP), ("eos_token", Finish.STOP), ("EOS", Finish.STOP),
        ("end_turn", Finish.STOP), ("length", Finish.LENGTH), ("MAX_TOKENS", Finish.LENGTH),
        ("FINISH_REASON_MAX_TOKENS", Finish.LENGTH), ("content_filter", Finish.LENGTH),
        ("error", Finish.ERROR), ("abort", Finish.ERROR), ("insufficient_system_resource", Finish.ERROR),
        ("maxTokens", Finish.LENGTH), ("token-limit reached", Finish.LENGTH),
        ("PROHIBITED_CONTENT", Finish.LENGTH), ("ContentFilter", Finish.LENGTH),
        ("request timed_out", Finish.ERROR), ("UpstreamError", Finish.ERROR),
        (None, None), ("", None), ("whatever", None), (3, None), ({"type": "length"}, None),
    ],
)  # fmt: skip
def test_an_end_has_many_names(reason: object, finish: Finish | None) -> None:
    assert read_finish(reason) is finish


@pytest.mark.parametrize("name", SPLIT)
def test_the_grader_reads_the_response_alone(name: str) -> None:
    text = SPLIT[name][0]
    assert "3 rows" not in response_of(text)
    assert response_of(text).strip()


@pytest.mark.parametrize(
    "text",
    [
        "<seed:think>so \\boxed{12}", "[THINK]so \\boxed{12}", "◁think▷ \\boxed{12}",
        "<thinking>no, \\boxed{12}", "<think>a</think>9<think>or \\boxed{12}",
        "<|channel|>analysis<|message|>\\boxed{12}", "<|START_THINKING|>\\boxed{12}",
    ],
)  # fmt: skip
def test_the_grader_finds_no_answer_in_thinking_that_was_cut(text: str) -> None:
    assert extract(text) is None


def test_words_that_any_text_may_have_do_not_open_thinking_for_the_grader() -> None:
    assert extract("Here's my thought process: 3 by 4, so \\boxed{12}.") == "12"
