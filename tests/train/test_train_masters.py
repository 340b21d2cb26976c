"""AdamW on fp32 masters."""

from __future__ import annotations

import io

import pytest

torch = pytest.importorskip("torch")

from slowthink.stages.train import masters
from slowthink.stages.train.masters import MasterAdamW


def _weights_and_optimizer(dtype):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(5, 3).to(dtype)) for _ in range(3)]
    return weights, MasterAdamW([{"params": weights, "weight_decay": 0.1}], lr=1e-3)


def _train(weights, optimizer, seeds):
    for seed in seeds:
        torch.manual_seed(seed)
        for weight in weights:
            weight.grad = torch.randn(5, 3).to(weight.dtype)
        optimizer.step()
        optimizer.zero_grad()


def test_fp32_weights_are_updated_as_by_plain_adamw():
    weights, optimizer = _weights_and_optimizer(torch.float32)
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    _train(weights, optimizer, range(4))
    _train(copies, torch.optim.AdamW(copies, lr=1e-3, weight_decay=0.1, fused=True), range(4))
    for weight, copy in zip(weights, copies, strict=True):
        assert torch.equal(weight, copy)


def test_updates_below_bf16s_resolution_add_up():
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    optimizer = MasterAdamW([{"params": [weight]}], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert optimizer.masters[0].mean().item() == pytest.approx(0.99, abs=1e-4)
    assert weight.float().mean().item() == pytest.approx(0.99, abs=4e-3)


def test_a_restored_optimizer_continues_bit_for_bit():
    weights, optimizer = _weights_and_optimizer(torch.bfloat16)
    _train(weights, optimizer, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    _train(weights, optimizer, range(3, 6))
    new_weights, new_optimizer = _weights_and_optimizer(torch.bfloat16)
    new_optimizer.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    _train(new_weights, new_optimizer, range(3, 6))
    pairs = zip(optimizer.masters + weights, new_optimizer.masters + new_weights, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_promoted_weights_are_the_masters():
    weights, optimizer = _weights_and_optimizer(torch.bfloat16)
    _train(weights, optimizer, range(2))
    optimizer.promote(torch.nn.ParameterList(weights))
    assert all(weight.dtype is torch.float32 for weight in weights)
    assert torch.equal(weights[0], optimizer.masters[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_groups_of_weights_are_updated_as_each_weight_alone(dtype, monkeypatch):
    results = []
    for limit in (1, 30, 2**24):
        monkeypatch.setattr(masters, "NUMBERS_PER_GROUP", limit)
        weights, optimizer = _weights_and_optimizer(dtype)
        _train(weights, optimizer, range(3))
        assert [len(group) for group in optimizer._groups] == {1: [1] * 3, 30: [2, 1]}.get(
            limit, [3]
        )
        results.append(optimizer.masters + weights)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_a_weight_without_gradient_is_left_alone():
    weights, optimizer = _weights_and_optimizer(torch.bfloat16)
    before = [weight.detach().clone() for weight in weights]
    weights[1].grad = torch.ones_like(weights[1])
    optimizer.step()
    assert [torch.equal(a, b) for a, b in zip(weights, before, strict=True)] == [True, False, True]
    assert all(weight.grad is None for weight in (*weights, *optimizer.masters))
