"""Draws: greedy, truncated, banned; sampled ones have the right distribution."""

from __future__ import annotations

import math
from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from slowthink.engines import nucleus
from slowthink.engines.session import draw_uniform
from slowthink.engines.token_sampling import Draw, distribution, rows_at_once, sample_tokens
from slowthink.records import Sampling

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -9.0])


def chi_square(counts: Counter[int], expected: dict[int, float]) -> float:
    return sum((counts[i] - e) ** 2 / e for i, e in expected.items())


def brute(logits: list[float], sampling: Sampling) -> list[float]:
    """The definition of P, in plain Python."""
    weights = [math.exp(x / sampling.temperature) for x in logits]
    p = [w / sum(weights) for w in weights]
    p = [x if x >= sampling.min_p * max(p) else 0.0 for x in p]
    if sampling.top_k:
        kept = sorted(range(len(p)), key=lambda i: -p[i])[: sampling.top_k]
        p = [x if i in kept else 0.0 for i, x in enumerate(p)]
    total, seen, kept = sum(p), 0.0, []
    for i in sorted(range(len(p)), key=lambda i: -p[i]):
        if seen / total < sampling.top_p:
            kept.append(i)
        seen += p[i]
    p = [x if i in kept else 0.0 for i, x in enumerate(p)]
    return [x / sum(p) for x in p]


SAMPLINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.7, top_p=0.9),
    Sampling(temperature=1.5, top_k=3),
    Sampling(temperature=1.0, min_p=0.2),
    Sampling(temperature=0.8, top_p=0.8, top_k=4, min_p=0.05),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_distribution_equals_its_definition(sampling) -> None:
    p = distribution(LOGITS, sampling).tolist()
    assert p == pytest.approx(brute(LOGITS.tolist(), sampling), abs=1e-6)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("banned", [frozenset(), frozenset({0})])
def test_draws_follow_the_distribution_without_the_banned(sampling, banned) -> None:
    p = brute(LOGITS.tolist(), sampling)
    rest = {i: x for i, x in enumerate(p) if i not in banned and x}
    n = 1000
    draws = [Draw(sampling, (i + 0.5) / n, banned) for i in range(n)]
    counts = Counter(drawn.token for drawn in sample_tokens(LOGITS.expand(n, -1), draws))
    expected = {i: n * x / sum(rest.values()) for i, x in rest.items()}
    assert set(counts) <= set(expected)
    assert chi_square(counts, expected) < 1.0  # evenly spaced numbers: far below chance


def test_the_numbers_that_decide_draws_are_uniform_and_differ_by_position() -> None:
    numbers = [draw_uniform(3, 0, position, 0) for position in range(4000)]
    counts = Counter(int(10 * u) for u in numbers)
    assert len(set(numbers)) == 4000
    assert chi_square(counts, dict.fromkeys(range(10), 400.0)) < 27.9  # p = 0.001, 9 degrees
    assert draw_uniform(3, 0, 5, 0) != draw_uniform(3, 0, 5, 1)


def test_greedy_takes_the_best_that_is_not_banned() -> None:
    rows = sample_tokens(
        LOGITS.expand(2, -1), [Draw(Sampling(), 0.0), Draw(Sampling(), 0.0, frozenset({0, 1}))]
    )
    assert [drawn.token for drawn in rows] == [0, 2]
    assert [drawn.argmax for drawn in rows] == [0, 0]


def test_where_only_ends_are_left_the_best_other_token_is_drawn() -> None:
    (drawn,) = sample_tokens(
        LOGITS[None], [Draw(Sampling(temperature=1.0, top_k=1), 0.3, frozenset({0}))]
    )
    assert drawn.token == 1


def test_end_probability_is_that_of_the_triggers() -> None:
    drawn = sample_tokens(LOGITS[None], [Draw(Sampling(), 0.0)], triggers=frozenset({1, 2}))[0]
    p = torch.softmax(LOGITS, -1)
    assert drawn.trigger_probability == pytest.approx(float(p[1] + p[2]))


def test_rows_sampled_together_are_those_sampled_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(40, 3000)
    draws = [
        Draw([Sampling(), *SAMPLINGS][row % 6], row / 40, frozenset({row} if row % 4 else {}))
        for row in range(40)
    ]
    together = sample_tokens(logits, draws, triggers=frozenset({7, 8}))
    for row, draw in enumerate(draws):
        (alone,) = sample_tokens(logits[row : row + 1], [draw], triggers=frozenset({7, 8}))
        assert together[row] == alone
        assert alone.token not in draw.banned


@pytest.mark.parametrize("num_ids", [10, 5000])
def test_of_equally_likely_ids_the_first_are_the_nucleus(num_ids) -> None:
    """5,000: more than are sorted first."""
    logits = torch.zeros(num_ids)
    logits[-1] = 1.0
    p = distribution(logits, Sampling(temperature=1.0, top_p=0.5))
    rest = math.e + num_ids - 1
    num_kept = math.ceil(0.5 * rest - math.e)
    assert p[:num_kept].gt(0).all() and p[-1] > 0
    assert not p[num_kept:-1].any()


def test_the_nucleus_does_not_depend_on_the_order_in_which_weights_are_added() -> None:
    """In which a GPU's atomic additions are by chance: ranks that share a model must agree."""
    torch.manual_seed(0)
    weights = torch.softmax(3 * torch.randn(8, 5000).double(), -1)
    shares = nucleus._integer_shares(weights)
    assert shares.sum(-1).max() < 2**53
    assert torch.allclose(shares / shares.sum(-1, keepdim=True), weights, rtol=0, atol=1e-14)
    orders = [torch.randperm(5000) for _ in range(5)]
    for values, num_sums in ((shares, 1), (weights, 5)):
        sums = {tuple(values[:, order].cumsum(-1)[:, -1].tolist()) for order in orders}
        assert len(sums) == num_sums


def test_a_row_that_keeps_all_ids_does_not_slow_the_others_down() -> None:
    """They are decided by the likeliest ids alone, which top-p 1 would exceed."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(3, 5000, generator=generator)
    weights = torch.softmax(logits.double(), -1)
    top_p, kept = torch.tensor([0.9, 1.0, 0.5]), weights.clone()
    assert nucleus._keep_among_likeliest(kept, top_p[:, None])
    by_row = weights.clone()
    for row in range(3):
        nucleus.keep_nucleus(by_row[row, None], logits[row, None], top_p[row, None])
    assert kept.equal(by_row)
    assert kept[1].equal(weights[1])
    by_radix = weights.clone()
    nucleus._keep_by_radix(by_radix, logits, top_p[:, None])
    assert kept.equal(by_radix)


@pytest.mark.parametrize(("device", "vocabulary", "expected"), [
    ("cpu", 49_152, 4), ("meta", 151_936, 110), ("meta", 32_000, 524), ("meta", 2**25, 1),
])  # fmt: skip
def test_rows_sampled_together_take_a_bounded_share_of_a_gpu(device, vocabulary, expected) -> None:
    """256 rows of Qwen's 151,936 ids with top-p would take 2 GB beside a cache that fills it."""
    assert rows_at_once(torch.empty(1, vocabulary, device=device)) == expected
