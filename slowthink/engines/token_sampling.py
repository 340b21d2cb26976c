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


_ROWS_AT_ONCE = 4
"""Rows that are sampled together on a CPU, so that their float64 copies stay in its cache."""
_LOGITS_AT_ONCE = 2**24
"""Logits that are sampled together on a GPU: top-p needs up to 53 bytes for each, so 0.9 GB."""


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
    """Sample one token per row. `triggers`: ids whose probability is returned (costs a softmax).

    Rows are computed on the logits' device, all with equal settings at once, and copied together.
    """
    import torch

    logits_BV = logits_BV.float()
    argmaxes_B = logits_BV.argmax(-1)
    tokens_B, triggers_B = argmaxes_B, torch.zeros_like(argmaxes_B, dtype=torch.float64)
    if triggers or any(draw.sampling.temperature or draw.banned for draw in draws):
        tokens_B = argmaxes_B.clone()
        for rows in _groups(draws, rows_at_once(logits_BV)):
            index = slice(None) if len(rows) == len(draws) else rows
            group = [draws[row] for row in rows]
            tokens_B[index], triggers_B[index] = _sample_group(
                logits_BV[index], argmaxes_B[index], group, sorted(triggers)
            )
    fields = torch.stack([tokens_B.double(), argmaxes_B.double(), triggers_B], 1).tolist()
    return [SampledToken(int(token), int(argmax), p) for token, argmax, p in fields]


def _groups(draws: Sequence[Draw], max_rows: int) -> list[list[int]]:
    """Rows with equal settings, at most `max_rows` together."""
    rows_of: dict[Sampling, list[int]] = {}
    for row, draw in enumerate(draws):
        rows_of.setdefault(draw.sampling, []).append(row)
    return [
        rows[start : start + max_rows]
        for rows in rows_of.values()
        for start in range(0, len(rows), max_rows)
    ]


def _sample_group(
    logits_BV: torch.Tensor, argmaxes_B: torch.Tensor, draws: Sequence[Draw],
    triggers: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Tokens (B,) of rows with equal settings, and the probability (B,) of the triggers: that of
    the softmax without temperature if the rows are greedy."""
    import torch

    sampling = draws[0].sampling
    triggers_B = torch.zeros_like(argmaxes_B, dtype=torch.float64)
    likeliest_B = argmaxes_B
    if any(draw.banned for draw in draws):
        likeliest_B = _ban(logits_BV, draws, float("-inf")).argmax(-1)
    if not sampling.temperature:
        if triggers:
            triggers_B = torch.softmax(logits_BV.double(), -1)[:, list(triggers)].sum(-1)
        return likeliest_B, triggers_B
    probabilities_BV = distribution(logits_BV, sampling)
    if triggers:
        triggers_B = probabilities_BV[:, list(triggers)].sum(-1)
    probabilities_BV = _ban(probabilities_BV, draws, 0.0)
    tokens_B, totals_B = _invert_cdf(probabilities_BV, [draw.uniform for draw in draws])
    # top-k, top-p or min-p may have left banned ids only
    return torch.where(totals_B > 0, tokens_B, likeliest_B), triggers_B


def _ban(values_BV: torch.Tensor, draws: Sequence[Draw], value: float) -> torch.Tensor:
    """The values, with those of each row's banned ids replaced."""
    banned = [(row, id) for row, draw in enumerate(draws) for id in draw.banned]
    if not banned:
        return values_BV
    rows, ids = map(list, zip(*banned, strict=True))
    values_BV = values_BV.clone()
    values_BV[rows, ids] = value
    return values_BV


def _invert_cdf(
    probabilities_BV: torch.Tensor, uniforms: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first id (B,) at which the cumulative probability exceeds `uniform` times the total; and
    the totals (B,)."""
    import torch

    sums_BV = probabilities_BV.cumsum(-1)
    totals_B1 = sums_BV[:, -1:]
    uniforms_B1 = torch.tensor(uniforms, dtype=torch.float64, device=sums_BV.device)[:, None]
    index_B1 = torch.searchsorted(sums_BV, uniforms_B1 * totals_B1, right=True)
    last_B1 = torch.searchsorted(sums_BV, totals_B1.contiguous())
    index_B1 = torch.minimum(index_B1, last_B1)
    is_possible_B1 = probabilities_BV.gather(1, index_B1) > 0  # false only through rounding
    return torch.where(is_possible_B1, index_B1, last_B1)[:, 0], totals_B1[:, 0]


def rows_at_once(logits_BV: torch.Tensor) -> int:
    """Number of rows to sample together on the logits' device."""
    if logits_BV.device.type == "cpu":
        return _ROWS_AT_ONCE
    return max(1, _LOGITS_AT_ONCE // logits_BV.shape[-1])


def distribution(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """P (…, V) in float64 of logits (…, V), after temperature, min-p, top-k and top-p; temperature
    must be above 0."""
    import torch

    from slowthink.engines.nucleus import keep_nucleus

    p = torch.softmax(logits.double() / sampling.temperature, -1)
    if sampling.min_p > 0:
        p.masked_fill_(p < sampling.min_p * p.amax(-1, keepdim=True), 0)
    if 0 < sampling.top_k < p.shape[-1]:
        p.masked_fill_(p < torch.topk(p, sampling.top_k).values[..., -1:], 0)
    if sampling.top_p < 1:
        top_p_R = torch.full_like(p[..., 0].reshape(-1), sampling.top_p)
        keep_nucleus(p.view(-1, p.shape[-1]), logits.float().reshape(-1, p.shape[-1]), top_p_R)
    return p / p.sum(-1, keepdim=True)
