"""Which tokens have a loss, exactly, in each thinking format: in a row alone, and packed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from slowthink.forcing.formats import FORMATS
from slowthink.recipe import Recipe
from slowthink.records import Grade, Trace, Verdict
from slowthink.stages.train.examples import tokenize_traces
from slowthink.stages.train.loss import completion_loss
from slowthink.stages.train.packing import IGNORE_INDEX, pack

PROMPT = (1, 9690, 198, 2, 198, 1, 4093, 198, 1780, 314, 216, 33, 39, 1232, 216, 34, 37, 47, 2, 198, 1, 520, 9531, 198)  # fmt: skip
THINKING = (33, 39, 1232, 216, 34, 37, 446, 216, 36, 34, 30, 198, 2931, 216, 36, 34, 30)
ANSWER = (29288, 19842, 42, 216, 36, 34, 2)
S1 = (1, 17400, 198, *THINKING, 198, 1, 11247, 198, *ANSWER)
COMPLETIONS = {
    "s1": S1,
    "s1-steps": S1,
    "think-tags": (44, 17400, 46, 198, *THINKING, 198, 9617, 17400, 46, 1116, *ANSWER),
    "gpt-oss": (
        44, 108, 12078, 108, 46, 14975, 44, 108, 6807, 108, 46, *THINKING,
        44, 108, 486, 108, 21198, 108, 3738, 108, 46, 520, 9531, 44, 108, 12078, 108, 46, 17254, 44, 108, 6807, 108, 46,
        *ANSWER,
    ),
    "plain": (*THINKING, 198, *ANSWER),
}  # fmt: skip
"""Golden ids that have a loss, by format: delimiters, thinking, answer and EOS."""


@pytest.fixture
def examples_of(make_problem, smollm_tokenizer):
    """The golden example in a format, and a longer one."""

    def make(format):
        texts = [
            ("What is 17 + 25?", "17 + 25 = 42.\nSo 42."),
            ("What is 1 + 1?", "1 + 1 = 2.\n" * 5),
        ]
        traces = [
            Trace(
                problem=make_problem(question), thinking=thinking, response="Final Answer: 42",
                teacher="made", grade=Grade(verdict=Verdict.CORRECT), num_thinking_tokens=1,
                num_response_tokens=1, tokenizer="t",
            )
            for question, thinking in texts
        ]  # fmt: skip
        recipe = Recipe.model_validate(
            {"name": "t", "chat": {"system_prompt": "", "format": format}}
        )
        made = tokenize_traces(traces, smollm_tokenizer, recipe)
        return sorted(made, key=lambda example: example.num_tokens)

    return make


def test_every_built_in_format_has_golden_ids():
    assert COMPLETIONS.keys() == FORMATS.keys()


@pytest.mark.parametrize("format", COMPLETIONS)
def test_the_loss_is_on_the_completion_with_its_delimiters_and_eos_alone_or_packed(
    format, examples_of
):
    golden, longer = examples_of(format)
    assert (golden.prompt_ids, golden.completion_ids) == (PROMPT, COMPLETIONS[format])
    masked = [IGNORE_INDEX] * len(PROMPT)
    alone = pack([[golden]])
    assert alone["labels"].tolist() == [[*masked, *COMPLETIONS[format]]]
    packed = pack([[longer, golden]])
    start = longer.num_tokens
    assert packed["labels"][0, start:].tolist() == [*masked, *COMPLETIONS[format]]
    assert packed["labels"][0, :start].tolist() == [
        *[IGNORE_INDEX] * len(longer.prompt_ids), *longer.completion_ids
    ]  # fmt: skip
    assert packed["input_ids"][0, start:].tolist() == [*PROMPT, *COMPLETIONS[format]]
    predicted = packed["labels"][0, packed["loss_positions"] + 1].tolist()
    assert predicted == [*longer.completion_ids, *COMPLETIONS[format]]


@pytest.mark.parametrize("format", COMPLETIONS)
def test_a_packed_row_has_the_loss_that_transformers_computes_of_each_example(
    format, examples_of, tiny_model
):
    from transformers import AutoModelForCausalLM

    from slowthink.stages.train.attention import attention_name

    examples = examples_of(format)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    total = 0.0
    for example in examples:
        ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]])
        labels = ids.clone()
        labels[0, : len(example.prompt_ids)] = IGNORE_INDEX
        total += model(input_ids=ids, labels=labels).loss.item() * len(example.completion_ids)
    model.set_attn_implementation(attention_name(model.config, "cpu"))
    mean = total / sum(len(example.completion_ids) for example in examples)
    assert completion_loss(model, pack([examples])).item() == pytest.approx(mean, abs=2e-5)
