"""Examples as token ids."""

from __future__ import annotations

import pytest

from slowthink.recipe import Recipe
from slowthink.records import Grade, Trace, Verdict
from slowthink.stages.train.examples import tokenize_traces

GOLDEN_PROMPT = (
    1, 9690, 198, 2, 198, 1, 4093, 198, 1780, 314, 216, 33, 39, 1232, 216, 34, 37, 47, 2, 198,
    1, 520, 9531, 198,
)  # fmt: skip
GOLDEN_COMPLETION = (
    1, 17400, 198, 33, 39, 1232, 216, 34, 37, 446, 216, 36, 34, 30, 1644, 216, 36, 34, 30, 198,
    1, 11247, 198, 29288, 19842, 42, 216, 36, 34, 2,
)  # fmt: skip


def _trace(problem, thinking="17 + 25 = 42. So 42.") -> Trace:
    return Trace(
        problem=problem, thinking=thinking, response="Final Answer: 42", teacher="made",
        grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=12, num_response_tokens=5,
        tokenizer="t",
    )  # fmt: skip


def test_an_example_has_the_golden_ids(make_problem, smollm_tokenizer):
    recipe = Recipe.model_validate({"name": "t", "chat": {"system_prompt": ""}})
    (example,) = tokenize_traces([_trace(make_problem())], smollm_tokenizer, recipe)
    assert example.prompt_ids == GOLDEN_PROMPT
    assert example.completion_ids == GOLDEN_COMPLETION
    assert smollm_tokenizer.decode(example.completion_ids) == (
        "<|im_start|>think\n17 + 25 = 42. So 42.\n<|im_start|>answer\nFinal Answer: 42<|im_end|>"
    )


def test_examples_are_in_the_same_order_for_any_input_order(make_problem, smollm_tokenizer):
    traces = [_trace(make_problem(f"What is {n} + 1?")) for n in range(5)]
    recipe = Recipe(name="t")
    examples = tokenize_traces(traces, smollm_tokenizer, recipe)
    assert tokenize_traces(traces[::-1], smollm_tokenizer, recipe) == examples


HEADER = (1, 9690, 198, 2, 198, 1, 4093, 198, 1780, 314, 216, 33, 39, 1232, 216, 34, 37, 47, 2, 198,
          1, 520, 9531, 198)  # fmt: skip
BLOCK = (1, 17400, 198, 1, 11247, 198)
"""<|im_start|>think, <|im_start|>answer: as after a budget of 0 tokens."""
ANSWER = (29288, 19842, 42, 216, 36, 34, 2)


@pytest.mark.parametrize(
    ("setting", "prompt", "completion"),
    [
        ("keep", HEADER, BLOCK + ANSWER),
        ("mask", HEADER + BLOCK, ANSWER),
        ("none", HEADER, ANSWER),
    ],
)
def test_a_row_without_thinking_has_the_golden_ids(
    setting, prompt, completion, make_problem, smollm_tokenizer
):
    chat = {"system_prompt": "", "empty_thinking": setting}
    recipe = Recipe.model_validate({"name": "t", "chat": chat})
    (example,) = tokenize_traces([_trace(make_problem(), "")], smollm_tokenizer, recipe)
    assert (example.prompt_ids, example.completion_ids) == (prompt, completion)
    (thinks,) = tokenize_traces([_trace(make_problem())], smollm_tokenizer, recipe)
    assert (thinks.prompt_ids, thinks.completion_ids) == (GOLDEN_PROMPT, GOLDEN_COMPLETION)
