"""Attention within each example of a packed row: every implementation, forward and backward."""

from __future__ import annotations

import inspect
from itertools import pairwise
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import varlen

from slowthink.stages.train import attention
from slowthink.stages.train.attention import APART, VARLEN, attention_name
from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.loss import completion_loss
from slowthink.stages.train.packing import IGNORE_INDEX, pack

EXAMPLES = [
    TrainingExample(id="a", prompt_ids=(1, 9, 8), completion_ids=(4, 5, 2)),
    TrainingExample(id="b", prompt_ids=(1, 2, 7), completion_ids=(6, 2)),
    TrainingExample(id="c", prompt_ids=(1,), completion_ids=(2,)),
]


def _varlen_by_definition(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None,
    window_size=(-1, -1), enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    """What `varlen_attn` computes, with its signature and its demands on shapes and types."""
    (num_tokens, heads, dim), key_heads = query.shape, key.shape[1]
    assert key.shape == value.shape == (num_tokens, key_heads, dim)
    assert query.dtype is key.dtype is value.dtype
    assert all(part.stride(-1) == 1 for part in (query, key, value))
    assert enable_gqa or heads == key_heads
    assert cu_seq_q.dtype is torch.int32 and window_size == (-1, 0)
    bounds = cu_seq_q.tolist()
    assert bounds[-1] == num_tokens and type(max_q) is int
    assert max_q == max(b - a for a, b in pairwise(bounds))
    example = torch.bucketize(torch.arange(num_tokens), cu_seq_q[1:], right=True)
    mask = (example[:, None] == example) & torch.ones(num_tokens, num_tokens).tril().bool()
    key, value = (part.repeat_interleave(heads // key_heads, 1) for part in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * (scale or dim**-0.5)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)


@pytest.fixture
def varlen_on_cpu(monkeypatch):
    """`varlen_attn` has no CPU kernel: its definition takes its place, its dtype is kept."""
    monkeypatch.setattr(varlen, "varlen_attn", _varlen_by_definition)
    monkeypatch.setattr(attention, "_KERNEL_DTYPE", torch.float32)


def _load(folder, name):
    from transformers import AutoConfig, AutoModelForCausalLM

    attention_name(AutoConfig.from_pretrained(folder), "cpu")
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=name
    )


def _plain_loss(model, example):
    ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]])
    labels = ids.clone()
    labels[0, : len(example.prompt_ids)] = IGNORE_INDEX
    return model(input_ids=ids, labels=labels).loss * len(example.completion_ids)


