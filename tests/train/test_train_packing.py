"""Packed rows: labels, positions, and attention only within an example."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.packing import ATTENTION, IGNORE_INDEX, attention_name, pack

FIRST = TrainingExample(id="a", prompt_ids=(1, 9, 8), completion_ids=(4, 5, 2))
SECOND = TrainingExample(id="b", prompt_ids=(1, 2, 7), completion_ids=(6, 2))


def test_only_completion_tokens_have_labels_and_the_eos_is_one():
    batch = pack([[FIRST, SECOND]])
    assert batch["input_ids"].tolist() == [[1, 9, 8, 4, 5, 2, 1, 2, 7, 6, 2]]
    masked = [IGNORE_INDEX] * 3
    assert batch["labels"].tolist() == [[*masked, 4, 5, 2, *masked, 6, 2]]


def test_positions_start_at_0_in_each_example():
    batch = pack([[FIRST, SECOND]])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 6, 11]
    assert batch["max_length_q"] == 6


def test_an_empty_micro_batch_has_no_loss():
    assert set(pack([[]])["labels"].flatten().tolist()) == {IGNORE_INDEX}


@pytest.fixture(scope="module")
def losses(tiny_model):
    """The loss of a packed row, and that of its examples one at a time by transformers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from slowthink.stages.train.trainer import completion_loss

    name = attention_name(AutoConfig.from_pretrained(tiny_model), "cpu")
    ours = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation=name
    )
    plain = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation="eager"
    )
    packed = completion_loss(ours, pack([[FIRST, SECOND]]))
    separate = [_plain_loss(plain, example) for example in (FIRST, SECOND)]
    return name, packed, (separate[0] * 3 + separate[1] * 2) / 5, (ours, plain)


def _plain_loss(model, example):
    ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]])
    labels = ids.clone()
    labels[0, : len(example.prompt_ids)] = IGNORE_INDEX
    return model(input_ids=ids, labels=labels).loss


def test_a_packed_row_has_the_loss_of_its_separate_examples(losses):
    name, packed, separate, _ = losses
    assert name == ATTENTION
    assert packed.item() == pytest.approx(separate.item(), abs=1e-5)


def test_a_packed_row_has_the_gradient_of_its_separate_examples(losses):
    _, packed, separate, (ours, plain) = losses
    packed.backward()
    separate.backward()
    for packed_weight, weight in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(packed_weight.grad, weight.grad, atol=1e-6, rtol=1e-4)


def test_a_model_with_a_sliding_window_uses_transformers_own_attention():
    from transformers import MistralConfig

    assert attention_name(MistralConfig(sliding_window=16), "cpu") == "sdpa"
