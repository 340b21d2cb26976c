"""Samples tokens from logits: greedily, or by a given uniform number in [0, 1) per row.

P is the distribution after temperature, min-p, top-k and top-p, in that order. Banned ids are
removed from P and the others renormalised, so that sampling again after a refused end equals s1's
loop.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slowthink.records import Sampling

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Draw:
    """How the token of one row is sampled."""

    sampling: Sampling
    uniform: float
    """Number in [0, 1) that decides the token; not used at temperature 0."""
    banned: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token of one row."""

    token: int
    argmax: int
    """The most likely id, banned or not."""
    trigger_probability: float
    """P(any trigger), banned or not; 0 if no triggers were given."""


def sample_tokens(
    logits_BV: torch.Tensor, draws: Sequence[Draw], *, triggers: frozenset[int] = frozenset()
) -> list[SampledToken]:
    """Sample one token per row. `triggers`: ids whose probability is returned (costs a softmax)."""
    logits_BV = logits_BV.float()
    argmaxes = logits_BV.argmax(-1).tolist()
    probabilities = _trigger_probabilities(logits_BV, draws, triggers)
    tokens = [
        _sample_token(logits_BV[row], draw, argmaxes[row])
        if draw.sampling.temperature or draw.banned
        else argmaxes[row]
        for row, draw in enumerate(draws)
    ]
    return [SampledToken(*fields) for fields in zip(tokens, argmaxes, probabilities, strict=True)]


def _sample_token(logits_V: torch.Tensor, draw: Draw, argmax: int) -> int:
    if draw.sampling.temperature == 0:
        return _argmax_without(logits_V, draw.banned) if argmax in draw.banned else argmax
    probabilities_V = distribution(logits_V, draw.sampling)
    if draw.banned:
        probabilities_V[list(draw.banned)] = 0
        if not float(probabilities_V.sum()):  # top-k, top-p or min-p left banned ids only
            return _argmax_without(logits_V, draw.banned)
    return _invert_cdf(probabilities_V, draw.uniform)


def _argmax_without(logits_V: torch.Tensor, banned: frozenset[int]) -> int:
    logits_V = logits_V.clone()
    logits_V[list(banned)] = float("-inf")
    return int(logits_V.argmax())


def _invert_cdf(probabilities_V: torch.Tensor, uniform: float) -> int:
    """The first id at which the cumulative probability exceeds `uniform` times the total."""
    import torch

    sums_V = probabilities_V.cumsum(-1)
    target = torch.tensor(uniform * float(sums_V[-1]), dtype=sums_V.dtype, device=sums_V.device)
    index = int(torch.searchsorted(sums_V, target, right=True))
    if index >= len(sums_V) or not float(probabilities_V[index]):
        index = int(probabilities_V.nonzero()[-1])  # only through rounding
    return index


def distribution(logits_V: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """P in float64, after temperature, min-p, top-k and top-p; temperature must be above 0."""
    import torch

    scaled_V = logits_V.double() / sampling.temperature
    probabilities_V = torch.softmax(scaled_V, -1)
    if sampling.min_p > 0:
        probabilities_V[probabilities_V < sampling.min_p * probabilities_V.max()] = 0
    if 0 < sampling.top_k < len(probabilities_V):
        smallest = torch.topk(probabilities_V, sampling.top_k).values[-1]
        probabilities_V[probabilities_V < smallest] = 0
    if sampling.top_p < 1:
        _keep_nucleus(probabilities_V, sampling.top_p)
    return probabilities_V / probabilities_V.sum()


def _keep_nucleus(probabilities_V: torch.Tensor, top_p: float) -> None:
    """Zero all but the smallest set of most likely ids that has `top_p` of the probability."""
    sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
    sums_V = sorted_V.cumsum(-1) / sorted_V.sum()
    outside_V = sums_V - sorted_V / sorted_V.sum() >= top_p
    probabilities_V[order_V[outside_V]] = 0


def _trigger_probabilities(
    logits_BV: torch.Tensor, draws: Sequence[Draw], triggers: frozenset[int]
) -> list[float]:
    """P(any trigger) per row; of the softmax without temperature if the row is greedy."""
    import torch

    if not triggers:
        return [0.0] * len(draws)
    ids = sorted(triggers)
    greedy = torch.softmax(logits_BV.double(), -1)[:, ids].sum(-1).tolist()
    return [
        float(distribution(logits_BV[row], draw.sampling)[ids].sum())
        if draw.sampling.temperature
        else greedy[row]
        for row, draw in enumerate(draws)
    ]
