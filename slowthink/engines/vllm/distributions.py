"""P of a batch of rows, and the ids that given numbers in [0, 1) select from it.

P is the distribution after temperature, min-p, top-k and top-p, in that order, in float64. It is
kept as weights that are not normalised; no value is read from the device.

Legend: R rows, V vocabulary, K the largest top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from slowthink.engines.nucleus import keep_nucleus, locate


@dataclass(frozen=True, kw_only=True)
class SamplingTensors:
    """Sampling settings of the rows."""

    temperature_R: torch.Tensor
    top_p_R: torch.Tensor
    top_k_R: torch.Tensor
    min_p_R: torch.Tensor
    max_top_k: int
    """0: no row has a top-k."""
    has_top_p: bool
    has_min_p: bool


def weights(logits_RV: torch.Tensor, sampling: SamplingTensors) -> torch.Tensor:
    """P of each row, not normalised: float64; 1 for the likeliest id, 0 for ids left out.

    The logits must be float32.
    """
    max_R1 = logits_RV.amax(-1, keepdim=True).double()
    weights_RV = logits_RV.double().sub_(max_R1).div_(sampling.temperature_R[:, None]).exp_()
    if sampling.has_min_p:
        weights_RV.masked_fill_(weights_RV < sampling.min_p_R[:, None], 0)
    if sampling.max_top_k:
        _keep_top_k(weights_RV, logits_RV, sampling)
    if sampling.has_top_p:
        keep_nucleus(weights_RV, logits_RV, sampling.top_p_R)
    return weights_RV


def _keep_top_k(
    weights_RV: torch.Tensor, logits_RV: torch.Tensor, sampling: SamplingTensors
) -> None:
    """Zero all but the ids with the k highest logits, and those equal to the last of them."""
    V = logits_RV.shape[-1]
    top_RK = torch.topk(logits_RV, min(sampling.max_top_k, V)).values
    last_R1 = (sampling.top_k_R - 1).clamp(0, top_RK.shape[-1] - 1)[:, None]
    is_off_R1 = ((sampling.top_k_R <= 0) | (sampling.top_k_R >= V))[:, None]
    min_R1 = top_RK.gather(1, last_R1).masked_fill(is_off_R1, float("-inf"))
    weights_RV.masked_fill_(logits_RV < min_R1, 0)


def sample_ids(weights_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """The id at which each row's cumulative weight, in order of id, exceeds this share of all."""
    return locate(weights_RV, (uniform_R * weights_RV.sum(-1))[:, None])[0][:, 0]
