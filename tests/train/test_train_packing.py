"""Packed rows: the labels, and that examples do not see one another."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.packing import ATTENTION, IGNORED, attention_name, pack

ONE = TrainingExample(id="a", prompt_ids=(1, 9, 8), completion_ids=(4, 5, 2))
OTHER = TrainingExample(id="b", prompt_ids=(1, 2, 7), completion_ids=(6, 2))


def test_only_the_completion_is_learnt_and_its_real_eos_is():
    batch = pack([[ONE, OTHER]])
    assert batch["input_ids"].tolist() == [[1, 9, 8, 4, 5, 2, 1, 2, 7, 6, 2]]
    masked = [IGNORED] * 3
    assert batch["labels"].tolist() == [[*masked, 4, 5, 2, *masked, 6, 2]]


def test_positions_begin_anew_with_each_example():
    batch = pack([[ONE, OTHER]])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 6, 11]
    assert batch["max_length_q"] == 6


def test_an_empty_part_learns_nothing():
    assert set(pack([[]])["labels"].flatten().tolist()) == {IGNORED}


@pytest.fixture(scope="module")
def losses(tiny_model):
    """The loss of a packed row, and of its examples one at a time, by transformers itself."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from slowthink.stages.train.trainer import loss_at_learnt_tokens

    name = attention_name(AutoConfig.from_pretrained(tiny_model), "cpu")
    ours = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation=name
    )
    plain = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, attn_implementation="eager"
    )
    packed = loss_at_learnt_tokens(ours, pack([[ONE, OTHER]]))
    apart = [_plain_loss(plain, example) for example in (ONE, OTHER)]
    return name, packed, (apart[0] * 3 + apart[1] * 2) / 5, (ours, plain)


def _plain_loss(model, example):
    ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]])
    labels = ids.clone()
    labels[0, : len(example.prompt_ids)] = IGNORED
    return model(input_ids=ids, labels=labels).loss


def test_a_packed_row_has_the_loss_of_its_examples_apart(losses):
    name, packed, apart, _ = losses
    assert name == ATTENTION
    assert packed.item() == pytest.approx(apart.item(), abs=1e-5)


def test_a_packed_row_has_the_gradient_of_its_examples_apart(losses):
    _, packed, apart, (ours, plain) = losses
    packed.backward()
    apart.backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_a_model_with_a_sliding_window_keeps_transformers_own_attention():
    from transformers import MistralConfig

    assert attention_name(MistralConfig(sliding_window=16), "cpu") == "sdpa"
