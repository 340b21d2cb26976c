"""The loss of completion tokens in tiles equals that of the whole logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy

from slowthink.stages.train import loss
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.loss import completion_loss, linear_cross_entropy
from slowthink.stages.train.packing import IGNORE_INDEX, pack

EXAMPLES = [
    TrainingExample(id="a", prompt_ids=(1, 9, 8), completion_ids=(4, 5, 2)),
    TrainingExample(id="b", prompt_ids=(1, 2, 7), completion_ids=(6, 2)),
]


def _hidden_weight_targets(dtype=torch.float32):
    torch.manual_seed(0)
    hidden, weight = torch.randn(23, 16, dtype=dtype), torch.randn(50, 16, dtype=dtype)
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(50, (23,))


def _gradients(total, *tensors):
    return torch.autograd.grad(total / 7, tensors)


@pytest.mark.parametrize("rows_per_tile", [1, 5, 23, 100])
def test_tiles_have_the_loss_and_gradient_of_the_whole(rows_per_tile, monkeypatch):
    monkeypatch.setattr(loss, "LOGITS_PER_TILE", rows_per_tile * 50)
    hidden, weight, targets = _hidden_weight_targets()
    whole = cross_entropy(hidden @ weight.T, targets, reduction="sum")
    tiled = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-6)
    for ours, theirs in zip(
        _gradients(tiled, hidden, weight), _gradients(whole, hidden, weight), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_bf16_tiles_are_as_near_to_fp32_as_the_whole(monkeypatch):
    monkeypatch.setattr(loss, "LOGITS_PER_TILE", 250)
    hidden, weight, targets = _hidden_weight_targets(torch.bfloat16)
    exact = linear_cross_entropy(hidden.float(), weight.float(), targets)
    whole = cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")
    tiled = linear_cross_entropy(hidden, weight, targets)
    assert tiled.dtype is torch.float32
    assert abs(tiled - exact) <= abs(whole - exact) + 1e-3
    expected = _gradients(exact, hidden, weight)
    for ours, theirs in zip(_gradients(tiled, hidden, weight), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_autocast_computes_the_head_in_bf16():
    hidden, weight, targets = _hidden_weight_targets()
    with torch.autocast("cpu", torch.bfloat16):
        total = linear_cross_entropy(hidden, weight, targets)
    bf16 = linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), targets)
    assert torch.equal(total, bf16)
    assert _gradients(total, hidden)[0].dtype is torch.float32


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, targets = _hidden_weight_targets()
    total = linear_cross_entropy(hidden, weight.detach(), targets)
    (expected,) = _gradients(cross_entropy(hidden @ weight.T, targets, reduction="sum"), hidden)
    torch.testing.assert_close(_gradients(total, hidden)[0], expected, atol=1e-5, rtol=1e-5)


def test_no_more_than_a_tile_of_logits_exists_at_a_time(monkeypatch):
    sizes = []
    log_softmax = torch.log_softmax
    monkeypatch.setattr(
        torch, "log_softmax", lambda x, **k: sizes.append(len(x)) or log_softmax(x, **k)
    )
    monkeypatch.setattr(loss, "LOGITS_PER_TILE", 250)
    linear_cross_entropy(*_hidden_weight_targets())
    assert sizes == [5, 5, 5, 5, 3]


def test_no_token_with_loss_is_a_loss_of_0_with_gradients(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    total = completion_loss(model, pack([[]]), torch.tensor(1))
    total.backward()
    assert total.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


def _model(kind):
    from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config, model = {
        "llama": (LlamaConfig, LlamaForCausalLM), "granite": (GraniteConfig, GraniteForCausalLM)
    }[kind]  # fmt: skip
    scaling = {"logits_scaling": 4.0} if kind == "granite" else {}
    return model(
        config(
            vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
            pad_token_id=0, **scaling,
        )
    ).eval()  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "granite"])
def test_the_loss_is_that_of_transformers_even_if_logits_are_scaled_after_the_head(kind):
    model = _model(kind)
    ids = torch.tensor([[*EXAMPLES[0].prompt_ids, *EXAMPLES[0].completion_ids]])
    labels = ids.clone()
    labels[0, :3] = IGNORE_INDEX
    expected = model(input_ids=ids, labels=labels).loss
    for _ in range(2):
        ours = completion_loss(model, pack([EXAMPLES[:1]]))
        assert ours.item() == pytest.approx(expected.item(), abs=1e-5)
    logits = model(input_ids=ids).logits
    assert logits.shape == (1, 6, 20)


@pytest.mark.parametrize("per_tile", [1, 2**20])
def test_right_tokens_are_counted_in_tiles_as_by_argmax(per_tile, monkeypatch):
    monkeypatch.setattr(loss, "LOGITS_PER_TILE", per_tile)
    hidden, weight, targets = _hidden_weight_targets()
    targets[:3] = (hidden @ weight.T).argmax(1)[:3]
    num_correct = torch.zeros((), dtype=torch.long)
    linear_cross_entropy(hidden, weight, targets, num_correct)
    assert num_correct == ((hidden @ weight.T).argmax(1) == targets).sum() >= 3
