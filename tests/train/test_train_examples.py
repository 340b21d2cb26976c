"""Examples as token ids, and the check of their length that truncates nothing."""

from __future__ import annotations

import pytest

from slowthink.errors import DataError
from slowthink.recipe import Recipe, TrainConfig
from slowthink.records import Grade, Trace, Verdict
from slowthink.stages.train.examples import TrainingExample, drop_too_long, tokenize_traces

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


def _example(name: str, length: int) -> TrainingExample:
    return TrainingExample(id=name, prompt_ids=(5,) * (length - 2), completion_ids=(7, 2))


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


def test_a_too_long_example_is_refused_with_counts_and_remedies():
    examples = [_example("a", 10), _example("b", 25), _example("c", 31)]
    with pytest.raises(DataError) as refusal:
        drop_too_long(examples, TrainConfig(max_length=20), max_context=None)
    text = str(refusal.value)
    assert "2 of 3 examples are longer than 20 tokens (train.max_length)" in text
    assert "longest has 31" in text
    assert "--set train.max_length=31" in text
    assert "--set train.too_long=drop" in text


def test_the_models_context_is_also_a_limit_and_is_named():
    with pytest.raises(DataError, match=r"longer than 8 tokens \(the model's context\)"):
        drop_too_long([_example("a", 10)], TrainConfig(), max_context=8)


def test_a_too_long_example_is_dropped_with_its_length_when_the_recipe_says_so():
    examples = [_example("a", 10), _example("b", 25)]
    kept, dropped = drop_too_long(
        examples, TrainConfig(max_length=20, too_long="drop"), max_context=None
    )
    assert [example.id for example in kept] == ["a"]
    assert [(d.id, d.reason, d.evidence) for d in dropped] == [
        ("b", "too long", "25 tokens, limit 20")
    ]


def test_an_example_of_exactly_the_limit_is_kept():
    kept, dropped = drop_too_long([_example("a", 20)], TrainConfig(max_length=20), max_context=20)
    assert kept[0].num_tokens == 20
    assert not dropped


def test_no_remaining_example_is_an_error():
    with pytest.raises(DataError, match="none is within the limit of 20 tokens"):
        drop_too_long(
            [_example("a", 25)], TrainConfig(max_length=20, too_long="drop"), max_context=None
        )
