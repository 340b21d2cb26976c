"""Drawing tokens from logits: greedy, or sampled with a given number in [0, 1) per draw.

P is the distribution after temperature, min-p, top-k and top-p, in that order. Banned ids are taken
out of P and the rest renormalised, so that refusing an end and drawing again is exactly s1's loop.

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
    """One row's draw."""

    sampling: Sampling
    uniform: float
    """Decides a sampled draw, in [0, 1)."""
    banned: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn for one row."""

    token: int
    argmax: int
    """The likeliest id, banned or not."""
    end_probability: float
    """P(any trigger), banned or not; 0 where it was not asked for."""


def draw(
    logits_BV: torch.Tensor, draws: Sequence[Draw], *, triggers: frozenset[int] = frozenset()
) -> list[Drawn]:
    """One token per row. `triggers`: ids whose probability is wanted (costs a softmax)."""
    logits_BV = logits_BV.float()
    argmax = logits_BV.argmax(-1).tolist()
    ends = _end_probabilities(logits_BV, draws, triggers)
    tokens = [
        _draw_one(logits_BV[row], one, argmax[row])
        if one.sampling.temperature or one.banned
        else argmax[row]
        for row, one in enumerate(draws)
    ]
    return [Drawn(*row) for row in zip(tokens, argmax, ends, strict=True)]


def _draw_one(logits_V: torch.Tensor, one: Draw, argmax: int) -> int:
    if one.sampling.temperature == 0:
        return _best_but(logits_V, one.banned) if argmax in one.banned else argmax
    probabilities_V = distribution(logits_V, one.sampling)
    if one.banned:
        probabilities_V[list(one.banned)] = 0
        if not float(probabilities_V.sum()):  # the truncation had left nothing but ends
            return _best_but(logits_V, one.banned)
    return _pick(probabilities_V, one.uniform)


def _best_but(logits_V: torch.Tensor, banned: frozenset[int]) -> int:
    logits_V = logits_V.clone()
    logits_V[list(banned)] = _NEVER
    return int(logits_V.argmax())


def _pick(probabilities_V: torch.Tensor, uniform: float) -> int:
    """The id at which the running sum, in order of id, passes `uniform` of the whole."""
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
    """Zero all but the smallest set of likeliest ids that holds `top_p` of what is left."""
    sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
    sums_V = sorted_V.cumsum(-1) / sorted_V.sum()
    outside_V = sums_V - sorted_V / sorted_V.sum() >= top_p
    probabilities_V[order_V[outside_V]] = 0


def _end_probabilities(
    logits_BV: torch.Tensor, draws: Sequence[Draw], triggers: frozenset[int]
) -> list[float]:
    """P(any trigger) per row: under greedy, of the plain softmax."""
    import torch

    if not triggers:
        return [0.0] * len(draws)
    ids = sorted(triggers)
    plain = torch.softmax(logits_BV.double(), -1)[:, ids].sum(-1).tolist()
    return [
        float(distribution(logits_BV[row], one.sampling)[ids].sum())
        if one.sampling.temperature
        else plain[row]
        for row, one in enumerate(draws)
    ]
