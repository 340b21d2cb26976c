"""Examples that are too long: refused, dropped, or their thinking cut; never the answer."""

from __future__ import annotations

from functools import partial

import pytest

from slowthink.errors import DataError
from slowthink.recipe import Recipe, TrainConfig
from slowthink.records import Grade, Trace, Verdict
from slowthink.stages.train.examples import TrainingExample, in_order, tokenize, tokenize_traces
from slowthink.stages.train.lengths import LimitedLengths, limit_lengths


def _trace(problem, thinking="17 + 25 = 42. So 42.") -> Trace:
    return Trace(
        problem=problem, thinking=thinking, response="Final Answer: 42", teacher="made",
        grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=12, num_response_tokens=5,
        tokenizer="t",
    )  # fmt: skip


def _example(name: str, length: int) -> TrainingExample:
    return TrainingExample(id=name, prompt_ids=(5,) * (length - 2), completion_ids=(7, 2))


def _limit(*lengths: int, max_context: int | None = None, **settings) -> LimitedLengths:
    examples = [_example(f"e{number}", length) for number, length in enumerate(lengths)]
    return limit_lengths(
        examples, [None] * len(examples), None, TrainConfig(max_length=20, **settings),
        max_context=max_context,
    )  # fmt: skip


def test_a_too_long_example_is_refused_with_counts_and_remedies():
    with pytest.raises(DataError) as refusal:
        _limit(10, 25, 31)
    text = str(refusal.value)
    assert "2 of 3 examples are longer than 20 tokens (train.max_length)" in text
    assert "longest has 31" in text
    assert "--set train.max_length=31" in text
    assert "--set train.too_long=drop" in text
    assert "--set train.too_long=cut_thinking" in text


def test_the_models_context_is_also_a_limit_and_is_named():
    with pytest.raises(DataError, match=r"longer than 8 tokens \(the model's context\)"):
        _limit(10, max_context=8)


def test_a_too_long_example_is_dropped_with_its_length_when_the_recipe_says_so():
    limited = _limit(10, 25, too_long="drop")
    assert [example.id for example in limited.examples] == ["e0"]
    assert [(d.id, d.reason, d.evidence) for d in limited.dropped] == [
        ("e1", "too long", "25 tokens, limit 20")
    ]


def test_an_example_of_exactly_the_limit_is_kept():
    limited = _limit(20, max_context=20)
    assert limited.examples[0].num_tokens == 20
    assert not limited.dropped and not limited.cut


def test_no_remaining_example_is_an_error():
    with pytest.raises(DataError, match="none is within the limit of 20 tokens"):
        _limit(25, too_long="drop")


def test_an_empty_training_set_is_an_error():
    with pytest.raises(DataError, match="the training set has no rows; expected at least one"):
        _limit()


THINKING = "First 17 + 20 = 37. Then 37 + 5 = 42, e.g. 42.0 in full.\n\nWait, is it? Yes. 六乘七。得四十二。"


def _cut(problem, tokenizer, limit: int, thinking: str = THINKING):
    traces = in_order([_trace(problem, thinking)])
    recipe = Recipe.model_validate({"name": "t", "chat": {"system_prompt": ""}})
    examples = tokenize_traces(traces, tokenizer, recipe)
    config = TrainConfig(max_length=limit, too_long="cut_thinking")
    tokenize_one = partial(tokenize, tokenizer=tokenizer, recipe=recipe)
    return limit_lengths(examples, traces, tokenize_one, config, max_context=None), examples[0]


@pytest.mark.parametrize("tokens_less", [1, 8, 20, 30])
def test_cut_thinking_ends_at_a_whole_step_and_keeps_delimiter_and_answer(
    tokens_less, make_problem, smollm_tokenizer
):
    whole = _cut(make_problem(), smollm_tokenizer, 1000)[1]
    limit = whole.num_tokens - tokens_less
    limited, _ = _cut(make_problem(), smollm_tokenizer, limit)
    (example,) = limited.examples
    text = smollm_tokenizer.decode(example.completion_ids)
    thinking = text.removeprefix("<|im_start|>think\n").removesuffix(
        "\n<|im_start|>answer\nFinal Answer: 42<|im_end|>"
    )
    assert THINKING.startswith(thinking) and thinking.endswith((".", "?", "。"))
    assert example.num_tokens <= limit
    assert example.prompt_ids == whole.prompt_ids
    assert (limited.cut[0].num_tokens, limited.cut[0].num_before) == (
        example.num_tokens, whole.num_tokens,
    )  # fmt: skip


def test_the_cut_keeps_as_many_steps_as_fit(make_problem, smollm_tokenizer):
    two = _cut(make_problem(), smollm_tokenizer, 1000, thinking="One. Two.")[1].num_tokens
    limited, _ = _cut(make_problem(), smollm_tokenizer, two, thinking="One. Two. Three and more.")
    assert "think\nOne. Two.\n<|im_start|>answer" in smollm_tokenizer.decode(
        limited.examples[0].completion_ids
    )


def test_a_row_without_a_step_that_fits_is_dropped_not_emptied(make_problem, smollm_tokenizer):
    with pytest.raises(DataError, match="none is within the limit"):
        _cut(make_problem(), smollm_tokenizer, 40, thinking="one long step " * 50 + ". End.")
