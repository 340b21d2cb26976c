"""Drawing tokens from logits: greedy, or sampled with a given number in [0, 1) per draw.

P is the distribution after temperature, min-p, top-k and top-p, in that order. Banned ids are
removed from P and the others renormalised, so refusing an end and drawing again is exactly s1's
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

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row is drawn."""

    sampling: Sampling
    uniform: float
    """Decides a sampled draw, in [0, 1)."""
    banned: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Drawn:
    """The token drawn for one row."""

    token: int
    argmax: int
    """The likeliest id, banned or not."""
    end_probability: float
    """P(any trigger), banned or not; 0 if no triggers were given."""


def draw(
    logits_BV: torch.Tensor, draws: Sequence[Draw], *, triggers: frozenset[int] = frozenset()
) -> list[Drawn]:
    """Draw one token per row. `triggers`: ids to return the probability of (costs a softmax)."""
    logits_BV = logits_BV.float()
    argmax = logits_BV.argmax(-1).tolist()
    ends = _end_probabilities(logits_BV, draws, triggers)
    tokens = [
        _draw_row(logits_BV[row], row_draw, argmax[row])
        if row_draw.sampling.temperature or row_draw.banned
        else argmax[row]
        for row, row_draw in enumerate(draws)
    ]
    return [Drawn(*row) for row in zip(tokens, argmax, ends, strict=True)]


def _draw_row(logits_V: torch.Tensor, draw: Draw, argmax: int) -> int:
    if draw.sampling.temperature == 0:
        return _argmax_without(logits_V, draw.banned) if argmax in draw.banned else argmax
    probabilities_V = distribution(logits_V, draw.sampling)
    if draw.banned:
        probabilities_V[list(draw.banned)] = 0
        if not float(probabilities_V.sum()):  # truncation left only ends
            return _argmax_without(logits_V, draw.banned)
    return _pick(probabilities_V, draw.uniform)


def _argmax_without(logits_V: torch.Tensor, banned: frozenset[int]) -> int:
    logits_V = logits_V.clone()
    logits_V[list(banned)] = _NEVER
    return int(logits_V.argmax())


def _pick(probabilities_V: torch.Tensor, uniform: float) -> int:
    """The id at which the cumulative sum, in order of id, exceeds `uniform` of the total."""
    import torch

    sums_V = probabilities_V.cumsum(-1)
    target = torch.tensor(uniform * float(sums_V[-1]), dtype=sums_V.dtype, device=sums_V.device)
    index = int(torch.searchsorted(sums_V, target, right=True))
    if index >= len(sums_V) or not float(probabilities_V[index]):
        index = int(probabilities_V.nonzero()[-1])  # rounding at the very end
    return index


def distribution(logits_V: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """P in float64, after temperature, min-p, top-k and top-p; temperature must be above 0."""
    import torch

    scaled_V = logits_V.double() / sampling.temperature
    probabilities_V = torch.softmax(scaled_V, -1)
    if sampling.min_p > 0:
        probabilities_V[probabilities_V < sampling.min_p * probabilities_V.max()] = 0
    if 0 < sampling.top_k < len(probabilities_V):
        least = torch.topk(probabilities_V, sampling.top_k).values[-1]
        probabilities_V[probabilities_V < least] = 0
    if sampling.top_p < 1:
        _keep_nucleus(probabilities_V, sampling.top_p)
    return probabilities_V / probabilities_V.sum()


def _keep_nucleus(probabilities_V: torch.Tensor, top_p: float) -> None:
    """Zero all but the smallest set of likeliest ids with `top_p` of the remaining mass."""
    sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
    sums_V = sorted_V.cumsum(-1) / sorted_V.sum()
    outside_V = sums_V - sorted_V / sorted_V.sum() >= top_p
    probabilities_V[order_V[outside_V]] = 0


def _end_probabilities(
    logits_BV: torch.Tensor, draws: Sequence[Draw], triggers: frozenset[int]
) -> list[float]:
    """P(any trigger) per row; by the plain softmax where the row is greedy."""
    import torch

    if not triggers:
        return [0.0] * len(draws)
    ids = sorted(triggers)
    plain = torch.softmax(logits_BV.double(), -1)[:, ids].sum(-1).tolist()
    return [
        float(distribution(logits_BV[row], row_draw.sampling)[ids].sum())
        if row_draw.sampling.temperature
        else plain[row]
        for row, row_draw in enumerate(draws)
    ]
