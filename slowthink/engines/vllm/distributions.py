"""P of a batch of rows, and the ids that given numbers in [0, 1) select from it.

P is the distribution after temperature, min-p, top-k and top-p, in that order, in float64. It is
kept as weights that are not normalised; nothing is sorted and no value is read from the device.

Legend: R rows, V vocabulary, K the largest top-k, B bins or the weights of a block, N weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_BLOCK = 512
"""Weights that are summed at a time where an index is searched."""
_SMALL_VOCABULARY = 2**14
"""Up to it, bins for 16 bits would take longer than passes over the ids."""


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
        _keep_nucleus(weights_RV, logits_RV, sampling.top_p_R)
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


def _keep_nucleus(weights_RV: torch.Tensor, logits_RV: torch.Tensor, top_p_R: torch.Tensor) -> None:
    """Zero all but each row's smallest set of likeliest ids with top-p of the weight; of equal
    logits at its edge, the lowest ids are in it.

    A radix select by weight: a group of bits after the other, from the highest, the logit is found
    at which the weight of all higher ones exceeds top-p.
    """
    keys_RV = _descending_keys(logits_RV)
    target_R = (top_p_R * weights_RV.sum(-1)).clamp_(min=torch.finfo(torch.float64).tiny)
    rest_R1 = target_R.masked_fill_(top_p_R >= 1, float("inf"))[:, None]
    num_bits = 16 if logits_RV.shape[-1] > _SMALL_VOCABULARY else 8
    candidates_RV, edge_R1 = weights_RV, torch.zeros_like(keys_RV[:, :1])
    for shift in range(32 - num_bits, -1, -num_bits):
        bins_RV = (keys_RV >> shift) & ((1 << num_bits) - 1)
        weight_RB = _weight_by_bin(candidates_RV, bins_RV, num_bins=1 << num_bits)
        bin_R1, rest_R1 = locate(weight_RB, rest_R1)
        edge_R1 = edge_R1 | (bin_R1 << shift)
        if shift:
            candidates_RV = candidates_RV.masked_fill(bins_RV != bin_R1, 0)
    is_edge_RV = keys_RV == edge_R1
    num_equal_R1 = is_edge_RV.sum(-1, keepdim=True)
    num_kept_R1 = (rest_R1 / weight_RB.gather(1, bin_R1) * num_equal_R1).ceil_()
    last_R1, _ = locate(is_edge_RV.double(), num_kept_R1 - 0.5)
    ids_V = torch.arange(keys_RV.shape[-1], device=keys_RV.device)
    is_left_out_RV = is_edge_RV.logical_and_((ids_V > last_R1) | (num_kept_R1 < 1))
    weights_RV.masked_fill_(is_left_out_RV.logical_or_(keys_RV > edge_R1), 0)


def _weight_by_bin(
    weights_RV: torch.Tensor, bins_RV: torch.Tensor, *, num_bins: int
) -> torch.Tensor:
    """Total weight (R, B) of the ids in each bin."""
    return weights_RV.new_zeros(len(weights_RV), num_bins).scatter_add_(1, bins_RV, weights_RV)


def _descending_keys(logits_RV: torch.Tensor) -> torch.Tensor:
    """For each float32 an integer from 0 to 2**32 - 1, of its bits; lower for higher logits."""
    bits_RV = (logits_RV + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ascending_RV = bits_RV.bitwise_xor_((bits_RV >> 31).bitwise_and_(0x7FFFFFFF))
    return ascending_RV.long().neg_().add_(0x7FFFFFFF)


def locate(weights_RN: torch.Tensor, target_R1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first index (R, 1) at which each row's cumulative weight exceeds the target, or else the
    last that has a weight; and the target less the weight before the index."""
    R, N = weights_RN.shape
    if N <= 2 * _BLOCK:
        sums_RN = weights_RN.cumsum(-1)
        last_R1 = (sums_RN < sums_RN[:, -1:]).sum(-1, keepdim=True)
        index_R1 = torch.minimum((sums_RN <= target_R1).sum(-1, keepdim=True), last_R1)
        before_R1 = torch.nn.functional.pad(sums_RN, (1, 0)).gather(1, index_R1)
        return index_R1, target_R1 - before_R1
    if N % _BLOCK:
        weights_RN = torch.nn.functional.pad(weights_RN, (0, -N % _BLOCK))
    blocks_RNB = weights_RN.view(R, -1, _BLOCK)
    block_R1, rest_R1 = locate(blocks_RNB.sum(-1), target_R1)
    block_RB = blocks_RNB.gather(1, block_R1[:, :, None].expand(R, 1, _BLOCK))[:, 0]
    index_R1, rest_R1 = locate(block_RB, rest_R1)
    return block_R1 * _BLOCK + index_R1, rest_R1


def sample_ids(weights_RV: torch.Tensor, uniform_R: torch.Tensor) -> torch.Tensor:
    """The id at which each row's cumulative weight, in order of id, exceeds this share of all."""
    return locate(weights_RV, (uniform_R * weights_RV.sum(-1))[:, None])[0][:, 0]
