"""The ids that numbers select from a batch of rows, against a sort of each row in float64."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from slowthink.engines.vllm.distributions import SamplingTensors, locate, sample_ids, weights
from slowthink.records import Sampling

SAMPLINGS = [
    Sampling(temperature=0.7, top_p=0.95),
    Sampling(temperature=1.0),
    Sampling(temperature=1.3, top_p=0.5, min_p=0.02),
    Sampling(temperature=1.0, top_k=40, top_p=0.9),
    Sampling(temperature=0.6, top_k=5),
    Sampling(temperature=2.0, min_p=0.1),
    Sampling(temperature=1.0, top_p=1e-9),
]
EDGE = 1e-12
"""The ids may differ where a number is this near to a boundary between two of them."""


def tensors_of(samplings: list[Sampling]) -> SamplingTensors:
    def column(name: str, dtype=torch.float64):
        return torch.tensor([getattr(sampling, name) for sampling in samplings], dtype=dtype)

    return SamplingTensors(
        temperature_R=column("temperature"), top_p_R=column("top_p"), min_p_R=column("min_p"),
        top_k_R=column("top_k", torch.long), max_top_k=max(s.top_k for s in samplings),
        has_top_p=any(s.top_p < 1 for s in samplings), has_min_p=any(s.min_p > 0 for s in samplings),
    )  # fmt: skip


def by_sorting(logits_V, sampling: Sampling):
    """P by a stable sort, and how near top-p is to the weight of some set of likeliest ids."""
    p_V = torch.softmax(logits_V.double() / sampling.temperature, -1)
    p_V[p_V < sampling.min_p * p_V.max()] = 0
    if sampling.top_k:
        p_V[p_V < torch.topk(p_V, min(sampling.top_k, len(p_V))).values[-1]] = 0
    sorted_V, order_V = p_V.sort(descending=True, stable=True)
    before_V = sorted_V.cumsum(-1) / sorted_V.sum() - sorted_V / sorted_V.sum()
    distance = float((before_V - sampling.top_p).abs().min())
    if sampling.top_p < 1:
        p_V[order_V[before_V >= sampling.top_p]] = 0
    return p_V / p_V.sum(), distance


def count_differences(logits_BV, samplings: list[Sampling], uniforms) -> int:
    """Number of ids that differ from those by sorting; each must lie at a boundary."""
    ids = [
        sample_ids(weights(logits_BV.float(), tensors_of(samplings)), uniforms[:, draw]).tolist()
        for draw in range(uniforms.shape[1])
    ]
    num_different = 0
    for row, sampling in enumerate(samplings):
        p_V, edge_distance = by_sorting(logits_BV[row].float(), sampling)
        sums_V = p_V.cumsum(-1)
        for draw in range(uniforms.shape[1]):
            target = float(uniforms[row, draw]) * float(sums_V[-1])
            expected = int(torch.searchsorted(sums_V, target, right=True))
            if ids[draw][row] != expected:
                num_different += 1
                distance = float((sums_V - target).abs().min())
                assert min(distance, edge_distance) < EDGE, (row, sampling)
    return num_different


def make_logits(kind: str, rows: int, vocabulary: int):
    scale = {"flat": 1e-3, "random": 1.0, "peaked": 6.0, "ties": 2.0}[kind]
    logits_BV = scale * torch.randn(rows, vocabulary)
    return logits_BV.round() / 2 if kind == "ties" else logits_BV


def check_all(vocabulary: int, rows: int, draws: int) -> int:
    torch.manual_seed(vocabulary)
    num_different = 0
    kinds = ("flat", "random", "peaked", "ties")
    for kind, dtype in itertools.product(kinds, (torch.float32, torch.bfloat16)):
        logits_BV = make_logits(kind, rows, vocabulary).to(dtype)
        samplings = [SAMPLINGS[row % len(SAMPLINGS)] for row in range(rows)]
        uniforms = torch.rand(rows, draws, dtype=torch.float64)
        num_different += count_differences(logits_BV, samplings, uniforms)
    return num_different


@pytest.mark.parametrize(("vocabulary", "rows"), [(12, 28), (1500, 14)])
def test_the_ids_are_those_of_a_sort(vocabulary, rows) -> None:
    assert check_all(vocabulary, rows, draws=10) == 0


@pytest.mark.slow
def test_the_ids_are_those_of_a_sort_of_a_large_vocabulary() -> None:
    num_different = check_all(151_936, 7, draws=20)
    print(f"{num_different} of {8 * 7 * 20} ids differ")
    assert num_different == 0


def test_equal_logits_at_the_edge_are_kept_from_the_lowest_id() -> None:
    logits_BV = torch.tensor([[1.0, 3.0, 1.0, 1.0, -0.0, 0.0]])
    p_V = torch.softmax(logits_BV[0].double(), -1)
    top_p = float(p_V[1] + 1.5 * p_V[0])
    kept = weights(logits_BV, tensors_of([Sampling(temperature=1.0, top_p=top_p)])) > 0
    assert kept.tolist() == [[True, True, True, False, False, False]]


def test_no_row_is_left_without_an_id() -> None:
    logits_BV = torch.tensor([[0.0, 2.0, float("-inf")]])
    for top_p in (0.0, 1e-300, 1.0):
        row = weights(logits_BV, tensors_of([Sampling(temperature=1.0, top_p=top_p)]))
        assert sample_ids(row, torch.tensor([0.0], dtype=torch.float64)).item() == (top_p < 1)
        assert sample_ids(row, torch.tensor([1.0 - 1e-16], dtype=torch.float64)).item() == 1


@pytest.mark.parametrize("size", [3, 1024, 1025, 70_000])
def test_the_index_is_that_of_the_cumulative_sum(size) -> None:
    torch.manual_seed(size)
    integers_RN = torch.randint(0, 3, (50, size)).double()  # their sums are exact
    sums_RN = integers_RN.cumsum(-1)
    target_R1 = (torch.rand(50, 1, dtype=torch.float64) * sums_RN[:, -1:]).floor()
    index_R1, rest_R1 = locate(integers_RN, target_R1)
    expected_R1 = torch.searchsorted(sums_RN, target_R1, right=True)
    before_R1 = torch.nn.functional.pad(sums_RN, (1, 0)).gather(1, expected_R1)
    assert torch.equal(index_R1, expected_R1)
    assert torch.equal(rest_R1, target_R1 - before_R1)