@pytest.fixture(scope="module")
def separate(tiny_model):
    """Loss and gradients of the examples one at a time, by transformers' eager attention."""
    model = _load(tiny_model, "eager")
    loss = sum(_plain_loss(model, example) for example in EXAMPLES) / 6
    loss.backward()
    return loss.item(), [weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("name", [APART, VARLEN, "sdpa"])
def test_a_packed_row_has_the_loss_and_gradient_of_its_separate_examples(
    name, tiny_model, separate, varlen_on_cpu
):
    model = _load(tiny_model, name)
    loss = completion_loss(model, pack([EXAMPLES]))
    loss.backward()
    assert loss.item() == pytest.approx(separate[0], abs=1e-5)
    for weight, gradient in zip(model.parameters(), separate[1], strict=True):
        torch.testing.assert_close(weight.grad, gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_transformers_flex_attention_gives_a_packed_row_the_same_loss(tiny_model, separate):
    """Forward only: `flex_attention` has no backward pass on a CPU."""
    model = _load(tiny_model, "flex_attention").requires_grad_(False)
    with torch.compiler.set_stance("force_eager"):
        loss = completion_loss(model, pack([EXAMPLES]))
    assert loss.item() == pytest.approx(separate[0], abs=1e-5)


def _on_meta(batch):
    return {k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


@pytest.mark.parametrize("name", [APART, VARLEN])
def test_nothing_of_a_step_is_read_by_the_host(name, tiny_model):
    """Tensors on the meta device have no numbers: reading one, or a shape made of some, fails.

    `varlen_attn` itself runs here, by the shapes that PyTorch registered for it.
    """
    model = _load(tiny_model, name).to("meta")
    loss = completion_loss(model, _on_meta(pack([EXAMPLES])), torch.tensor(6, device="meta"))
    loss.backward()
    assert all(weight.grad.shape == weight.shape for weight in model.parameters())


def test_a_mask_of_the_labels_would_be_read_by_the_host():
    with pytest.raises((NotImplementedError, RuntimeError)):
        _on_meta(pack([EXAMPLES]))["labels"].ne(IGNORE_INDEX).nonzero()
    with pytest.raises((NotImplementedError, RuntimeError)):
        _on_meta(pack([EXAMPLES]))["cu_seq_lens_q"].tolist()


def test_our_varlen_arguments_are_those_of_this_pytorch():
    signature = inspect.signature(varlen.varlen_attn)
    keywords = attention._varlen_keywords()
    assert keywords["window_size"] == (-1, 0)
    signature.bind(*[None] * 7, scale=None, **keywords)


def test_queries_are_cast_to_the_values_dtype_and_fp32_to_bf16(monkeypatch):
    seen = []

    def record(query, key, value, *args, **settings):
        seen.append((query.dtype, key.dtype, value.dtype))
        return query

    monkeypatch.setattr(varlen, "varlen_attn", record)
    query = torch.randn(1, 4, 3, 8)
    for dtype in (torch.float16, torch.float32):
        value = torch.randn(1, 2, 3, 8, dtype=dtype)
        attention.attend_varlen(
            None, query, value, value, None, cu_seq_lens_q=torch.tensor([0, 3]), max_length_q=3
        )
    assert seen == [(torch.float16,) * 3, (torch.bfloat16,) * 3]


def _config(**settings):
    return SimpleNamespace(**({"hidden_size": 128, "num_attention_heads": 2} | settings))


@pytest.mark.parametrize(
    ("settings", "capability", "flash_attn", "expected"),
    [
        ({}, (9, 0), True, VARLEN),
        ({"head_dim": 192}, (8, 6), False, VARLEN),
        ({"head_dim": 256}, (9, 0), True, "flash_attention_2"),
        ({"head_dim": 100}, (9, 0), False, "flex_attention"),
        ({"head_dim": 64, "qk_head_dim": 192, "v_head_dim": 128}, (9, 0), False, "flex_attention"),
        ({"sliding_window": 512}, (9, 0), True, "flash_attention_2"),
        ({"attn_logit_softcapping": 50.0}, (8, 9), False, "flex_attention"),
        ({"attention_dropout": 0.1}, (9, 0), False, "flex_attention"),
        ({}, (7, 5), True, APART),
        ({"sliding_window": 512}, (7, 5), True, "sdpa"),
    ],
)
def test_the_first_attention_that_fits_is_taken_on_cuda(
    settings, capability, flash_attn, expected, monkeypatch
):
    monkeypatch.setattr(attention, "cuda_capability", lambda: capability)
    monkeypatch.setattr(attention, "flash_attn_installed", lambda: flash_attn)
    assert attention_name(_config(**settings), "cuda") == expected


def test_a_pytorch_without_varlen_takes_the_next(monkeypatch):
    monkeypatch.setattr(attention, "cuda_capability", lambda: (9, 0))
    monkeypatch.setattr(attention, "_varlen_keywords", lambda: None)
    monkeypatch.setattr(attention, "flash_attn_installed", lambda: False)
    assert attention_name(_config(), "cuda") == "flex_attention"


def test_on_a_cpu_examples_are_attended_one_by_one():
    assert attention_name(_config(), "cpu") == APART
    assert attention_name(_config(sliding_window=16), "cpu") == "sdpa"


@pytest.mark.parametrize(("device", "num_heads"), [("cpu", 2), ("meta", 6)])
def test_on_a_gpu_no_heads_are_grouped_where_the_kernel_would_store_all_scores(
    device, num_heads, monkeypatch
) -> None:
    """Which PyTorch does for grouped heads in fp32: on cards before Ampere."""
    functional, taken = torch.nn.functional, []
    attend = functional.scaled_dot_product_attention

    def record(query, key, value, **settings):
        taken.append((key.shape[1], value.shape[1]))
        return attend(query, key, value, **settings)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", record)
    query, key, value = (torch.randn(1, heads, 7, 8, device=device) for heads in (6, 2, 2))
    output, _ = attention.attend_apart(None, query, key, value, None, lengths=(4, 3))
    assert output.shape == (1, 7, 6, 8)
    assert taken == [(num_heads, num_heads)] * 2


def test_version_4_of_flash_attn_is_not_version_2(tmp_path, monkeypatch):
    """It has the module's name; transformers would refuse to load the model."""
    from transformers.utils import import_utils

    (tmp_path / "flash_attn" / "cute").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(import_utils, "is_torch_cuda_available", lambda: True)
    import_utils.is_flash_attn_2_available.cache_clear()
    try:
        assert not attention.flash_attn_installed()
    finally:
        import_utils.is_flash_attn_2_available.cache_clear()
